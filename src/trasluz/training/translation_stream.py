"""The updates of a translator: pairs in either direction, and in the pieces of the epoch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, Integer

from trasluz.text.batching import TranslationBatch, make_batch
from trasluz.text.piece_dropout import drop_pieces
from trasluz.text.token_cache import TokenCache
from trasluz.training.stream import ExampleStream

Parents = Int32[np.ndarray, "vocab 2"]


class TranslationStream(ExampleStream[TranslationBatch]):
    """Sentence pairs; the cache's columns are source, target and place.

    With `tags`, every pair gives two examples: number 2k is pair k as it stands, 2k + 1 the other way round; a tag
    before the source says where to: `tags` are the ids for those two. Only one of them is used where a side begins with
    `back_translated`, the tag of what a model wrote: that side is read. With `piece_dropout`, the tables of what the
    pieces of either side were made of and a probability, no epoch cuts a sentence quite like another (see
    piece_dropout.py).
    """

    added = 1

    def __init__(
        self,
        cache: TokenCache,
        files: Sequence[str],
        *,
        pad_id: int,
        start_id: int,
        eos_id: int,
        tags: tuple[int, int] | None,
        back_translated: int | None = None,
        piece_dropout: tuple[Parents, Parents, float] | None = None,
        **settings: Any,
    ) -> None:
        """Take the cache and what batches need; `settings` are those of every stream."""
        source, target = cache.lengths("source"), cache.lengths("target")
        lengths = [source, target]
        self._used: Integer[np.ndarray, "examples"] | None = None
        if tags:
            # Two examples a pair, side by side; the tag is one more source token.
            lengths = [_interleave(source + 1, target + 1), _interleave(target, source)]
            if back_translated is not None:
                by_model = [cache.begins_with(name, back_translated) for name in ("source", "target")]
                self._used = np.flatnonzero(_interleave(~by_model[1], ~by_model[0]))
                lengths = [column[self._used] for column in lengths]
        super().__init__(cache, files, lengths, **settings)
        self.ids = {"pad_id": pad_id, "start_id": start_id, "eos_id": eos_id}
        self.tags = tags
        self.piece_dropout = piece_dropout

    def batch(self, examples: Sequence[int] | Any, epoch: int | None = None) -> TranslationBatch:
        """Return the padded batch of some examples, as they are cut in this epoch (None: as they are stored)."""
        pairs = [self.example(int(example), epoch) for example in examples]
        return make_batch([source for source, _ in pairs], [target for _, target in pairs], **self.ids)

    def example(self, example: int, epoch: int | None = None) -> tuple[Any, Any]:
        """Return the ids of one example: the source with its tag, and the target."""
        source, target = self.cache[self._row(example)][:2]
        if self.piece_dropout and epoch is not None:
            of_source, of_target, probability = self.piece_dropout
            generator = np.random.default_rng([self.seed, epoch, example])
            source = drop_pieces(source, of_source, probability, generator)
            target = drop_pieces(target, of_target, probability, generator)
        if not self.tags:
            return source, target
        turned = self._number(example) % 2
        if turned:
            source, target = target, source
        return np.concatenate(([self.tags[turned]], source)), target

    def _row(self, example: int) -> int:
        return self._number(example) // 2 if self.tags else example

    def _number(self, example: int) -> int:
        return example if self._used is None else int(self._used[example])


def _interleave(even: np.ndarray, odd: np.ndarray) -> np.ndarray:
    joined = np.empty(2 * len(even), dtype=even.dtype)
    joined[0::2] = even
    joined[1::2] = odd
    return joined
