"""Next words: predict every token from those before it (Radford et al. 2018, equation 1).

loss = - sum over positions of log p(x_t | x_1 ... x_(t-1))
"""

from dataclasses import dataclass
from typing import Any

from trasluz.layers.masks import Mask
from trasluz.layers.output_loss import output_loss
from trasluz.objectives.loss import Loss
from trasluz.text.batching import CausalBatch


@dataclass(frozen=True)
class NextWordsObjective:
    """Cross-entropy of the token that follows each position, through a model's output head."""

    label_smoothing: float = 0.0

    def __call__(self, model: Any, batch: CausalBatch) -> Loss:
        """Return the loss of a batch, summed over its real targets."""
        hidden = model(batch)
        real = Mask(batch.lengths).dense(1, hidden.shape[1], hidden.device)[:, 0]
        head = model.output_head
        total, likelihood = output_loss(hidden[real], head.weight, head.bias, batch.targets[real], self.label_smoothing)
        return Loss(total, batch.num_target_tokens, likelihood)
