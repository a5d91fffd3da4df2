"""Attention: a query looks over a memory and takes a weighted sum of what it finds.

    weights = softmax(scores(query, key))        over the keys that the mask lets be seen
    context = weights @ value

What differs between kinds (additive, multi-head) is how queries and memory are projected and how a score is made. That
is what a subclass writes; looking, remembering and being recorded are written once, here.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trasluz.layers.block_weights import BlockWeights
from trasluz.layers.kept_rows import kept_rows
from trasluz.layers.masks import Mask


class KeyValue(NamedTuple):
    """A memory made ready to be looked at; the batch is axis 0 of both, positions are the last but one."""

    key: Tensor
    value: Tensor

    def of(self, dtype: torch.dtype) -> "KeyValue":
        """Return the same in another type, or itself where that is its own."""
        return KeyValue(self.key.to(dtype), self.value.to(dtype))

    def select(self, sources: Int[Tensor, " sources"]) -> "KeyValue":
        """Return the memories of these sources, laid out as they were."""
        return KeyValue(_select(self.key, sources), _select(self.value, sources))

    def join(self, other: "KeyValue") -> "KeyValue":
        """Return these memories and others behind them, laid out as these; the shorter ones have zeros at their end."""
        return KeyValue(*(_join(*both) for both in zip(self, other, strict=True)))


def _select(x: Tensor, sources: Int[Tensor, " sources"]) -> Tensor:
    if _lies_in_rows(x):
        return x.transpose(1, 2).index_select(0, sources).transpose(1, 2)
    return x.index_select(0, sources)


def _join(x: Tensor, other: Tensor) -> Tensor:
    if _lies_in_rows(x):
        return _padded_behind(x.transpose(1, 2), other.transpose(1, 2), axis=1).transpose(1, 2)
    return _padded_behind(x, other, axis=x.dim() - 2)


def _padded_behind(x: Tensor, other: Tensor, axis: int) -> Tensor:
    """Join along axis 0, with zeros along another where one of them is shorter."""
    shape = list(x.shape)
    shape[0] += len(other)
    shape[axis] = max(x.shape[axis], other.shape[axis])
    joined = x.new_empty(shape)
    for part, own in ((joined[: len(x)], x), (joined[len(x) :], other)):
        length = own.shape[axis]
        part.narrow(axis, 0, length).copy_(own)
        part.narrow(axis, length, shape[axis] - length).zero_()
    return joined


def _lies_in_rows(x: Tensor) -> bool:
    """Tell whether positions come before heads, as a projection leaves them."""
    return x.dim() == 4 and x.transpose(1, 2).is_contiguous()


AttentionTap = Callable[[Float[Tensor, "batch heads query key"] | BlockWeights], None]
"""Who wants to see: called with the weights of each `attend`, which are computed beside the kernel that runs."""


class Attention(nn.Module, ABC):
    """The frame of every kind of attention."""

    tap: AttentionTap | None = None
    num_heads: int = 1

    @abstractmethod
    def remember(self, memory: Float[Tensor, "batch key memory_dim"]) -> KeyValue:
        """Project what will be looked at; the caller keeps the result."""

    @abstractmethod
    def project_query(self, query: Float[Tensor, "batch query dim"]) -> Tensor:
        """Project who looks."""

    def placed(self, projected: Tensor, first: int) -> Tensor:
        """Put into projected queries or keys where they stand, the first of them at position `first`.

        This is where positions that act inside attention enter; here there are none.
        """
        return projected

    @abstractmethod
    def weights(self, projected_query: Tensor, key: Tensor, mask: Mask) -> Float[Tensor, "batch heads query key"]:
        """Return the attention weights written out: each row sums to 1, or to 0 where nothing may be seen."""

    def weights_held(
        self, projected_query: Tensor, key: Tensor, mask: Mask
    ) -> Float[Tensor, "batch heads query key"] | BlockWeights:
        """Return the attention weights as they are recorded: attention over few keys holds no zeros."""
        return self.weights(projected_query, key, mask)

    @abstractmethod
    def context(
        self, projected_query: Tensor, memory: KeyValue, mask: Mask
    ) -> Float[Tensor, "batch query context_dim"]:
        """Return the weighted sums, by whichever kernel is fastest here."""

    def context_of(
        self, projected_query: Tensor, memory: KeyValue, mask: Mask, kept: Int[Tensor, " kept"]
    ) -> Float[Tensor, "kept context_dim"]:
        """Return the weighted sums of some queries alone, by their places among those of all rows."""
        return kept_rows(self.context(projected_query, memory, mask), kept)

    def attend(
        self, query: Float[Tensor, "batch query dim"], memory: KeyValue, mask: Mask
    ) -> Float[Tensor, "batch query context_dim"]:
        """Let the queries look over a remembered memory."""
        # Queries stand at the end of the keys, as they do for a mask.
        return self.look(self.placed(self.project_query(query), memory.key.shape[-2] - query.shape[1]), memory, mask)

    def attend_from_rows(
        self, hidden: Float[Tensor, "rows hidden_dim"], memory: KeyValue, mask: Mask
    ) -> Float[Tensor, "rows context_dim"]:
        """Let one state of every row look over its source; the beams of a source are extra queries of it."""
        # They stand in no order, so that nothing is to be placed.
        beams_as_queries = self.project_query(hidden.reshape(memory.key.shape[0], -1, hidden.shape[-1]))
        return self.look(beams_as_queries, memory, mask).reshape(hidden.shape[0], -1)

    def look(
        self, projected_query: Tensor, memory: KeyValue, mask: Mask, kept: Int[Tensor, " kept"] | None = None
    ) -> Float[Tensor, "batch query context_dim"] | Float[Tensor, "kept context_dim"]:
        """Let projected queries look over a remembered memory, and who wants to see it see.

        Where only some contexts are asked for, `kept` are their places, counted over the queries of all rows.
        """
        if self.tap is not None:
            with torch.no_grad():
                self.tap(self.weights_held(projected_query, memory.key, mask))
        if kept is None:
            return self.context(projected_query, memory, mask)
        return self.context_of(projected_query, memory, mask, kept)


@contextlib.contextmanager
def tapped(attention: Attention, tap: AttentionTap) -> Iterator[None]:
    """Let `tap` see the attention's weights within the block, after whoever sees them already."""
    before = attention.tap

    def tap_both(weights: Float[Tensor, "batch heads query key"] | BlockWeights) -> None:
        if before is not None:
            before(weights)
        tap(weights)

    attention.tap = tap_both
    try:
        yield
    finally:
        attention.tap = before


def masked_softmax(
    scores: Float[Tensor, "batch heads query key"], mask: Mask
) -> Float[Tensor, "batch heads query key"]:
    """Return the softmax over the keys that may be seen; a query that may see none gets zeros, never NaN."""
    num_queries, num_keys = scores.shape[-2:]
    if mask.sees_everything(num_queries, num_keys):
        return scores.softmax(-1)
    seen = mask.dense(num_queries, num_keys, scores.device)[:, None]
    weights = scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(-1)
    if mask.hides_everything_somewhere():
        weights = weights.masked_fill(~seen, 0.0)
    return weights
