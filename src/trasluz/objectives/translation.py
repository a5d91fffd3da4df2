"""Translation: predict every target token from the source and the target tokens before it (teacher forcing)."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from trasluz.layers.embeddings import OutputHead
from trasluz.layers.masks import Mask
from trasluz.layers.output_loss import output_loss
from trasluz.objectives.loss import Loss
from trasluz.text.batching import TranslationBatch


@runtime_checkable
class SequenceToSequenceModel(Protocol):
    """A model whose hidden states an output head turns into logits."""

    output_head: OutputHead

    def __call__(self, batch: TranslationBatch) -> Float[Tensor, "batch target dim"]:
        """Return the hidden states at every target position."""
        ...


@dataclass(frozen=True)
class TranslationObjective:
    """Cross-entropy with label smoothing over the real target tokens."""

    label_smoothing: float = 0.1

    def __call__(self, model: SequenceToSequenceModel, batch: TranslationBatch) -> Loss:
        """Return the loss of a batch."""
        hidden = model(batch)
        real = Mask(batch.target_lengths).dense(1, hidden.shape[1], hidden.device)[:, 0]
        head = model.output_head
        total, likelihood = output_loss(
            hidden[real], head.weight, head.bias, batch.target_output[real], self.label_smoothing
        )
        return Loss(total, batch.num_target_tokens, likelihood)
