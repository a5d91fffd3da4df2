"""One ONNX file of an encoder: texts as ids go in, what its task asks for comes out.

    fill-mask    places -> logits of the words at these places
    classify     logits of each text's labels
    tag          logits of each token's labels
    answer       at each token, the logits of being an answer's first and its last
    embed        vectors, pooled and scaled as the model's folder says, and all states

Texts have padding behind them, which `lengths` hides.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trasluz.checkpoints.encoder_programs import program_for
from trasluz.checkpoints.export_folder import paragraphs
from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.checkpoints.onnx_files import OnnxFiles
from trasluz.checkpoints.onnx_graph import OPSET, Graph, forms, table
from trasluz.checkpoints.sentence_vectors import Pooling
from trasluz.errors import RequestError
from trasluz.layers.pooling import pool
from trasluz.text.batching import TextBatch
from trasluz.text.encoder_template import Keep

_SIZES = ({"texts": 2, "length": 5, "places": 3}, {"texts": 3, "length": 4, "places": 1})

_CUT_AT: dict[Keep, str] = {
    "start": "end",
    "end": "beginning",
    "ends": "end, where trasluz leaves out its middle; leave it out yourself for the same result",
}
_INPUTS = {
    "ids": "the tokens, special ones included; behind a text, any padding",
    "lengths": "how many of them each text has",
    "segments": "0 for the tokens of a text, and 1 for those of the second text of a pair",
    "places": "where the words are to be guessed: row of the text times `length`, plus the position in it",
}


class _Network(nn.Module):
    """The encoder and what stands on it; tensors in a row, in the order of the names."""

    def __init__(self, loaded: LoadedModel, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model: Any = loaded.model
        self.names, self.task, self.pooling = names, loaded.task, loaded.pooling or Pooling()

    def forward(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self.answer(dict(zip(self.names, tensors, strict=True))).values())

    def answer(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what comes out, by name."""
        ids, lengths = given["ids"], given["lengths"]
        segments = given.get("segments")
        hidden = self.model(TextBatch(ids, lengths, torch.zeros_like(ids) if segments is None else segments))
        if self.task == "embed":
            vectors = pool(hidden, lengths, self.pooling.kind)
            if self.pooling.normalized:
                vectors = nn.functional.normalize(vectors)
            return {"vectors": vectors, "states": hidden}
        if self.task == "fill-mask":
            hidden = hidden.flatten(0, 1)[given["places"]]
        return {"logits": self.model.heads[self.task](hidden)}


def encoder_files(loaded: LoadedModel) -> OnnxFiles:
    """Return the graph of an encoder with the head of its task, and what is said of it.

    Its layers can be drawn already. Raises RequestError where it has no such head.
    """
    heads = loaded.config.heads
    if getattr(loaded.config, "attention", "full") != "full":
        raise RequestError(
            f"{loaded.name} has block-sparse attention, for which no graph can be drawn; a copy with `attention: full` "
            "in its config can be exported."
        )
    if loaded.task != "embed" and loaded.task not in heads:
        there = f"it has {', '.join(heads)}" if heads else "it has none"
        raise RequestError(f"{loaded.name} has no head for the task {loaded.task!r}; {there}.")
    graph = _graph(loaded)
    return OnnxFiles({"model": graph}, _config(loaded), _about(loaded, graph))


def _graph(loaded: LoadedModel) -> Graph:
    one, other = (_example(loaded, sizes) for sizes in _SIZES)
    network = _Network(loaded, tuple(one))
    inputs = forms(_SIZES[0], one, other)
    return Graph(network, (tuple(one.values()),), inputs, forms(_SIZES[0], network.answer(one), network.answer(other)))


def _example(loaded: LoadedModel, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    texts, length = sizes["texts"], sizes["length"]
    found = {"ids": torch.zeros(texts, length, dtype=torch.int64), "lengths": torch.arange(texts) + 2}
    if loaded.config.num_segments > 1:
        found["segments"] = torch.zeros_like(found["ids"])
    if loaded.task == "fill-mask":
        found["places"] = torch.arange(sizes["places"])
    return found


def _config(loaded: LoadedModel) -> dict[str, Any]:
    """Return what a program must know."""
    config, tokenizer, pooling = loaded.config, loaded.source_tokenizer, loaded.pooling or Pooling()
    longest = loaded.longest_text
    found = {"model": loaded.name, "task": loaded.task, "pad_id": config.pad_id}
    match loaded.task:
        case "embed":
            longest = min(longest, pooling.max_tokens or longest)
            found |= {"dim": config.model_dim, "pooling": pooling.kind, "normalized": pooling.normalized}
        case "fill-mask":
            found |= {"mask_id": tokenizer.mask_id}
        case "classify":
            found |= {"labels": config.labels, "label_kind": config.label_kind}
        case "tag":
            found |= {"labels": config.labels}
    return {**found, "max_length": longest}


def _about(loaded: LoadedModel, graph: Graph) -> str:
    inputs = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in _INPUTS.items() if name in graph.inputs)
    program, answer = program_for(loaded)
    return paragraphs(
        "To run it, `pip install onnxruntime tokenizers` and, in this folder:",
        f"```python\n{program}```",
        answer,
        f"A text of more than {_config(loaded)['max_length']:,} tokens, special ones included, is cut at its "
        f"{_CUT_AT[loaded.source_tokenizer.keep]}.",
        f"`model.onnx` (operator set {OPSET}):",
        table(graph),
        f"| input | what it says |\n|---|---|\n{inputs}",
    )
