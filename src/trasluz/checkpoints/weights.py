"""Weights on disk: safetensors, whole or in shards; nothing else is read, and no pickle ever."""

import json
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
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

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
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


@dataclass
class StoredWeights:
    """Tensors as they lie in files, in the types they have there: in memory is only what was looked at.

    They are for reading and for copying; whoever keeps one keeps its file.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    files: list[mmap.mmap] = field(default_factory=list)

    def let_go(self) -> None:
        """Give back the memory of all that was looked at; whoever looks again reads again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for file in self.files:
                file.madvise(mmap.MADV_DONTNEED)


def read_weights(folder: Path) -> StoredWeights:
    """Return every tensor of a model folder.

    Raises ModelError where the file is missing, broken, in another format, or a pickle.
    """
    whole, index = folder / WEIGHTS, folder / INDEX
    found = StoredWeights()
    if whole.is_file():
        _open_file(whole, found)
        return found
    if not index.is_file():
        raise _no_weights(folder)
    places = _read_index(index)
    for shard in sorted(set(places.values())):
        path = folder / shard
        if Path(shard).name != shard or not path.is_file():
            raise ModelError(f"{index} names the shard {shard!r}, which is no file in {folder}: download it again.")
        _open_file(path, found)
    for name in places:
        if name not in found.tensors:
            raise ModelError(f"{index} promises {name} in {places[name]}, but it is not there: download both again.")
    return found


def _open_file(path: Path, found: StoredWeights) -> None:
    """Add the tensors of a file to those that were found."""
    try:
        with safe_open(os.fspath(path), framework="pt", device="cpu"):
            # Whether the file is whole and its header right is the library's to say; but what it reads of a file stays
            # in memory as long as any tensor of the file does.
            pass
        with path.open("rb") as file:
            # Changes would stay with this process, but none are made.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is no whole safetensors file ({error}): it may be cut short or damaged. Get it again."
        ) from None
    size = int.from_bytes(mapped[:8], "little")
    header: dict[str, Any] = json.loads(mapped[8 : 8 + size])
    header.pop("__metadata__", None)
    for name, entry in header.items():
        if entry["dtype"] not in _DTYPES:
            raise ModelError(f"{path}: {name} is of type {entry['dtype']}; known are {', '.join(_DTYPES)}.")
        dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
        count, first = math.prod(shape), 8 + size + entry["data_offsets"][0]
        values = torch.frombuffer(mapped, dtype=dtype, count=count, offset=first) if count else torch.empty(0).to(dtype)
        found.tensors[name] = values.view(shape)
    found.files.append(mapped)


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
