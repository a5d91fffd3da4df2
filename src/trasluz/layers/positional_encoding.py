"""Where a word stands: fixed sine and cosine waves, or trained vectors (Vaswani et al. 2017, section 3.5).

    PE(position, 2i)     = sin(position / 10000^(2i / dim))
    PE(position, 2i + 1) = cos(position / 10000^(2i / dim))

The paper interleaves sines and cosines. Here, as in Marian and in Hugging Face's checkpoints, all sines come first and
all cosines after them: the same numbers under a fixed permutation of the columns, which the first linear layer absorbs.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trasluz.errors import RequestError


def sinusoids(start: int, end: int, dim: int) -> Float[Tensor, "positions dim"]:
    """Return the encodings of positions `start` to `end` - 1: sines in the first half of the columns, then cosines."""
    # In float64, as the angle of a far position loses digits otherwise.
    positions = torch.arange(start, end, dtype=torch.float64)
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = positions[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()[:, : dim // 2]], dim=1).float()


class SinusoidalPositions(nn.Module):
    """Fixed positions, of any length: nothing is trained and nothing is stored in a checkpoint."""

    table: Tensor

    def __init__(self, dim: int, num_cached: int = 512) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("table", sinusoids(0, num_cached, dim), persistent=False)

    def forward(self, length: int, start: int = 0) -> Float[Tensor, "positions dim"]:
        """Return the encodings of `length` positions from `start` on."""
        end = start + length
        if end <= self.table.shape[0]:
            return self.table[start:end]
        return sinusoids(start, end, self.dim).to(self.table)

    def at(self, positions: Int[Tensor, "batch positions"]) -> Float[Tensor, "batch positions dim"]:
        """Return the encodings of positions that do not simply count up: rows that have got to different places."""
        end = int(positions.max()) + 1 if positions.numel() else 0
        return nn.functional.embedding(positions, self(max(end, self.table.shape[0])))


class TrainablePositions(nn.Module):
    """Trained positions, a table of `max_positions` rows (Gehring et al. 2017, section 3.1).

    A text's first position takes row `first`; those before it are for padding.
    """

    def __init__(self, dim: int, max_positions: int, first: int = 0) -> None:
        super().__init__()
        self.first: int = first
        self.weight = nn.Parameter(torch.zeros(max_positions, dim))

    def forward(self, length: int, start: int = 0) -> Float[Tensor, "positions dim"]:
        """Return the vectors of `length` positions from `start` on; RequestError past the last trained one."""
        end = start + length
        self._check(end)
        return self.weight[self.first + start : self.first + end]

    def at(self, positions: Int[Tensor, "batch positions"]) -> Float[Tensor, "batch positions dim"]:
        """Return the vectors of positions that do not simply count up: rows in which several texts begin."""
        # On a GPU the answer would have to be waited for.
        if positions.is_cpu and positions.numel():
            self._check(int(positions.max()) + 1)
        return nn.functional.embedding(positions + self.first if self.first else positions, self.weight)

    def _check(self, end: int) -> None:
        room = self.weight.shape[0] - self.first
        if end > room:
            raise RequestError(
                f"a text of {end} tokens does not fit: this model has {room} trained positions. "
                "Cut the text, or train with a larger max_positions or with sinusoidal positions."
            )
