"""Eight-bit rows times rows of floats: int8_product.cpp says what is computed, and this file knows its layout."""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor, nn

from trasluz.devices import memory_for_weights
from trasluz.layers.kernels import load_kernels

# Outputs of a block, and inputs of an output that lie side by side.
BLOCK, _QUAD = 32, 4
PADDED_INPUTS = 8


class CompiledProduct(nn.Module):
    """x W^T + b by the compiled kernel; W has eight bits and one scale an output.

    W comes in `pieces`, rounded rows and their scales, each of whole blocks but the last: beside what is packed here,
    it need nowhere be whole.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        pieces: Iterable[tuple[Int8[Tensor, "some inputs"], Float[Tensor, " some"]]],
        bias: Float[Tensor, " outputs"] | None,
    ) -> None:
        super().__init__()
        self.outputs, self.inputs = shape
        kernels = load_kernels()
        assert kernels is not None
        self.levels: int = kernels.trasluz_int8_levels()
        self.depth = self.inputs + -self.inputs % PADDED_INPUTS
        blocks = -(-self.outputs // BLOCK)
        self._packed = memory_for_weights((blocks, self.depth // _QUAD, BLOCK, _QUAD), torch.int8)
        self._offset = torch.zeros(blocks * BLOCK, dtype=torch.int32)
        self._scale, self._bias = (torch.zeros(blocks * BLOCK, dtype=torch.float32) for _ in range(2))
        if bias is not None:
            self._bias[: self.outputs] = bias.detach()
        begin = 0
        for rounded, scale in pieces:
            end = begin + len(rounded)
            assert begin % BLOCK == 0
            padded = nn.functional.pad(rounded, (0, self.depth - self.inputs, 0, -len(rounded) % BLOCK))
            into = self._packed[begin // BLOCK : -(-end // BLOCK)]
            into.copy_(padded.view(len(into), BLOCK, -1, _QUAD).transpose(1, 2))
            self._offset[begin:end] = rounded.sum(1, dtype=torch.int32).mul_(-self.levels)
            self._scale[begin:end] = scale
            begin = end
        assert begin == self.outputs

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the kernel reads: packed weights, offsets, scales and biases, padded to whole blocks of outputs."""
        return self._packed, self._offset, self._scale, self._bias

    def forward(self, x: Float[Tensor, "*positions inputs"]) -> Float[Tensor, "*positions outputs"]:
        """Return the product."""
        kernels = load_kernels()
        assert kernels is not None and x.dtype == torch.float32 and x.shape[-1] == self.inputs
        x = x.contiguous()
        y = x.new_empty(*x.shape[:-1], self.outputs)
        if rows := x.numel() // self.inputs:
            kernels.trasluz_int8_product(
                *(x.data_ptr(), rows, self.inputs, self.depth),
                *(part.data_ptr() for part in self.parts),
                *(self.outputs, y.data_ptr(), torch.get_num_threads()),
            )
        return y

    def looked_up(self, ids: Int[Tensor, "*positions"], by: float = 1.0) -> Float[Tensor, "*positions inputs"]:
        """Return rows of the matrix times `by`; IndexError for one that there is not."""
        kernels = load_kernels()
        assert kernels is not None and ids.is_cpu
        ids = ids.long().contiguous()
        found = torch.empty((*ids.shape, self.inputs), dtype=torch.float32, device="cpu")
        if not kernels.trasluz_int8_look_up(
            *(self._packed.data_ptr(), self._scale.data_ptr(), self.outputs, self.inputs, self.depth),
            *(ids.data_ptr(), ids.numel(), by, found.data_ptr(), torch.get_num_threads()),
        ):
            raise IndexError(f"ids must be from 0 to {self.outputs - 1}, and are {int(ids.min())} to {int(ids.max())}.")
        return found

    def rows(self) -> Float[Tensor, "outputs inputs"]:
        """Return the matrix in float32, to within the rounding."""
        rounded = self._packed.transpose(1, 2).reshape(-1, self.depth)[: self.outputs, : self.inputs]
        return rounded * self._scale[: self.outputs, None]
