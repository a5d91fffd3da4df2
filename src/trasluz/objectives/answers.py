"""Answers: which token of a context is the first of the answer, and which the last (Devlin et al. 2019, section 4.2).

    loss = (cross-entropy of the first + cross-entropy of the last) / 2

Both are distributions over the positions where an answer may stand: those of the context, and the first position of
all, which is the target where the window has no answer or not all of it (section 4.3).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trasluz.objectives.loss import Loss
from trasluz.text.batching import AnswerBatch

# Infinite ones would leave the teacher's and the student's with no difference that is a number.
_NOWHERE = -1e4


@dataclass(frozen=True)
class AnswerObjective:
    """The loss of a model's head `answer`; smoothing spreads over the positions that are allowed."""

    label_smoothing: float = 0.0

    def __call__(self, model: Any, batch: AnswerBatch) -> Loss:
        """Return the loss of a batch, summed over its windows."""
        total, likelihood = self.loss(model.heads["answer"](model(batch.texts)), batch.spans, batch.allowed)
        return Loss(total, len(batch.spans), likelihood)

    def logits(
        self, model: Any, hidden: Float[Tensor, "batch positions dim"], batch: AnswerBatch
    ) -> Float[Tensor, "places positions"]:
        """Return the scores of the positions for both ends of each window; as good as none where no answer may be."""
        scores: Tensor = model.heads["answer"](hidden).float()
        return scores.masked_fill(~batch.allowed[:, :, None], _NOWHERE).transpose(1, 2).flatten(0, 1)

    def of_logits(self, logits: Float[Tensor, "places positions"], batch: AnswerBatch) -> Loss:
        """Return the loss of such scores, both ends counted."""
        total, likelihood = self.loss(logits.unflatten(0, (-1, 2)).transpose(1, 2), batch.spans, batch.allowed)
        return Loss(2 * total, 2 * len(batch.spans), 2 * likelihood)

    def places(self, batch: AnswerBatch) -> Int[Tensor, "batch"]:
        """Return how many places of each window are judged: two ends."""
        return torch.full_like(batch.texts.lengths, 2)

    def loss(
        self,
        logits: Float[Tensor, "batch positions 2"],
        spans: Int[Tensor, "batch 2"],
        allowed: Bool[Tensor, "batch positions"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the sum over the windows, and the same without smoothing."""
        elsewhere = ~allowed[:, :, None]
        log_probabilities = logits.float().masked_fill(elsewhere, -torch.inf).log_softmax(1)
        likelihood = -log_probabilities.gather(1, spans[:, None]).sum() / 2
        if not self.label_smoothing:
            return likelihood, likelihood.detach()
        shares = allowed.sum(1)[:, None]
        spread = -(log_probabilities.masked_fill(elsewhere, 0.0).sum(1) / shares).sum() / 2
        total = (1 - self.label_smoothing) * likelihood + self.label_smoothing * spread
        return total, likelihood.detach()
