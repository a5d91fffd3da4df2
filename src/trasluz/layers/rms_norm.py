"""Root mean square norm (Zhang and Sennrich 2019, equation 4): a layer norm that neither centres nor shifts.

y = x / sqrt(mean(x^2) + epsilon) * weight
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RmsNorm(nn.Module):
    """Brings every position to one size, feature by feature scaled."""

    def __init__(self, dim: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.epsilon = epsilon

    def forward(self, x: Float[Tensor, "*positions dim"]) -> Float[Tensor, "*positions dim"]:
        """Return the normalised positions."""
        return nn.functional.rms_norm(x, self.weight.shape, self.weight, self.epsilon)
