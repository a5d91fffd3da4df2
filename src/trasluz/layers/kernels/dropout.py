"""Dropout in one pass, without a mask that is kept; what is computed stands in dropout.cpp."""

import torch
from jaxtyping import Float
from torch import Tensor

from trasluz.layers.kernels import training_kernels_for
from trasluz.layers.row_room import empty_rows

_LEVELS = 1 << 32


def drops_out(x: Tensor) -> bool:
    """Tell whether the kernel is there for this."""
    return training_kernels_for(x) is not None


def threshold(probability: float) -> int:
    """Return below which of 2^32 numbers a place is dropped."""
    return min(round(probability * _LEVELS), _LEVELS - 1)


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
        *(x.data_ptr(), x.numel(), seed, threshold(probability), 1.0 / (1.0 - probability)),
        *(None if beside is None else beside.data_ptr(), x.dtype == torch.bfloat16),
        *(result.data_ptr(), torch.get_num_threads()),
    )
    return result
