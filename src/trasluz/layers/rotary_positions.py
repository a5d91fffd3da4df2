"""Rotary positions (Su et al. 2021, section 3.4.2): queries and keys are turned by where they stand.

    for each pair of features i:    angle = position * base^(-2i / head_dim)

    (x_i, x_j)  ->  (x_i cos(angle) - x_j sin(angle),  x_i sin(angle) + x_j cos(angle))

The product of a query and a key, turned so, depends on their distance alone. Of texts that share a row, each with
positions that begin anew, the places in the row do as well, since within a text the distances are the same.

The paper pairs neighbours, j = i + 1. Here, as in Hugging Face's Llama, the second of a pair stands half a head
further: the same under a fixed permutation of a head's features, which the projections absorb.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RotaryPositions(nn.Module):
    """Turns heads of `head_dim` features, an even number; nothing is trained and nothing is stored in a checkpoint."""

    table: Tensor

    def __init__(self, head_dim: int, base: float = 10_000.0, num_cached: int = 512) -> None:
        super().__init__()
        self.head_dim, self.base = head_dim, base
        self.register_buffer("table", self._angles(0, num_cached), persistent=False)

    def forward(
        self, x: Float[Tensor, "batch heads positions head_dim"], first: int = 0
    ) -> Float[Tensor, "batch heads positions head_dim"]:
        """Return queries or keys turned by their positions, the first of which is `first`."""
        end = first + x.shape[2]
        table = self.table[:, first:end] if end <= self.table.shape[1] else self._angles(first, end).to(self.table)
        cosines, sines = table
        one, other = x.chunk(2, dim=-1)
        # In the table's type, and back: autocast gives queries and keys of 16 bits.
        return (x * cosines + torch.cat([other, one], dim=-1) * sines).to(x.dtype)

    def _angles(self, start: int, end: int) -> Tensor:
        """Return cosines and sines of these positions for whole heads, (2, positions, head_dim); signs are in them."""
        # In float64, as the angle of a far position loses digits otherwise.
        positions = torch.arange(start, end, dtype=torch.float64)
        frequencies = self.base ** (-torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim)
        cosines, sines = (positions[:, None] * frequencies).cos(), (positions[:, None] * frequencies).sin()
        return torch.stack([torch.cat([cosines, cosines], dim=1), torch.cat([-sines, sines], dim=1)]).float()
