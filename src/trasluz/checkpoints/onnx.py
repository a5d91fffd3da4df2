"""A folder of ONNX files, for ONNX Runtime and its like: the graphs of a model and all that is needed to run them.

    translate    encoder.onnx and decoder_step.onnx     `onnx_translator.py`
    generate     prompt.onnx and decoder_step.onnx      `onnx_generator.py`
    others       model.onnx                             `onnx_encoder.py`

Beside them stand config.json, with what a program must know of the model, and what `export_folder` writes.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from trasluz.checkpoints.export_folder import new_folder, write_companions
from trasluz.checkpoints.model_folder import CONFIG, LoadedModel
from trasluz.checkpoints.onnx_encoder import encoder_files
from trasluz.checkpoints.onnx_files import OnnxFiles
from trasluz.checkpoints.onnx_generator import generator_files
from trasluz.checkpoints.onnx_graph import OPSET, check_packages, draw
from trasluz.checkpoints.onnx_layers import to_onnx_layers
from trasluz.checkpoints.onnx_translator import translator_files

_FILES: dict[str, Callable[[LoadedModel], OnnxFiles]] = {"translate": translator_files, "generate": generator_files}


def write_onnx(folder: str | Path, loaded: LoadedModel) -> None:
    """Write a model as a new folder of ONNX files, weights in fp32; over 2 GB they lie in a file beside each.

    Raises RequestError where `folder` holds something, and for an encoder without the head that its task needs.
    """
    check_packages()
    loaded = replace(loaded, model=to_onnx_layers(copy.deepcopy(loaded.model)).eval())
    with torch.no_grad(), new_folder(folder) as place:
        files = _FILES.get(loaded.task, encoder_files)(loaded)
        for name, graph in files.graphs.items():
            draw(graph, place / f"{name}.onnx")
        config = json.dumps({**files.config, "opset": OPSET}, ensure_ascii=False, indent=2)
        (place / CONFIG).write_text(config + "\n", encoding="utf-8")
        write_companions(place, loaded, "ONNX", files.about)
