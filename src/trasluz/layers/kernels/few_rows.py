"""A few rows times a matrix; what is computed stands in few_rows.cpp."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from trasluz.devices import cpu_flags, halves_wide_work
from trasluz.layers.kernels import kernels_for, load_kernels


@cache
def _most_rows() -> int:
    # Of sixteen lanes the library's product of a few more rows is twice as fast as eight can be.
    return 4 if "avx512f" in cpu_flags() and not halves_wide_work() else 64


def takes_few_rows(x: Tensor, weight: Tensor) -> bool:
    """Tell whether the kernel is the better one for this product: it is for few rows."""
    return (
        kernels_for(x) is not None
        and x.shape[-1:] == weight.shape[1:]
        and x.numel() <= _most_rows() * weight.shape[1]
        and weight.dtype == torch.float32
        and weight.is_contiguous()
    )


def few_rows(
    x: Float[Tensor, "*positions inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None,
) -> Float[Tensor, "*positions outputs"]:
    """Return x W^T + b, each row to the bit as if it were alone."""
    kernels = load_kernels()
    assert kernels is not None
    x, bias = x.contiguous(), None if bias is None else bias.contiguous()
    outputs, inputs = weight.shape
    y = x.new_empty(*x.shape[:-1], outputs)
    if rows := x.numel() // inputs:
        kernels.trasluz_few_rows(
            *(x.data_ptr(), rows, inputs, weight.data_ptr(), None if bias is None else bias.data_ptr(), outputs),
            *(y.data_ptr(), torch.get_num_threads()),
        )
    return y
