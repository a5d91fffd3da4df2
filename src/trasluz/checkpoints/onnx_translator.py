"""ONNX files of a model that translates.

    encoder.onnx         source, source_lengths -> state               `start`, of one row a source
    decoder_step.onnx    ids, state -> logits, next state              `step`
    config.json          ids of special tokens and tags, and the names of the state's tensors

What a state is says `onnx_decoding.py`.
"""

from typing import Any

from trasluz.checkpoints.export_folder import (
    most_target_tokens,
    no_repeat_ngram,
    paragraphs,
    tag_notes,
)
from trasluz.checkpoints.generation_settings import forbidden_ids
from trasluz.checkpoints.model_folder import LoadedModel, language_tags
from trasluz.checkpoints.onnx_decoding import Examples, decoding_graphs, num_positions, parts_of_step
from trasluz.checkpoints.onnx_files import OnnxFiles
from trasluz.checkpoints.onnx_graph import OPSET, Graph, table
from trasluz.checkpoints.tokenizer_code import tokenizer_code

_EXAMPLES = Examples(
    sizes=(
        {"sources": 2, "rows": 6, "source": 5, "past": 3, "past + 1": 4},
        {"sources": 3, "rows": 12, "source": 4},
    ),
    steps=(3, 1),
    equally_long=False,
)


def translator_files(loaded: LoadedModel) -> OnnxFiles:
    """Return the graphs of a model that translates, and what is said of them; its layers can be drawn already."""
    encoder, step = decoding_graphs(loaded.model, _EXAMPLES)
    return OnnxFiles({"encoder": encoder, "decoder_step": step}, _config(loaded, step), _about(loaded, encoder, step))


def _config(loaded: LoadedModel, step: Graph) -> dict[str, Any]:
    """Return what a search must know; ids are those of the target where nothing else is said."""
    held, carried = parts_of_step(step)
    config, tags, most = loaded.config, language_tags(loaded), most_target_tokens(loaded)
    return {
        "model": loaded.name,
        "languages": list(loaded.languages),
        "source_tags": {language: loaded.source_tokenizer.id_of(tag) for language, tag in tags.items()},
        "start_id": config.start_id,
        "eos_id": config.eos_id,
        "pad_id": config.pad_id,
        "forbidden_ids": list(forbidden_ids(loaded.generation)),
        "max_length": min(most, num_positions(step) or most),
        "held": held,
        "carried": carried,
    }


def _about(loaded: LoadedModel, encoder: Graph, step: Graph) -> str:
    longest = num_positions(step)
    limit = "" if longest is None else f" Neither a text nor its translation may have more than {longest:,} tokens."
    code = tokenizer_code(loaded, ids=True)
    tags = list(language_tags(loaded))
    parameter, tag = (f', to="{tags[0]}"', 'config["source_tags"][to], ') if tags else ("", "")
    size, forbidden, repeats = no_repeat_ngram(loaded), 'config["forbidden_ids"]', ""
    if size:
        forbidden += " + repeats"
        repeats = f"""\
        last, places = written[len(written) - {size - 1} :], range({size}, len(written))
        repeats = [written[place] for place in places if written[place - {size - 1} : place] == last]
"""
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
{repeats}        logits[:, {forbidden}] = -numpy.inf
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
        table(encoder),
        "`decoder_step.onnx`, once a token:",
        table(step),
        "`sources` are sentences, `rows` hypotheses: as many a source as you like, those of one source side by side. "
        "For a beam of four, repeat each row of the tensors that config.json lists as `carried` four times, and after "
        "every step put the rows of the hypotheses that go on in their order. Those listed as `held` stay as the "
        "encoder gave them, once a source. Padding behind a source may be any id: `source_lengths` hides it.",
    )
