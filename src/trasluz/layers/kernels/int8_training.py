"""Products of many rows with weights rounded anew: int8_training.cpp says what is computed."""

import torch
from jaxtyping import Float
from torch import Tensor

from trasluz.layers.kernels import call_kernel, load_kernels
from trasluz.layers.kernels.int8_product import BLOCK, PADDED_INPUTS

_VNNI_LEVELS = 127


def rounds_rows() -> bool:
    """Tell whether the kernel is there, on a processor that adds products of eight bits in 32 (AVX512-VNNI)."""
    kernels = load_kernels()
    return kernels is not None and kernels.trasluz_int8_levels() == _VNNI_LEVELS


class RoundedWeight:
    """A matrix W, float32, as it lies or turned, rounded and packed: for products with it, one or many."""

    def __init__(self, weight: Float[Tensor, "outputs inputs"]) -> None:
        self.outputs, self.inputs = weight.shape
        turned = weight.stride(0) == 1 and not weight.is_contiguous()
        if not turned:
            weight = weight.contiguous()
        self._depth = self.inputs + -self.inputs % PADDED_INPUTS
        places = self.outputs + -self.outputs % BLOCK
        self._packed = torch.empty(places * self._depth, dtype=torch.int8, device="cpu")
        self._offset = torch.empty(places, dtype=torch.int32, device="cpu")
        self._scale = torch.empty(places, dtype=torch.float32, device="cpu")
        kernels = load_kernels()
        assert kernels is not None
        kernels.trasluz_int8_pack(
            *(weight.data_ptr(), self.outputs, self.inputs, self._depth, turned),
            *(one.data_ptr() for one in (self._packed, self._offset, self._scale)),
            torch.get_num_threads(),
        )

    def product(
        self, x: Float[Tensor, "rows inputs"], bias: Float[Tensor, " outputs"] | None = None
    ) -> Float[Tensor, "rows outputs"]:
        """Return x W^T + b in the type of x, float32 or bfloat16."""
        added = torch.zeros_like(self._scale)
        if bias is not None:
            added[: self.outputs] = bias
        x, y = x.contiguous(), x.new_empty(len(x), self.outputs)
        if len(x):
            call_kernel(
                *("trasluz_int8_rows", x, len(x), self.inputs, self._depth),
                *(self._packed, self._offset, self._scale, added, self.outputs, y),
                is_bfloat=x.dtype == torch.bfloat16,
            )
        return y


def int8_rows(
    x: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """Return x W^T + b in the type of x, float32 or bfloat16; W is float32, as it lies or turned."""
    return RoundedWeight(weight).product(x, bias)
