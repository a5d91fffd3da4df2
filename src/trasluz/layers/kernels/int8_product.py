"""Eight-bit rows times rows of floats: int8_product.cpp says what is computed, and this file knows its layout."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from trasluz.layers.kernels import load_kernels

# Outputs of a block, and inputs of an output that lie side by side.
_BLOCK, _QUAD = 32, 4
_PADDED_INPUTS = 8


class CompiledProduct(nn.Module):
    """x W^T + b by the compiled kernel; W has eight bits and one scale an output."""

    def __init__(
        self,
        rounded: Int8[Tensor, "outputs inputs"],
        scale: Float[Tensor, " outputs"],
        bias: Float[Tensor, " outputs"] | None,
    ) -> None:
        super().__init__()
        self.outputs, self.inputs = rounded.shape
        kernels = load_kernels()
        assert kernels is not None
        self.levels: int = kernels.trasluz_int8_levels()
        self.scale = scale
        missing = -self.outputs % _BLOCK
        padded = nn.functional.pad(rounded, (0, -self.inputs % _PADDED_INPUTS, 0, missing))
        self.depth = padded.shape[1]
        blocks = padded.view(-1, _BLOCK, self.depth // _QUAD, _QUAD)
        self._packed = blocks.transpose(1, 2).contiguous()
        self._offset = padded.sum(1, dtype=torch.int32).mul_(-self.levels)
        self._scale = nn.functional.pad(scale, (0, missing))
        self._bias = torch.zeros_like(self._scale) if bias is None else nn.functional.pad(bias.detach(), (0, missing))

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the kernel reads: packed weights, offsets, scales and biases, padded to whole blocks of outputs."""
        return self._packed, self._offset, self._scale, self._bias

    def forward(self, x: Float[Tensor, "*positions inputs"]) -> Float[Tensor, "*positions outputs"]:
        """Return the product."""
        kernels = load_kernels()
        assert kernels is not None and x.dtype == torch.float32
        x = x.contiguous()
        y = x.new_empty(*x.shape[:-1], self.outputs)
        if rows := x.numel() // self.inputs:
            kernels.trasluz_int8_product(
                *(x.data_ptr(), rows, self.inputs, self.depth),
                *(part.data_ptr() for part in self.parts),
                *(self.outputs, y.data_ptr(), torch.get_num_threads()),
            )
        return y

    def rows(self) -> Float[Tensor, "outputs inputs"]:
        """Return the matrix in float32, to within the rounding."""
        rounded = self._packed.transpose(1, 2).reshape(-1, self.depth)[: self.outputs, : self.inputs]
        return rounded * self.scale[:, None]
