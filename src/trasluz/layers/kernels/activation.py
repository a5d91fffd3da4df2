"""GELU, and the way back through GELU or ReLU, compiled; what is computed stands in activation.cpp."""

import torch
from jaxtyping import Float
from torch import Tensor

from trasluz.layers.kernels import LANES, training_kernels_for
from trasluz.layers.row_room import empty_rows


def takes_rows(x: Tensor, dim: int) -> bool:
    """Tell whether the kernels are there for rows so wide, of the type of `x`."""
    return dim % LANES == 0 and training_kernels_for(x) is not None


def gelu_rows(
    x: Float[Tensor, "*positions dim"], bias: Float[Tensor, " dim"] | None, in_place: bool
) -> Float[Tensor, "*positions dim"]:
    """Return gelu(x + bias), in the place of `x` where that is wanted."""
    kernels = training_kernels_for(x)
    assert kernels is not None
    assert x.is_contiguous()
    y = x if in_place else empty_rows(x.shape, x.dtype)
    dim = x.shape[-1]
    kernels.trasluz_gelu(
        *(x.data_ptr(), x.numel() // max(dim, 1), dim, None if bias is None else bias.data_ptr()),
        *(x.dtype == torch.bfloat16, y.data_ptr(), torch.get_num_threads()),
    )
    return y


def activation_backward(
    gradient: Float[Tensor, "places dim"], x: Float[Tensor, "places dim"], is_gelu: bool
) -> tuple[Float[Tensor, "places dim"], Float[Tensor, " dim"]]:
    """Return the gradient of what went in, and its sum over the places.

    `x` went into GELU, or into ReLU, or came out of the latter.
    """
    kernels = training_kernels_for(x)
    assert kernels is not None
    gradient = gradient.contiguous()
    rows, dim = x.shape
    result = empty_rows(x.shape, x.dtype)
    sums = x.new_zeros((kernels.trasluz_row_parts(rows), dim), dtype=torch.float32)
    kernels.trasluz_activation_backward(
        *(gradient.data_ptr(), x.data_ptr(), rows, dim, is_gelu, x.dtype == torch.bfloat16),
        *(result.data_ptr(), sums.data_ptr(), torch.get_num_threads()),
    )
    return result, sums.sum(0)
