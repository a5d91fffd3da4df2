"""The door to the compiled kernel for eight-bit products: there where a compiler was at hand at installation, else not.

What it computes stands in int8_kernel.cpp; `hatch_build.py` compiles it. Nothing else knows of its memory layout.
"""

import ctypes
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

LIBRARY = Path(__file__).with_name("_int8_kernel.so")
_VERSION = 1
# Outputs of a block, and inputs of an output that lie side by side.
_BLOCK, _QUAD = 32, 4
_PADDED_INPUTS = 8


@cache
def load_kernel() -> ctypes.CDLL | None:
    """Return the kernel's library; None where it was not built, is of another version, or does not run here."""
    try:
        for runtime in _thread_libraries():
            # The kernel's threads are torch's: two pools on the same cores would wait for each other.
            ctypes.CDLL(runtime, ctypes.RTLD_GLOBAL)
        library = ctypes.CDLL(str(LIBRARY))
        if library.trasluz_int8_version() != _VERSION or not library.trasluz_int8_levels():
            return None
    except (OSError, AttributeError):
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.trasluz_int8_product.restype = None
    library.trasluz_int8_product.argtypes = [
        *(pointer, size, size, size),
        *(pointer, pointer, pointer, pointer),
        *(size, pointer, ctypes.c_int),
    ]
    return library


def _thread_libraries() -> list[str]:
    """Return the OpenMP runtime that torch has brought into this process."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    return sorted({path for line in maps if "libgomp" in (path := line.split()[-1])})


class CompiledProduct(nn.Module):
    """x W^T + b by the compiled kernel; W has eight bits and one scale an output."""

    def __init__(
        self,
        library: ctypes.CDLL,
        rounded: Int8[Tensor, "outputs inputs"],
        scale: Float[Tensor, " outputs"],
        bias: Float[Tensor, " outputs"] | None,
    ) -> None:
        super().__init__()
        self.outputs, self.inputs = rounded.shape
        self.levels: int = library.trasluz_int8_levels()
        self._multiply = library.trasluz_int8_product
        self.scale = scale
        missing = -self.outputs % _BLOCK
        padded = nn.functional.pad(rounded, (0, -self.inputs % _PADDED_INPUTS, 0, missing))
        self._depth = padded.shape[1]
        blocks = padded.view(-1, _BLOCK, self._depth // _QUAD, _QUAD)
        self._packed = blocks.transpose(1, 2).contiguous()
        self._offset = padded.sum(1, dtype=torch.int32).mul_(-self.levels)
        self._scale = nn.functional.pad(scale, (0, missing))
        self._bias = torch.zeros_like(self._scale) if bias is None else nn.functional.pad(bias.detach(), (0, missing))

    def forward(self, x: Float[Tensor, "*positions inputs"]) -> Float[Tensor, "*positions outputs"]:
        """Return the product."""
        x = x.contiguous()
        y = x.new_empty(*x.shape[:-1], self.outputs)
        if rows := x.numel() // self.inputs:
            self._multiply(
                *(x.data_ptr(), rows, self.inputs, self._depth),
                *(self._packed.data_ptr(), self._offset.data_ptr(), self._scale.data_ptr(), self._bias.data_ptr()),
                *(self.outputs, y.data_ptr(), torch.get_num_threads()),
            )
        return y

    def rows(self) -> Float[Tensor, "outputs inputs"]:
        """Return the matrix in float32, to within the rounding."""
        rounded = self._packed.transpose(1, 2).reshape(-1, self._depth)[: self.outputs, : self.inputs]
        return rounded * self.scale[:, None]
