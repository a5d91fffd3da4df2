"""Masked words: guess what stood at the masked positions, from both sides at once (Devlin et al. 2019, section 3.1).

Only at those positions, some 15 in 100, are the last layer's states and logits made, and logits never all at a time.
"""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from trasluz.layers.output_loss import output_loss
from trasluz.objectives.loss import Loss
from trasluz.text.batching import MaskedBatch


@dataclass(frozen=True)
class MaskedWordsObjective:
    """Cross-entropy of the masked pieces through a model's head `fill-mask`."""

    label_smoothing: float = 0.0

    def __call__(self, model: Any, batch: MaskedBatch) -> Loss:
        """Return the loss of a batch, summed over its masked positions."""
        return self.loss(model, model(batch.texts, batch.masked_places), batch)

    def loss(self, model: Any, states: Float[Tensor, "masked dim"], batch: MaskedBatch) -> Loss:
        """Return the loss, given the states at the masked positions."""
        head = model.heads["fill-mask"]
        features = head.features(states)
        total, likelihood = output_loss(
            features, head.output.weight, head.output.bias, batch.targets, self.label_smoothing
        )
        return Loss(total, len(batch.targets), likelihood)

    def logits(
        self, model: Any, hidden: Float[Tensor, "batch positions dim"], batch: MaskedBatch
    ) -> Float[Tensor, "masked vocab"]:
        """Return the scores of all pieces at every masked position: for those who need them all at a time."""
        scores: Tensor = model.heads["fill-mask"](hidden[batch.rows, batch.columns])
        return scores.float()

    def of_logits(self, logits: Float[Tensor, "masked vocab"], batch: MaskedBatch) -> Loss:
        """Return the loss of such scores."""
        total = cross_entropy(logits, batch.targets, reduction="sum", label_smoothing=self.label_smoothing)
        plain = cross_entropy(logits.detach(), batch.targets, reduction="sum") if self.label_smoothing else total
        return Loss(total, len(batch.targets), plain.detach())

    def places(self, batch: MaskedBatch) -> Int[Tensor, "batch"]:
        """Return how many positions of each text are masked."""
        return batch.rows.bincount(minlength=len(batch.texts.lengths))
