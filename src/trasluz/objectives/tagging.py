"""Tagging: a label for every word, at its first piece (Devlin et al. 2019, section 5.3)."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from trasluz.objectives.loss import Loss
from trasluz.text.batching import NOT_COUNTED, TaggedBatch


@dataclass(frozen=True)
class TaggingObjective:
    """The cross-entropy of a model's head `tag` at the positions that carry a label."""

    label_smoothing: float = 0.0

    def __call__(self, model: Any, batch: TaggedBatch) -> Loss:
        """Return the loss of a batch, summed over its words."""
        return self.of_logits(self.logits(model, model(batch.texts), batch), batch)

    def logits(
        self, model: Any, hidden: Float[Tensor, "batch positions dim"], batch: TaggedBatch
    ) -> Float[Tensor, "words classes"]:
        """Return the scores of each word's tags."""
        scores: Tensor = model.heads["tag"](hidden)[batch.labels != NOT_COUNTED]
        return scores.float()

    def of_logits(self, logits: Float[Tensor, "words classes"], batch: TaggedBatch) -> Loss:
        """Return the loss of such scores."""
        labels = batch.labels[batch.labels != NOT_COUNTED]
        total = cross_entropy(logits, labels, reduction="sum", label_smoothing=self.label_smoothing)
        return Loss(total, len(labels), total.detach())

    def places(self, batch: TaggedBatch) -> Int[Tensor, "batch"]:
        """Return how many words of each text are judged."""
        return (batch.labels != NOT_COUNTED).sum(1)
