"""A folder that CTranslate2 loads: our Transformers for an engine that needs no PyTorch.

    model.bin           the weights, under CTranslate2's names
    config.json         the tokens that begin and end a text
    ...vocabulary.json  the token of every id

What a translator is there says `ctranslate2_translator.py`, a model that continues texts `ctranslate2_generator.py`.
Beside these files stands what `export_folder` writes.
"""

from pathlib import Path

import torch

from trasluz.checkpoints.ctranslate2_generator import about_generator, check_generator, generator_specification
from trasluz.checkpoints.ctranslate2_translator import about_translator, check_translator, translator_specification
from trasluz.checkpoints.export_folder import new_folder, write_companions
from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.checkpoints.weights import model_tensors
from trasluz.errors import ModelError, RequestError

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "int8": "int8"}

_KINDS = {
    "translate": (check_translator, translator_specification, about_translator),
    "generate": (check_generator, generator_specification, about_generator),
}


def write_ctranslate2(folder: str | Path, loaded: LoadedModel, dtype: str = "fp32") -> None:
    """Write a model as a new folder for CTranslate2; its weights are stored as fp32, fp16, bf16 or int8.

    Raises RequestError where `folder` holds something, and ModelError for a model that CTranslate2 has no place for.
    """
    if dtype not in DTYPES:
        raise RequestError(f"weights cannot be stored as {dtype!r}; say {', '.join(DTYPES)}.")
    if loaded.task not in _KINDS:
        raise ModelError(
            f"{loaded.name} is for the task {loaded.task!r}; models that translate or continue texts can be written "
            "for CTranslate2. Encoders go to onnx."
        )
    check, specify, tell = _KINDS[loaded.task]
    check(loaded)
    _check_range(loaded, dtype)
    try:
        import ctranslate2.specs  # noqa: F401
    except ImportError:
        raise RequestError(
            "the format ctranslate2 is written by the package ctranslate2, which is not installed: "
            "pip install 'trasluz[ctranslate2]'."
        ) from None
    with new_folder(folder) as place:
        specification = specify(loaded)
        specification.validate()
        specification.optimize(DTYPES[dtype])
        specification.save(str(place))
        write_companions(place, loaded, "CTranslate2", tell(loaded))


def _check_range(loaded: LoadedModel, dtype: str) -> None:
    if dtype == "fp16":
        for name, tensor in model_tensors(loaded.model).items():
            if float(tensor.abs().max()) > torch.finfo(torch.float16).max:
                raise ModelError(f"{name} holds numbers too large for fp16; store the weights as bf16 or fp32.")
