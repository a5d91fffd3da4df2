"""Block-sparse attention as it runs: blocks of keys are gathered for each block of queries.

What is computed stands in `layers/block_sparse_attention.py`. Blocks of queries are gone over in pieces, and no weights
are kept for the backward pass, which computes them again: time and memory are linear in the length. Each block of
queries is as good as a text of its own, so that on a CPU the compiled kernel for these does the work.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, scaled_dot_product_attention

from trasluz.layers.block_pattern import BlockPattern
from trasluz.layers.block_weights import BlockWeights
from trasluz.layers.dot_product_attention import dot_product_attention
from trasluz.layers.dropout import keep_mask
from trasluz.layers.kernels import drawn_seed
from trasluz.layers.kernels.text_attention import TextCall, contexts_of_texts, gradients_of_texts, takes_texts
from trasluz.layers.masks import Mask

# As many scores at once as a core's cache holds along with keys and values; a GPU wants more to do.
_SCORES_ON_CPU = 1 << 19
_SCORES_ON_GPU = 1 << 26


def block_sparse_attention(
    query: Float[Tensor, "batch heads positions head_dim"],
    key: Float[Tensor, "batch heads positions head_dim"],
    value: Float[Tensor, "batch heads positions head_dim"],
    lengths: Int[Tensor, " batch"],
    pattern: BlockPattern,
    dropout_probability: float = 0.0,
) -> Float[Tensor, "batch heads positions head_dim"]:
    """Return the context of every query; `dropout_probability` falls on the weights. Rows of padding are zeros.

    `lengths` are those of the texts, wherever they lie in memory; what is behind them is not looked at.
    """
    batch, heads, positions, head_dim = query.shape
    size, most = pattern.block_size, pattern.num_blocks(positions)
    counts = -(-lengths.cpu() // size)
    blocked = [_in_blocks(part, size) for part in (query, key, value)]
    rows, whole = _rows_of(lengths.cpu(), counts, heads, most, pattern, query.device)
    found = _SparseRows.apply(*blocked, rows, dropout_probability)  # type: ignore[no-untyped-call]
    # The global blocks of a text, one behind the other, look over all of it.
    places = whole.clamp(min=0)
    shape = (batch, heads, places.shape[-1] * size, head_dim)
    looking = blocked[0].index_select(0, places.flatten()).view(shape)
    all_seen = dot_product_attention(looking, key, value, Mask(lengths), dropout_probability)
    # A text of few blocks has fewer global ones than there is room for; what is left over goes into a row of its own.
    target = torch.where(whole < 0, len(found), whole).flatten()
    found = torch.cat([found, found.new_zeros(1, size, head_dim)])
    found = found.index_copy(0, target, all_seen.reshape(-1, size, head_dim))[:-1]
    found = found.view(batch, heads, most * size, head_dim)[:, :, :positions]
    there = torch.arange(positions, device=query.device) < lengths.to(query.device)[:, None]
    return found.masked_fill(~there[:, None, :, None], 0.0)


def held_weights(
    query: Float[Tensor, "batch heads positions head_dim"],
    key: Float[Tensor, "batch heads positions head_dim"],
    lengths: Int[Tensor, " batch"],
    pattern: BlockPattern,
) -> BlockWeights:
    """Return the weights as blocks, from gathered keys: memory is linear in the length. Rows of padding are zeros."""
    batch, heads, positions, head_dim = query.shape
    size, most = pattern.block_size, pattern.num_blocks(positions)
    there = (torch.arange(most * size) < lengths.cpu()[:, None]).to(query.device)
    of_text = there.view(batch, 1, most, size, 1).expand(-1, heads, -1, -1, -1).reshape(-1, size, 1)
    blocked = [_in_blocks(part, size) for part in (query, key)]
    rows, whole = _rows_of(lengths.cpu(), -(-lengths.cpu() // size), heads, most, pattern, query.device)
    nothing = torch.empty(0, dtype=torch.long, device=query.device)
    values, at, columns = [query.new_empty(0, size, size)], [nothing], [nothing]
    for piece in _pieces(rows, blocked[0]):
        own, seen = piece.own, piece.seen
        weights = _weights(blocked[0].index_select(0, own), _gather(blocked[1], seen), piece.hidden) * of_text[own]
        weights = weights.unflatten(2, (-1, size)).transpose(1, 2)
        looked = torch.ones_like(seen, dtype=torch.bool)
        if piece.hidden is not None:
            looked = ~piece.hidden.unflatten(1, (-1, size)).all(-1)
        values.append(weights[looked])
        at.append(own[:, None].expand_as(seen)[looked])
        columns.append(seen[looked] % most)
    # Row by row: each stays in a core's cache, where one product of them all takes a fifth more time and memory.
    looking, text = whole[whole >= 0], (whole >= 0).nonzero()[:, 0]
    memory = blocked[1].view(batch, heads, most * size, head_dim)
    for own, keys, seen in zip(looking, memory.flatten(0, 1)[looking // most], there[text], strict=True):
        weights = _weights(blocked[0][own][None], keys[None], ~seen[None])[0] * of_text[own]
        values.append(weights.unflatten(1, (most, size)).transpose(0, 1))
        at.append(own.expand(most))
        columns.append(torch.arange(most, device=query.device))
    shape = (batch, heads, positions, positions)
    return BlockWeights(torch.cat(values), torch.cat(at), torch.cat(columns), shape)


class _Rows(NamedTuple):
    """Which blocks of queries look over a few blocks only, and what each looks over; rows count batch, head, block.

    Of the positions of these blocks, one behind the other, only the first `visible` may be seen; `hides` tells whether
    any is hidden.
    """

    own: Int[Tensor, " rows"]
    seen: Int[Tensor, "rows seen"]
    visible: Int[Tensor, " rows"]
    hides: bool


def _in_blocks(part: Float[Tensor, "batch heads positions head_dim"], size: int) -> Float[Tensor, "rows size head_dim"]:
    return pad(part, (0, 0, 0, -part.shape[2] % size)).reshape(-1, size, part.shape[3])


def _rows_of(
    lengths: Int[Tensor, " batch"],
    counts: Int[Tensor, " batch"],
    heads: int,
    most: int,
    pattern: BlockPattern,
    device: torch.device,
) -> tuple[_Rows, Int[Tensor, "batch heads global_blocks"]]:
    """Return the rows that look over a few blocks, and the rows of the global blocks, -1 where a text has none more."""
    size = pattern.block_size
    slots = pattern.slots(counts, heads, most)
    base = torch.arange(len(lengths) * heads).view(-1, heads, 1) * most
    block = torch.arange(most)
    sparse = (block >= pattern.num_first) & (block < (counts - pattern.num_last)[:, None, None])
    sparse = sparse.expand(-1, heads, -1)
    own = (base + block)[sparse]
    seen = (base[..., None] + slots.blocks)[sparse]
    # Whole blocks first, then the text's last, which need not be whole, then what is not in use.
    there = (lengths[:, None, None, None] - slots.blocks * size).clamp(0, size).masked_fill(~slots.used, 0)[sparse]
    assert (((there > 0) & (there < size)).sum(-1) <= 1).all(), "what is hidden stands behind all that is visible"
    there, order = there.sort(dim=-1, descending=True, stable=True)
    seen, visible = seen.gather(1, order), there.sum(-1)
    first = torch.arange(pattern.num_first).expand(len(lengths), -1)
    last = counts[:, None] - pattern.num_last + torch.arange(pattern.num_last)
    whole = torch.cat(
        [first.masked_fill(first >= counts[:, None], -1), last.masked_fill(last < pattern.num_first, -1)], dim=1
    )
    whole = torch.where(whole[:, None] < 0, -1, base + whole[:, None])
    hides = bool((visible < seen.shape[1] * size).any())
    return _Rows(own.to(device), seen.to(device), visible.to(device), hides), whole.to(device)


class _SparseRows(torch.autograd.Function):
    """The rows that look over a few blocks, a piece at a time; other rows of the result are zeros."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, rows: _Rows, dropout_probability: float) -> Tensor:
        found = torch.zeros_like(query)
        # Drawn once, so that the backward pass can drop the same again, piece by piece.
        seed = drawn_seed() if dropout_probability else 0
        for piece in _pieces(rows, query, seed, dropout_probability):
            found.index_copy_(0, piece.own, piece.contexts(*piece.gathered(query, key, value)))
        ctx.save_for_backward(query, key, value, found)
        ctx.call = rows, seed, dropout_probability
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, found = ctx.saved_tensors
        for_query, for_key, for_value = (torch.zeros_like(part) for part in (query, key, value))
        rows, seed, dropout_probability = ctx.call
        for piece in _pieces(rows, query, seed, dropout_probability):
            looking, keys, values = piece.gathered(query, key, value)
            given, context = gradients[0].index_select(0, piece.own), found.index_select(0, piece.own)
            of_query, of_key, of_value = piece.gradients(looking, keys, values, given, context)
            for_query.index_copy_(0, piece.own, of_query.view_as(looking))
            for target, part in ((for_key, of_key), (for_value, of_value)):
                target.index_add_(0, piece.seen.flatten(), part.view(-1, *target.shape[1:]))
        return for_query, for_key, for_value, None, None


@dataclass(frozen=True)
class _Piece:
    """Rows that are computed at once: see `_Rows`."""

    own: Int[Tensor, " rows"]
    seen: Int[Tensor, "rows seen"]
    visible: Int[Tensor, " rows"]
    hidden: Bool[Tensor, "rows seen_positions"] | None
    seed: int
    dropout_probability: float

    def gathered(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries of these rows, and the keys and values that each looks over, one behind the other."""
        return query.index_select(0, self.own), _gather(key, self.seen), _gather(value, self.seen)

    def contexts(self, looking: Tensor, keys: Tensor, values: Tensor) -> Float[Tensor, "rows size head_dim"]:
        """Return the contexts of all rows."""
        if takes_texts(looking[:, None], keys[:, None], values[:, None]):
            query, key, value = map(_as_texts, (looking, keys, values))
            return contexts_of_texts(query, key, value, self._call(looking, keys)).view_as(looking)
        if self.dropout_probability:
            return torch.bmm(self._dropped(_weights(looking, keys, self.hidden)), values)
        seen = None if self.hidden is None else ~self.hidden[:, None, None]
        return scaled_dot_product_attention(looking[:, None], keys[:, None], values[:, None], seen)[:, 0]

    def gradients(
        self, looking: Tensor, keys: Tensor, values: Tensor, gradient: Tensor, context: Tensor
    ) -> Sequence[Tensor]:
        """Return the gradients of queries, keys and values, given that of the contexts."""
        if takes_texts(looking[:, None], keys[:, None], values[:, None]):
            query, key, value, given = map(_as_texts, (looking, keys, values, gradient))
            return gradients_of_texts(query, key, value, given, self._call(looking, keys))
        weights = _weights(looking, keys, self.hidden)
        for_weights, kept = torch.bmm(gradient, values.transpose(1, 2)), weights
        if self.dropout_probability:
            for_weights, kept = self._dropped(for_weights), self._dropped(weights)
        # softmax backward: w (dw - sum of w dw), and that sum is the context times its own gradient.
        for_scores = for_weights.sub_((gradient * context).sum(-1, keepdim=True)).mul_(weights)
        for_scores = for_scores.mul_(looking.shape[-1] ** -0.5)
        return (
            torch.bmm(for_scores, keys),
            torch.bmm(for_scores.transpose(1, 2), looking),
            torch.bmm(kept.transpose(1, 2), gradient),
        )

    def _call(self, looking: Tensor, keys: Tensor) -> TextCall:
        (rows, queries), seen = looking.shape[:2], keys.shape[1]
        number = torch.arange(rows)
        stretches = number * queries, torch.full((rows,), queries), number * seen, self.visible
        return TextCall(stretches, seed=self.seed, dropout_probability=self.dropout_probability)

    def _dropped(self, weights: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[] if weights.is_cpu else [weights.device]):
            torch.manual_seed(self.seed)
            kept = keep_mask(weights, self.dropout_probability)
        return weights * kept.to(weights.dtype).div_(1.0 - self.dropout_probability)


def _pieces(rows: _Rows, query: Tensor, seed: int = 0, dropout_probability: float = 0.0) -> Iterator[_Piece]:
    size, width = query.shape[1], rows.seen.shape[1] * query.shape[1]
    at_once = max((_SCORES_ON_CPU if query.is_cpu else _SCORES_ON_GPU) // (size * max(width, 1)), 1)
    for number, start in enumerate(range(0, len(rows.own), at_once)):
        part = slice(start, start + at_once)
        visible, hidden = rows.visible[part], None
        if rows.hides and not (query.is_cpu and (visible == width).all()):
            hidden = torch.arange(width, device=query.device) >= visible[:, None]
        # A kernel adds places to the lower half of a seed: pieces differ in the upper one.
        yield _Piece(
            rows.own[part], rows.seen[part], visible, hidden, (seed + (number << 32)) % (1 << 63), dropout_probability
        )


def _as_texts(rows: Float[Tensor, "rows positions head_dim"]) -> Tensor:
    """Lay the rows one behind the other, as the kernel takes them: batch, positions, heads, head_dim."""
    return rows.reshape(1, -1, 1, rows.shape[-1])


def _gather(blocks: Tensor, at: Int[Tensor, "rows seen"]) -> Float[Tensor, "rows seen_positions head_dim"]:
    return blocks.index_select(0, at.flatten()).view(len(at), -1, blocks.shape[-1])


def _weights(looking: Tensor, keys: Tensor, hidden: Tensor | None) -> Tensor:
    scores = torch.bmm(looking * looking.shape[-1] ** -0.5, keys.transpose(1, 2))
    if hidden is not None:
        scores.masked_fill_(hidden[:, None], -math.inf)
    return scores.softmax(-1)
