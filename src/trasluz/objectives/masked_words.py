"""Masked words: guess what stood at the masked positions, from both sides at once (Devlin et al. 2019, section 3.1).

Only at those positions, some 15 in 100, are logits made, and never all at a time.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from trasluz.layers.output_loss import output_loss
from trasluz.objectives.loss import Loss
from trasluz.text.batching import MaskedBatch


@dataclass(frozen=True)
class MaskedWordsObjective:
    """Cross-entropy of the masked pieces through a model's head `fill-mask`."""

    label_smoothing: float = 0.0

    def __call__(self, model: Any, batch: MaskedBatch) -> Loss:
        """Return the loss of a batch, summed over its masked positions."""
        return self.loss(model, model(batch.texts), batch)

    def loss(self, model: Any, states: Float[Tensor, "batch positions dim"], batch: MaskedBatch) -> Loss:
        """Return the loss, given the states of the batch's texts."""
        head = model.heads["fill-mask"]
        features = head.features(states[batch.rows, batch.columns])
        total, likelihood = output_loss(
            features, head.output.weight, head.output.bias, batch.targets, self.label_smoothing
        )
        return Loss(total, len(batch.targets), likelihood)
