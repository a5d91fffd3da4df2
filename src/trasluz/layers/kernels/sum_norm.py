"""The norm of a sum in one pass, where no gradients are wanted; what is computed stands in sum_norm.cpp."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trasluz.layers.kernels import kernels_for
from trasluz.layers.rms_norm import RmsNorm


def sum_norm(
    norm: nn.Module, x: Float[Tensor, "*positions dim"], y: Float[Tensor, "*positions dim"] | None = None
) -> Float[Tensor, "*positions dim"]:
    """Return norm(x + y), or norm(x) where there is no `y`; the kernel is for layer norms and `RmsNorm`."""
    kernels = kernels_for(x, (torch.float32, torch.bfloat16))
    if kernels is None or not isinstance(norm, nn.LayerNorm | RmsNorm) or norm.weight.dtype != x.dtype:
        return norm(x if y is None else x + y)
    if (y is not None and y.dtype != x.dtype) or x.shape[-1] % 8:
        return norm(x if y is None else x + y)
    bias, epsilon = (None, norm.epsilon) if isinstance(norm, RmsNorm) else (norm.bias.data_ptr(), norm.eps)
    x = x.contiguous()
    y = None if y is None else y.contiguous()
    result = torch.empty_like(x)
    dim = x.shape[-1]
    kernels.trasluz_sum_norm(
        *(x.data_ptr(), None if y is None else y.data_ptr(), x.numel() // dim, dim),
        *(norm.weight.data_ptr(), bias, epsilon, x.dtype == torch.bfloat16),
        *(result.data_ptr(), torch.get_num_threads()),
    )
    return result
