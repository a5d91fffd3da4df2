"""A linear layer, y = x W^T + b, that is fast for a few rows too.

Libraries for matrix products are made for large ones; decoding has one row a hypothesis, and then waits for the weights
to come from memory. Those few rows, on a CPU and without gradients, go through a kernel of ours where it is there. Many
rows of bfloat16 go to oneDNN as it offers itself to PyTorch's compiler: it adds the bias to sums that are at hand, for
which PyTorch's own way takes a copy of them, a fifth of the time.
"""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trasluz.devices import multiplies_bf16
from trasluz.layers.kernels.few_rows import few_rows, takes_few_rows

_MANY_ROWS = 64


class Linear(nn.Linear):
    """As `torch.nn.Linear`, of which it is one."""

    def forward(self, x: Float[Tensor, "*positions inputs"]) -> Float[Tensor, "*positions outputs"]:
        """Return x W^T + b."""
        return linear(x, self.weight, self.bias)


def linear(
    x: Float[Tensor, "*positions inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None,
) -> Float[Tensor, "*positions outputs"]:
    """Return x W^T + b."""
    if takes_few_rows(x, weight):
        return few_rows(x, weight, bias)
    if _goes_to_onednn(x, weight):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "none")
        return product
    return nn.functional.linear(x, weight, bias)


def _goes_to_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dtype == weight.dtype == torch.bfloat16
        and x.is_cpu
        and not (torch.is_grad_enabled() or torch.compiler.is_exporting() or torch.is_autocast_enabled("cpu"))
        and x.numel() > _MANY_ROWS * weight.shape[1]
        and _has_onednn()
    )


@cache
def _has_onednn() -> bool:
    return hasattr(torch.ops.mkldnn, "_linear_pointwise") and multiplies_bf16(torch.device("cpu"))
