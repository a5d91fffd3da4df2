"""A loss as sum and count, kept apart so that accumulation and data parallelism over unequal batches are exact.

Where several things are learnt at once, each is a mean over a number of its own:

    loss = total / count + sum over the further ones of total_i / count_i
         = (total + sum of w_i total_i) / count            with w_i = count / count_i

Counts are those of a whole update. The weights must be known before the first of its pieces goes backward, so such an
objective tells the counts of a batch without a model.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """`total` is differentiable and summed over `count` tokens; `likelihood` is the plain negative log-likelihood.

    Both sums are in nats.
    """

    total: Tensor
    count: int
    likelihood: Tensor
    further: tuple["Loss", ...] = ()
    """What else is learnt, each with a count of its own."""


@runtime_checkable
class SumOfMeans(Protocol):
    """An objective whose losses have further ones."""

    num_means: int

    def counts(self, batch: Any) -> tuple[int, ...]:
        """Return the counts of a batch's loss and of its further ones."""
        ...
