"""Classification: one label a text, several at once, or a number.

one       cross-entropy, with label smoothing (Szegedy et al. 2016, section 7) and weights of the classes
several   a binary cross-entropy for each label, their mean
number    squared error
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from trasluz.objectives.loss import Loss
from trasluz.text.batching import NOT_COUNTED, LabelledBatch


def first_states(model: Any, batch: LabelledBatch) -> Float[Tensor, "batch 1 dim"]:
    """Return what a model makes of the first position of each text, which is all that its head looks at."""
    states: Tensor = model(batch.texts, batch.texts.first_places)
    return states[:, None]


@dataclass(frozen=True)
class ClassificationObjective:
    """The loss of a model's head `classify`; `class_weights` stand in the order of the labels."""

    label_kind: str = "one"
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def __call__(self, model: Any, batch: LabelledBatch) -> Loss:
        """Return the loss of a batch, summed over its texts."""
        return self.of_logits(self.logits(model, first_states(model, batch), batch), batch)

    def logits(
        self, model: Any, hidden: Float[Tensor, "batch positions dim"], batch: LabelledBatch
    ) -> Float[Tensor, "batch classes"]:
        """Return the scores of each text's labels; of its states the first is enough."""
        scores: Tensor = model.heads["classify"](hidden)
        return scores.float()

    def of_logits(self, logits: Float[Tensor, "batch classes"], batch: LabelledBatch) -> Loss:
        """Return the loss of such scores."""
        total = self.loss(logits, batch.labels)
        return Loss(total, len(batch.labels), total.detach())

    def places(self, batch: LabelledBatch) -> Int[Tensor, "batch"]:
        """Return how many places of each text are judged: one."""
        return torch.ones_like(batch.texts.lengths)

    def loss(self, logits: Float[Tensor, "batch classes"], labels: Shaped[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        """Return the sum over the texts; one without a label, NOT_COUNTED or NaN, adds nothing."""
        if self.label_kind == "number":
            return ((logits[:, 0] - labels.nan_to_num()).square() * ~labels.isnan()).sum()
        weights = None if self.class_weights is None else torch.tensor(self.class_weights, device=logits.device)
        if self.label_kind == "several":
            losses = binary_cross_entropy_with_logits(logits, labels.nan_to_num(), weights, reduction="none")
            return (losses * ~labels.isnan()).mean(1).sum()
        return cross_entropy(
            logits,
            labels,
            weights,
            ignore_index=NOT_COUNTED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
