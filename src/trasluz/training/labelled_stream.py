"""The updates of a model that labels texts."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from trasluz.text.batching import NOT_COUNTED, LabelledBatch, make_text_batch
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.text.token_cache import TokenCache
from trasluz.training.labelled_examples import NO_LABEL
from trasluz.training.stream import ExampleStream


class LabelledStream(ExampleStream[LabelledBatch]):
    """Texts, or pairs, with labels; the cache's columns are first, second, labels and place."""

    def __init__(
        self,
        cache: TokenCache,
        files: Sequence[str],
        *,
        tokenizer: EncoderTokenizer,
        pairs: bool,
        longest: int,
        pad_id: int,
        label_kind: str,
        num_labels: int,
        **settings: Any,
    ) -> None:
        """Take the cache and what batches need; texts are cut to `longest` tokens, special ones included."""
        added = tokenizer.num_added(pairs)
        whole = cache.lengths("first") + (cache.lengths("second") if pairs else 0) + added
        super().__init__(cache, files, [np.minimum(whole, longest)], **settings)
        self.tokenizer = tokenizer
        self.pairs = pairs
        self.room = longest - added
        self.pad_id = pad_id
        self.label_kind = label_kind
        self.num_labels = num_labels

    def batch(self, examples: Sequence[int] | Any, epoch: int | None = None) -> LabelledBatch:
        """Return the padded batch of some examples; no epoch differs from another."""
        rows = [self.cache[int(example)] for example in examples]
        cut = (self.tokenizer.cut(row[0], row[1] if self.pairs else None, self.room) for row in rows)
        joined = [self.tokenizer.join(*texts) for texts in cut]
        texts = make_text_batch([ids for ids, _ in joined], [segments for _, segments in joined], pad_id=self.pad_id)
        return LabelledBatch(texts, label_tensor([row[2] for row in rows], self.label_kind, self.num_labels))


def label_tensor(labels: Sequence[Any], kind: str, num_labels: int) -> Shaped[Tensor, "batch ..."]:
    """Return stored labels as the loss wants them: numbers of classes, truths by class, or numbers.

    A text without a label has NOT_COUNTED, or NaN.
    """
    if kind == "one":
        return torch.tensor([NOT_COUNTED if int(one[0]) == NO_LABEL else int(one[0]) for one in labels])
    if kind == "several":
        truths = torch.zeros(len(labels), num_labels)
        for row, one in enumerate(labels):
            held = torch.as_tensor(np.asarray(one, np.int64))
            if NO_LABEL in held:
                truths[row] = math.nan
            else:
                truths[row, held] = 1.0
        return truths
    return torch.from_numpy(np.array([int(one[0]) for one in labels], np.uint32).view(np.float32).copy())
