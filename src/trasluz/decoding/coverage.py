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

    def __init__(self, source_lengths: Int[Tensor, " sources"], num_beams: int) -> None:
        self.lengths = source_lengths.repeat_interleave(num_beams)
        self.seen: Float[Tensor, "rows source"] | None = None

    def add(self, weights: Float[Tensor, "sources heads beams source"] | BlockWeights) -> None:
        """Add what one step looked at; beams are queries of their source."""
        assert isinstance(weights, Tensor), "a source is looked over whole"
        looked = weights.mean(1).flatten(0, 1)
        self.seen = looked if self.seen is None else self.seen + looked

    def penalty(self, row: int) -> float:
        """Return the penalty of a row, 0 where every source token was looked at for one whole step."""
        assert self.seen is not None
        seen = self.seen[row, : int(self.lengths[row])]
        return float(seen.clamp(min=torch.finfo(seen.dtype).tiny, max=1.0).log().sum())

    def select_rows(self, rows: Int[Tensor, " rows"]) -> None:
        """Keep these rows, in this order."""
        assert self.seen is not None
        self.seen, self.lengths = self.seen[rows], self.lengths[rows]
