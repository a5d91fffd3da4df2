"""Tagging: a label for every word, at its first piece (Devlin et al. 2019, section 5.3)."""

from dataclasses import dataclass
from typing import Any

from torch.nn.functional import cross_entropy

from trasluz.objectives.loss import Loss
from trasluz.text.batching import NOT_COUNTED, TaggedBatch


@dataclass(frozen=True)
class TaggingObjective:
    """The cross-entropy of a model's head `tag` at the positions that carry a label."""

    label_smoothing: float = 0.0

    def __call__(self, model: Any, batch: TaggedBatch) -> Loss:
        """Return the loss of a batch, summed over its words."""
        counted = batch.labels != NOT_COUNTED
        logits = model.heads["tag"](model(batch.texts))[counted].float()
        total = cross_entropy(logits, batch.labels[counted], reduction="sum", label_smoothing=self.label_smoothing)
        return Loss(total, int(counted.sum()), total.detach())
