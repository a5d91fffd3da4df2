"""Dropout in one pass, without a mask that is kept; what is computed stands in dropout.cpp."""

import torch
from jaxtyping import Float
from torch import Tensor

from trasluz.layers.kernels import dropout_of, training_kernels_for
from trasluz.layers.row_room import empty_rows


def drops_out(x: Tensor) -> bool:
    """Tell whether the kernel is there for this."""
    return training_kernels_for(x) is not None


def drop_out(
    x: Float[Tensor, "*positions dim"],
    probability: float,
    seed: int,
    beside: Float[Tensor, "*positions dim"] | None = None,
) -> Float[Tensor, "*positions dim"]:
    """Return dropout(x), and `beside` added to it where that is given; the same for the same seed."""
    kernels = training_kernels_for(x)
    assert kernels is not None
    x = x.contiguous()
    beside = None if beside is None else beside.contiguous()
    result = empty_rows(x.shape, x.dtype) if x.dim() else torch.empty_like(x)
    kernels.trasluz_dropout(
        *(x.data_ptr(), x.numel(), *dropout_of(probability, seed)),
        *(None if beside is None else beside.data_ptr(), x.dtype == torch.bfloat16),
        *(result.data_ptr(), torch.get_num_threads()),
    )
    return result
