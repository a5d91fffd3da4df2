"""A loss as sum and count, kept apart so that accumulation and data parallelism over unequal batches are exact."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """`total` is differentiable and summed over `count` tokens; `likelihood` is the plain negative log-likelihood.

    Both sums are in nats.
    """

    total: Tensor
    count: int
    likelihood: Tensor
