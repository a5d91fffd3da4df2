"""ONNX files of a model that continues texts.

    prompt.onnx          source -> state                       `start`, of prompts that are equally long
    decoder_step.onnx    ids, state -> logits, next state      `step`

A prompt is read all but its last token, which is the first that a step takes: so a prompt of one token needs no
reading, and its state is empty. What a state is says `onnx_decoding.py`.
"""

from typing import Any

from trasluz.checkpoints.export_folder import paragraphs
from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.checkpoints.onnx_decoding import Examples, decoding_graphs, parts_of_step
from trasluz.checkpoints.onnx_files import OnnxFiles
from trasluz.checkpoints.onnx_graph import OPSET, Graph, table

_EXAMPLES = Examples(
    sizes=(
        {"sources": 2, "rows": 6, "source": 5, "source - 1": 4, "past": 7, "past + 1": 8},
        {"sources": 3, "rows": 12, "source": 4},
    ),
    steps=(3, 1),
    equally_long=True,
)

_PROGRAM = """\
import json

import numpy
import onnxruntime
from tokenizers import Tokenizer

config = json.load(open("config.json", encoding="utf-8"))
prompt, step = (onnxruntime.InferenceSession(f"{name}.onnx") for name in ("prompt", "decoder_step"))
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.encode_special_tokens = True  # whatever a text says, it stays text


def read(ids):
    if len(ids) > 1:
        return dict(zip(config["carried"], prompt.run(config["carried"], {"source": numpy.array([ids])})))
    empty = numpy.zeros((1, config["num_heads"], 0, config["head_dim"]), numpy.float32)
    return dict.fromkeys(config["carried"], empty)


def generate(text, max_tokens=40):
    ids = tokenizer.encode(text, add_special_tokens=False).ids or [config["eos_id"]]
    if len(ids) > config["max_length"]:
        raise ValueError(f"the text has {len(ids)} tokens, more than the model reads")
    state, written = read(ids), []
    while len(written) < max_tokens and len(ids) + len(written) <= config["max_length"]:
        last = [*ids, *written][-1:]
        logits, *carried = step.run(None, {"ids": numpy.array(last), **state})
        token = int(logits[0].argmax())
        if token == config["eos_id"]:
            break
        written.append(token)
        state = dict(zip(config["carried"], carried))
    return tokenizer.decode(written)
"""


def generator_files(loaded: LoadedModel) -> OnnxFiles:
    """Return the graphs of a model that continues texts, and what is said of them; its layers can be drawn already."""
    prompt, step = decoding_graphs(loaded.model, _EXAMPLES)
    _, carried = parts_of_step(step)
    config = loaded.config
    told: dict[str, Any] = {
        "model": loaded.name,
        "eos_id": config.eos_id,
        "max_length": config.max_positions,
        "carried": carried,
        # Of those that remember, where heads share what is remembered.
        "num_heads": getattr(config, "num_memory_heads", config.num_heads),
        "head_dim": config.model_dim // config.num_heads,
    }
    return OnnxFiles({"prompt": prompt, "decoder_step": step}, told, _about(prompt, step, config.max_positions))


def _about(prompt: Graph, step: Graph, longest: int) -> str:
    return paragraphs(
        "To run it, `pip install onnxruntime tokenizers` and, in this folder (one text, greedily):",
        f"```python\n{_PROGRAM}```",
        f"A prompt and what follows it have at most {longest:,} tokens.",
        f"`prompt.onnx`, once (operator set {OPSET}); a prompt of one token needs it not, and its state is empty:",
        table(prompt),
        "`decoder_step.onnx`, once a token; the first that it takes is the prompt's last:",
        table(step),
        "`sources` are prompts of one length, `rows` hypotheses: for a beam of four, repeat each row of all tensors of "
        "the state four times, and after each step put the rows that go on in their order.",
    )
