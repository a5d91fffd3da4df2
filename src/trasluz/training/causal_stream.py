"""The updates of a model that continues texts: windows over all documents, which lie end to end.

    a b </s> c d e </s>   windows of 3 from the fourth place on:   d e </s>   a b </s>   and what is cut off: c

The documents are a ring: before the first stands the end of the last. Each epoch begins at a place of its own, cuts as
many whole windows as there are, and shuffles them. Every token is to be guessed once an epoch, but for fewer than a
window's that are cut off, elsewhere in each. A window has one token more before it: what its first token follows. A
document that begins within a window sees nothing of the one before (`make_window_batch`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer

from trasluz.text.batching import CausalBatch, make_window_batch
from trasluz.text.token_cache import TokenCache
from trasluz.training.stream import ExampleStream, Order


class ShuffledWindows:
    """The updates of one epoch, as arrays of numbers of windows; equal arguments, equal order."""

    def __init__(self, num_windows: int, windows_an_update: int, seed: int, epoch: int) -> None:
        self._order = np.random.default_rng([seed, epoch, 1]).permutation(num_windows)
        self._windows_an_update = windows_an_update

    def __len__(self) -> int:
        return -(-len(self._order) // self._windows_an_update)

    def __getitem__(self, index: int) -> Integer[np.ndarray, "_"]:
        begin = range(len(self))[index] * self._windows_an_update
        return self._order[begin : begin + self._windows_an_update]


class CausalStream(ExampleStream[CausalBatch]):
    """Windows over documents; the cache's columns are ids, each row's last the end of a document, and place."""

    def __init__(
        self, cache: TokenCache, files: Sequence[str], *, window_length: int, end_id: int, **settings: Any
    ) -> None:
        """Take the cache and what windows need; `settings` are those of every stream.

        Where there are fewer tokens than a window holds, all of them are one.
        """
        self.num_tokens = cache.num_ids("ids")
        self.window_length = min(window_length, self.num_tokens)
        self.end_id = end_id
        count = self.num_tokens // self.window_length
        super().__init__(cache, files, [np.full(count, self.window_length, np.int32)], **settings)

    def batch(self, examples: Sequence[int] | Any, epoch: int | None = None) -> CausalBatch:
        """Return the batch of some windows, as they lie in this epoch (None: from the first token on)."""
        begins = self._begin(epoch) + np.asarray(examples, np.int64) * self.window_length
        # One before: what the first token of a window follows.
        places = (begins[:, None] + np.arange(-1, self.window_length)) % self.num_tokens
        return make_window_batch(self.cache.ids_at("ids", places), end_id=self.end_id)

    def places(self, epoch: int, index: int) -> list[str]:
        """Return file:line of the document in which each window of an update begins."""
        begins = self._begin(epoch) + self._order_of(epoch)[index] * self.window_length
        return [self.place(self.cache.row_of("ids", int(begin % self.num_tokens))) for begin in begins]

    def _begin(self, epoch: int | None) -> int:
        """Return the token with which the first window of an epoch begins."""
        return 0 if epoch is None else int(np.random.default_rng([self.seed, epoch]).integers(self.num_tokens))

    def _draw_order(self, epoch: int) -> Order:
        at_once = max(1, self.batch_tokens // self.window_length)
        return ShuffledWindows(self.num_examples, at_once, self.seed, epoch)
