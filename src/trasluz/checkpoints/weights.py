"""Weights on disk: safetensors, whole or in shards; nothing else is read, and no pickle ever."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from trasluz.errors import ModelError
from trasluz.files import atomic_write

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_OTHERS = ("tf_model.h5", "flax_model.msgpack", "*.npz", "*.onnx")


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return what a checkpoint holds of a model: parameters and saved buffers by name, each tied one once."""
    own = dict(model.named_parameters())
    copies = {name for name, _ in model.named_parameters(remove_duplicate=False)} - own.keys()
    return {name: tensor.detach() for name, tensor in model.state_dict().items() if name not in copies}


def write_weights(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> None:
    """Write tensors to a safetensors file, floating ones as `dtype`; atomically."""
    stored = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in tensors.items()
    }
    for name, tensor in stored.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(
                f"{name} holds numbers that {str(dtype).removeprefix('torch.')} cannot: infinite, or no number at all. "
                "Write it as fp32, or look at how it was trained."
            )
    with atomic_write(path) as file:
        file.write(save(stored, metadata={"format": "pt"}))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of a model folder, floating ones as fp32, on the CPU.

    Raises ModelError where the file is missing, broken, in another format, or a pickle.
    """
    whole, index = folder / WEIGHTS, folder / INDEX
    if whole.is_file():
        return _read_file(whole)
    if not index.is_file():
        raise _no_weights(folder)
    tensors: dict[str, Tensor] = {}
    places = _read_index(index)
    for shard in sorted(set(places.values())):
        path = folder / shard
        if Path(shard).name != shard or not path.is_file():
            raise ModelError(f"{index} names the shard {shard!r}, which is no file in {folder}: download it again.")
        tensors |= _read_file(path)
    for name in places:
        if name not in tensors:
            raise ModelError(f"{index} promises {name} in {places[name]}, but it is not there: download both again.")
    return tensors


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(os.fspath(path), framework="pt", device="cpu") as file:
            return {name: _in_fp32(file.get_tensor(name)) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is no whole safetensors file ({error}): it may be cut short or damaged. Get it again."
        ) from None


def _in_fp32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _read_index(path: Path) -> dict[str, str]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(shard) for name, shard in content["weight_map"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is no index of shards that can be read: {error!r}.") from None


def hub_class(folder: Path) -> str:
    """Return the class that a config.json names for its model, or the library's word for any class."""
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    except (OSError, ValueError, LookupError, TypeError):
        named = None
    return named if isinstance(named, str) else "AutoModel"


def _no_weights(folder: Path) -> ModelError:
    for pattern in _PICKLES:
        for found in sorted(folder.glob(pattern)):
            return ModelError(
                f"{folder} has its weights only as {found.name}, a pickle, which can run any program when it is read; "
                f"trasluz reads {WEIGHTS} only. Where you trust the file, convert it once with the `transformers` "
                f'library: {hub_class(folder)}.from_pretrained("{folder}").save_pretrained("{folder}").'
            )
    for pattern in _OTHERS:
        for found in sorted(folder.glob(pattern)):
            return ModelError(f"{folder} has its weights only as {found.name}; trasluz reads {WEIGHTS} only.")
    return ModelError(f"{folder} has no weights: {WEIGHTS} (or {INDEX} and its shards) is missing.")
