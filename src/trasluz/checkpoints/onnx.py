"""ONNX files of a model that decodes: the two halves of the `Stepper` as graphs, for ONNX Runtime and its like.

    encoder.onnx         source, source_lengths -> state               `start`, of one row a source
    decoder_step.onnx    ids, state -> logits, next state              `step`
    config.json          ids of special tokens and tags, and the names of the state's tensors

The state is every tensor that the model's own state holds, named by its place there (`caches.0.key`). What is held once
a source stays as the encoder gave it; what is carried from step to step comes back as `next.` and its name. Rows are
hypotheses: as many a source as whoever searches likes, those of one source side by side, so a beam repeats and
reorders the carried tensors and leaves the rest. Beside these files stands what `export_folder` writes.
"""

import contextlib
import copy
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from trasluz.checkpoints.export_folder import (
    forbidden_ids,
    most_target_tokens,
    new_folder,
    paragraphs,
    tag_notes,
    write_companions,
)
from trasluz.checkpoints.model_folder import CONFIG, LoadedModel, language_tags
from trasluz.checkpoints.onnx_layers import PositionTable, to_onnx_layers
from trasluz.checkpoints.state_parts import parts_of, with_parts
from trasluz.checkpoints.tokenizer_code import tokenizer_code
from trasluz.errors import RequestError

OPSET = 20

_NEXT = "next."
_PACKAGES = ("onnx", "onnxscript")

# Two examples of unlike sizes: an axis that differs between them may have any size, and its size in the first names it.
_EXAMPLES: tuple[dict[str, int], ...] = (
    {"sources": 2, "rows": 6, "source": 5, "past": 3, "past + 1": 4},
    {"sources": 3, "rows": 12, "source": 4, "past": 1, "past + 1": 2},
)


@dataclass(frozen=True)
class _Form:
    """What is known of a tensor: names of the axes that may have any size, sizes of the others, and its type."""

    axes: tuple[str | int, ...]
    kind: str


class _Encoder(nn.Module):
    """`start` with one row a source; the state as a row of tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(
        self, source: Int[Tensor, "sources source"], source_lengths: Int[Tensor, " sources"]
    ) -> tuple[Tensor, ...]:
        return tuple(parts_of(self.model.start(source, source_lengths, 1, 0)).values())


class _DecoderStep(nn.Module):
    """`step`; the state before, and what it carries on, as rows of tensors."""

    def __init__(self, model: nn.Module, state: Any, carried: Sequence[str]) -> None:
        super().__init__()
        self.model: Any = model
        self.state, self.carried = state, tuple(carried)

    def forward(self, ids: Int[Tensor, " rows"], parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        logits, state = self.model.step(ids, with_parts(self.state, parts))
        after = parts_of(state)
        return logits, *(after[name] for name in self.carried)


@dataclass(frozen=True)
class _Graph:
    """What a file is drawn from: a module, example arguments, and inputs and outputs by name."""

    module: nn.Module
    arguments: tuple[Any, ...]
    inputs: dict[str, _Form]
    outputs: dict[str, _Form]


@dataclass(frozen=True)
class _Run:
    """One example run through a model."""

    source: Tensor
    source_lengths: Tensor
    first: dict[str, Tensor]
    ids: Tensor
    state: Any
    logits: Tensor
    after: dict[str, Tensor]


def write_onnx(folder: str | Path, loaded: LoadedModel) -> None:
    """Write a model as a new folder of ONNX files, weights in fp32; over 2 GB they lie in a file beside each.

    Raises RequestError where `folder` holds something.
    """
    _check_packages()
    model = to_onnx_layers(copy.deepcopy(loaded.model)).eval()
    with torch.no_grad(), new_folder(folder) as place:
        encoder, step = _graphs(model)
        _draw(encoder, place / "encoder.onnx")
        _draw(step, place / "decoder_step.onnx")
        config = json.dumps(_config(loaded, step), ensure_ascii=False, indent=2)
        (place / CONFIG).write_text(config + "\n", encoding="utf-8")
        write_companions(place, loaded, "ONNX", _about(loaded, encoder, step))


def _check_packages() -> None:
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise RequestError(
                f"the format onnx is written with the package {package}, which is not installed: "
                "pip install 'trasluz[onnx]'."
            )


def _run(model: Any, sizes: Mapping[str, int]) -> _Run:
    source = torch.zeros(sizes["sources"], sizes["source"], dtype=torch.int64)
    lengths = torch.arange(sizes["sources"]) + 2
    ids = torch.zeros(sizes["rows"], dtype=torch.int64)
    state = model.start(source, lengths, sizes["rows"] // sizes["sources"], 0)
    first = parts_of(model.start(source, lengths, 1, 0))
    for _ in range(sizes["past"]):
        _, state = model.step(ids, with_parts(state, parts_of(state).values()))
    logits, after = model.step(ids, with_parts(state, parts_of(state).values()))
    return _Run(source, lengths, first, ids, state, logits, parts_of(after))


def _graphs(model: Any) -> tuple[_Graph, _Graph]:
    """Return encoder and step."""
    one, other = (_run(model, sizes) for sizes in _EXAMPLES)
    before = _forms(parts_of(one.state), parts_of(other.state))
    carried = [name for name, form in before.items() if form.axes[0] == "rows"]
    after = _forms(one.after, other.after)
    texts = {"source": (one.source, other.source), "source_lengths": (one.source_lengths, other.source_lengths)}
    encoder = _Graph(
        _Encoder(model),
        (one.source, one.source_lengths),
        {name: _form(*both) for name, both in texts.items()},
        _forms(one.first, other.first),
    )
    step = _Graph(
        _DecoderStep(model, one.state, carried),
        (one.ids, tuple(parts_of(one.state).values())),
        {"ids": _form(one.ids, other.ids), **before},
        {"logits": _form(one.logits, other.logits), **{_NEXT + name: after[name] for name in carried}},
    )
    return encoder, step


def _forms(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, _Form]:
    return {name: _form(tensor, other[name]) for name, tensor in one.items()}


def _form(one: Tensor, other: Tensor) -> _Form:
    names = {size: name for name, size in _EXAMPLES[0].items()}
    sizes = zip(one.shape, other.shape, strict=True)
    axes = tuple(size if size == another else names[size] for size, another in sizes)
    return _Form(axes, str(one.dtype).removeprefix("torch."))


def _draw(graph: _Graph, path: Path) -> None:
    """Write one graph to a file."""
    names = iter(
        {place: axis for place, axis in enumerate(form.axes) if isinstance(axis, str)} for form in graph.inputs.values()
    )
    dynamic_shapes = tuple(
        next(names) if isinstance(argument, Tensor) else tuple(next(names) for _ in argument)
        for argument in graph.arguments
    )
    with _quiet():
        program = torch.onnx.export(
            graph.module,
            graph.arguments,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        # Where in which file each node comes from: of no use to others, and longer than the graph.
        node.metadata_props.clear()
    program.save(path, external_data=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The exporter warns of axes that several inputs share, which is meant, and of packages that nothing here needs.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _config(loaded: LoadedModel, step: _Graph) -> dict[str, Any]:
    """Return what a search must know; ids are those of the target where nothing else is said."""
    config, tags, most = loaded.config, language_tags(loaded), most_target_tokens(loaded)
    return {
        "model": loaded.name,
        "languages": list(loaded.languages),
        "source_tags": {language: loaded.source_tokenizer.id_of(tag) for language, tag in tags.items()},
        "start_id": config.start_id,
        "eos_id": config.eos_id,
        "pad_id": config.pad_id,
        "forbidden_ids": forbidden_ids(loaded),
        "max_length": min(most, _num_positions(step) or most),
        "held": [name for name in step.inputs if name != "ids" and _NEXT + name not in step.outputs],
        "carried": [name for name in step.inputs if _NEXT + name in step.outputs],
        "opset": OPSET,
    }


def _about(loaded: LoadedModel, encoder: _Graph, step: _Graph) -> str:
    longest = _num_positions(step)
    limit = "" if longest is None else f" Neither a text nor its translation may have more than {longest:,} tokens."
    code = tokenizer_code(loaded, ids=True)
    tags = list(language_tags(loaded))
    parameter, tag = (f', to="{tags[0]}"', 'config["source_tags"][to], ') if tags else ("", "")
    program = f"""\
import json

import numpy
import onnxruntime
{code.importing}

{code.opening}config = json.load(open("config.json", encoding="utf-8"))
encoder, step = (onnxruntime.InferenceSession(f"{{name}}.onnx") for name in ("encoder", "decoder_step"))
state_names = [output.name for output in encoder.get_outputs()]


{code.functions}

def translate(text{parameter}):
    ids = [{tag}*cut(text), config["eos_id"]]
    found = encoder.run(None, {{"source": numpy.array([ids]), "source_lengths": numpy.array([len(ids)])}})
    state, written = dict(zip(state_names, found)), [config["start_id"]]
    while len(written) < min(3 * len(ids) + 10, config["max_length"]):
        logits, *carried = step.run(None, {{"ids": numpy.array(written[-1:]), **state}})
        logits[:, config["forbidden_ids"]] = -numpy.inf
        written.append(int(logits[0].argmax()))
        if written[-1] == config["eos_id"]:
            break
        state |= dict(zip(config["carried"], carried))
    return join([token for token in written[1:] if token != config["eos_id"]])
"""
    return paragraphs(
        f"To run it, `pip install onnxruntime {code.package}` and, in this folder (one text, greedily):",
        f"```python\n{program}```",
        f"{tag_notes(loaded)} A text ends with `eos_id`.{limit}",
        f"`encoder.onnx`, once (operator set {OPSET}):",
        _table(encoder),
        "`decoder_step.onnx`, once a token:",
        _table(step),
        "`sources` are sentences, `rows` hypotheses: as many a source as you like, those of one source side by side. "
        "For a beam of four, repeat each row of the tensors that config.json lists as `carried` four times, and after "
        "every step put the rows of the hypotheses that go on in their order. Those listed as `held` stay as the "
        "encoder gave them, once a source. Padding behind a source may be any id: `source_lengths` hides it.",
    )


def _num_positions(graph: _Graph) -> int | None:
    """Return how many positions a model knows; None where it counts none."""
    tables = [part.get_buffer("table") for part in graph.module.modules() if isinstance(part, PositionTable)]
    return min(map(len, tables), default=None)


def _table(graph: _Graph) -> str:
    rows = ["| | name | axes | type |", "|---|---|---|---|"]
    for side, forms in (("in", graph.inputs), ("out", graph.outputs)):
        for name, form in forms.items():
            rows.append(f"| {side} | `{name}` | {', '.join(map(str, form.axes))} | {form.kind} |")
    return "\n".join(rows)
