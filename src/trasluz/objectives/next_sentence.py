"""BERT's pre-training: masked words, and whether the second text follows the first (Devlin et al. 2019, section 3.1).

loss = mean over the masked positions of -log p(word) + mean over the pairs of -log p(follows, or from elsewhere)
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

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
        states = model(batch.texts)
        words = MaskedWordsObjective(self.label_smoothing).loss(model, states, batch)
        logits = model.heads["next-sentence"](states).float()
        total = cross_entropy(logits, batch.labels, reduction="sum")
        return dataclasses.replace(words, further=(Loss(total, len(batch.labels), total.detach()),))

    def counts(self, batch: NextSentenceBatch) -> tuple[int, int]:
        """Return how many positions are masked, and how many pairs there are."""
        return len(batch.targets), len(batch.labels)
