"""The product of two matrices summed over their rows, in float32; what is computed stands in summed_products.cpp."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from trasluz.layers.kernels import load_kernels, training_kernels_for


def sums_products(x: Tensor, y: Tensor) -> bool:
    """Tell whether the kernel is there for these, and rows of theirs are in one piece."""
    both = x.dtype == y.dtype == torch.bfloat16 and x.is_cpu and y.is_cpu
    in_pieces = x.stride(-1) != 1 or y.stride(-1) != 1
    return both and not in_pieces and training_kernels_for(x, (torch.bfloat16,)) is not None and _has_amx()


def summed_products(
    x: Float[Tensor, "places inputs"],
    y: Float[Tensor, "places outputs"],
    into: Float[Tensor, "inputs outputs"] | None = None,
) -> Float[Tensor, "inputs outputs"]:
    """Return x^T y of what `sums_products`, added into a contiguous matrix of float32 if one is given."""
    kernels = training_kernels_for(x, (torch.bfloat16,))
    assert kernels is not None
    (rows, inputs), outputs = x.shape, y.shape[1]
    result = x.new_empty((inputs, outputs), dtype=torch.float32) if into is None else into
    assert result.is_contiguous() and result.dtype == torch.float32
    kernels.trasluz_summed_products(
        *(x.data_ptr(), x.stride(0), y.data_ptr(), y.stride(0), rows, inputs, outputs),
        *(into is not None, result.data_ptr(), torch.get_num_threads()),
    )
    return result


@cache
def _has_amx() -> bool:
    kernels = load_kernels()
    return kernels is not None and bool(kernels.trasluz_has_amx())
