"""A linear layer, y = x W^T + b, that is fast for a few rows too.

Libraries for matrix products are made for large ones; decoding has one row a hypothesis, and then waits for the weights
to come from memory. Those few rows, on a CPU and without gradients, go through a kernel of ours where it is there.
"""

from jaxtyping import Float
from torch import Tensor, nn

from trasluz.layers.kernels.few_rows import few_rows, takes_few_rows


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
    return nn.functional.linear(x, weight, bias)
