"""A linear layer and GELU behind it, with the bias added on the way; what is computed stands in gelu.cpp."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trasluz.layers.kernels import kernels_for
from trasluz.layers.linear import Linear

_DTYPES = (torch.float32, torch.bfloat16)
_EIGHT = 8


def linear_gelu(linear: nn.Module, x: Float[Tensor, "*positions inputs"]) -> Float[Tensor, "*positions outputs"]:
    """Return gelu(linear(x)); the kernel is for `Linear` with a bias."""
    kernels = kernels_for(x, _DTYPES)
    if kernels is None or not isinstance(linear, Linear) or linear.weight.dtype != x.dtype:
        return nn.functional.gelu(linear(x))
    bias: Tensor | None = linear.bias
    outputs, inputs = linear.weight.shape
    if bias is None or outputs % _EIGHT:
        return nn.functional.gelu(linear(x))
    # Without the bias, which would cost a pass over the result.
    product = x.reshape(-1, inputs) @ linear.weight.t()
    kernels.trasluz_gelu(
        *(product.data_ptr(), *product.shape, bias.data_ptr()),
        *(x.dtype == torch.bfloat16, torch.get_num_threads()),
    )
    return product.view(*x.shape[:-1], outputs)
