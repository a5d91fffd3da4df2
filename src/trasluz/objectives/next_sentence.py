"""BERT's pre-training: masked words, and whether the second text follows the first (Devlin et al. 2019, section 3.1).

loss = mean over the masked positions of -log p(word) + mean over the pairs of -log p(follows, or from elsewhere)
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from trasluz.objectives.loss import Loss
from trasluz.objectives.masked_words import MaskedWordsObjective
from trasluz.text.batching import NextSentenceBatch


@dataclass(frozen=True)
class NextSentenceObjective:
    """Two cross-entropies over the same states, through a model's heads `fill-mask` and `next-sentence`."""

    label_smoothing: float = 0.0
    """Of the words; there is nothing to smooth between two labels that are certain."""
    num_means: int = 2

    def __call__(self, model: Any, batch: NextSentenceBatch) -> Loss:
        """Return the loss of the words, with that of the pairs as a further one."""
        masked, firsts = masked_and_first_states(model, batch)
        words = MaskedWordsObjective(self.label_smoothing).loss(model, masked, batch)
        logits = model.heads["next-sentence"](firsts).float()
        total = cross_entropy(logits, batch.labels, reduction="sum")
        return dataclasses.replace(words, further=(Loss(total, len(batch.labels), total.detach()),))

    def counts(self, batch: NextSentenceBatch) -> tuple[int, int]:
        """Return how many positions are masked, and how many pairs there are."""
        return len(batch.targets), len(batch.labels)


def masked_and_first_states(
    model: Any, batch: NextSentenceBatch
) -> tuple[Float[Tensor, "masked dim"], Float[Tensor, "batch 1 dim"]]:
    """Return what a model makes of the masked positions, and of the first of each pair."""
    states = model(batch.texts, batch.masked_places.join(batch.texts.first_places))
    return states[: len(batch.rows)], states[len(batch.rows) :, None]
