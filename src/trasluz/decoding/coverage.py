"""How much of the source a hypothesis has looked at (Wu et al. 2016, equation 14): the coverage penalty's memory.

    penalty(Y) = sum_i log(min(sum_t weights(t, i), 1))

The weights come through the tap of one attention, its heads averaged; without attention there is no coverage.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.layers.block_weights import BlockWeights


class Coverage:
    """The attention each row has given to each source position so far."""

    def __init__(self, num_beams: int, device: torch.device) -> None:
        self.num_beams = num_beams
        self.lengths = torch.zeros(0, dtype=torch.int64, device=device)
        self.seen: Float[Tensor, "rows source"] = torch.zeros(0, 0, device=device)

    def join(self, source_lengths: Int[Tensor, " sources"]) -> None:
        """Take in sources of which nothing has been looked at, behind the others."""
        rows = len(source_lengths) * self.num_beams
        self.lengths = torch.cat([self.lengths, source_lengths.repeat_interleave(self.num_beams)])
        self.seen = torch.nn.functional.pad(self.seen, (0, 0, 0, rows))

    def add(self, weights: Float[Tensor, "sources heads beams source"] | BlockWeights) -> None:
        """Add what one step looked at; beams are queries of their source."""
        assert isinstance(weights, Tensor), "a source is looked over whole"
        looked = weights.mean(1).flatten(0, 1)
        # As wide as the sources of now: behind the end of one nothing is looked at.
        self.seen = torch.nn.functional.pad(self.seen, (0, looked.shape[1] - self.seen.shape[1])) + looked

    def penalty(self, row: int) -> float:
        """Return the penalty of a row, 0 where every source token was looked at for one whole step."""
        seen = self.seen[row, : int(self.lengths[row])]
        return float(seen.clamp(min=torch.finfo(seen.dtype).tiny, max=1.0).log().sum())

    def select_rows(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows, in this order."""
        self.seen, self.lengths = self.seen[rows], self.lengths[rows]
