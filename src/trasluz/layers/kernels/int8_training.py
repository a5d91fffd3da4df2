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


def int8_rows(
    x: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
) -> Float[Tensor, "rows outputs"]:
    """Return x W^T + b in the type of x, float32 or bfloat16; W is float32, as it lies or turned."""
    (rows, inputs), outputs = x.shape, len(weight)
    turned = weight.stride(0) == 1 and not weight.is_contiguous()
    if not turned:
        weight = weight.contiguous()
    depth, places = inputs + -inputs % PADDED_INPUTS, outputs + -outputs % BLOCK
    packed = torch.empty(places * depth, dtype=torch.int8, device="cpu")
    offset = torch.empty(places, dtype=torch.int32, device="cpu")
    scale = torch.empty(places, dtype=torch.float32, device="cpu")
    kernels = load_kernels()
    assert kernels is not None
    kernels.trasluz_int8_pack(
        *(weight.data_ptr(), outputs, inputs, depth, turned),
        *(packed.data_ptr(), offset.data_ptr(), scale.data_ptr(), torch.get_num_threads()),
    )
    added = torch.zeros(places, dtype=torch.float32, device="cpu")
    if bias is not None:
        added[:outputs] = bias
    x, y = x.contiguous(), x.new_empty(rows, outputs)
    if rows:
        call_kernel(
            *("trasluz_int8_rows", x, rows, inputs, depth, packed, offset, scale, added, outputs, y),
            is_bfloat=x.dtype == torch.bfloat16,
        )
    return y
