"""What further losses weigh in an update, so that each is the mean over all that the update has of its kind."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from trasluz.objectives.loss import SumOfMeans
from trasluz.training.processes import Processes


def weights_of_further(objective: Any, pieces: Sequence[Any], processes: Processes) -> list[float]:
    """Return the weight of each further loss beside the first; all processes must ask, and get the same.

    `pieces` are this process's batches of the update, None where it has none in that turn.
    """
    if not isinstance(objective, SumOfMeans):
        return []
    own = [objective.counts(piece) for piece in pieces if piece is not None]
    sums = [float(sum(column)) for column in zip((0,) * objective.num_means, *own, strict=True)]
    first, *others = processes.sum(sums)
    return [first / other for other in others]


def weighted_total(loss: Any, weights: Sequence[float]) -> Tensor:
    """Return the total of a loss with those of its further ones; without weights it has none."""
    total: Tensor = loss.total
    for weight, other in zip(weights, loss.further if weights else (), strict=True):
        total = total + weight * other.total
    return total
