"""The sum of many rows, in float32; what is computed stands in column_sums.cpp."""

import torch
from jaxtyping import Float
from torch import Tensor

from trasluz.layers.kernels import training_kernels_for


def column_sums(x: Float[Tensor, "places dim"]) -> Float[Tensor, " dim"]:
    """Return the sum over the places."""
    kernels = training_kernels_for(x)
    if kernels is None:
        return x.sum(0, dtype=torch.float32 if x.dtype == torch.bfloat16 else None)
    x = x.contiguous()
    rows, dim = x.shape
    sums = x.new_zeros((kernels.trasluz_row_parts(rows), dim), dtype=torch.float32)
    kernels.trasluz_column_sums(
        *(x.data_ptr(), rows, dim, x.dtype == torch.bfloat16, sums.data_ptr(), torch.get_num_threads())
    )
    return sums.sum(0)
