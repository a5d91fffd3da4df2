"""Block-sparse attention (BigBird; Zaheer et al. 2020): every query looks over a fixed number of keys, however long.

    weights[q, k] = n(q, k) exp(score[q, k]) / sum over k' of n(q, k') exp(score[q, k'])

n(q, k) is how many times the block of k stands among what the block of q looks over (`layers/block_pattern.py`): 0 or
1, more only where a pattern names a block again. Written twice: `block_sparse_weights` writes n out and is the
definition; `block_sparse_attention` gathers the blocks and is what runs. It goes over the blocks of queries in pieces
and keeps no weights for the backward pass, which computes them again: time and memory are linear in the length.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from trasluz.layers.attention import KeyValue
from trasluz.layers.block_pattern import BlockPattern
from trasluz.layers.block_weights import BlockWeights
from trasluz.layers.dot_product_attention import dot_product_attention, join_heads
from trasluz.layers.dropout import keep_mask
from trasluz.layers.masks import Mask
from trasluz.layers.self_attention import SelfAttention

# As many scores at once as a core's cache holds along with keys and values; a GPU wants more to do.
_SCORES_ON_CPU = 1 << 19
_SCORES_ON_GPU = 1 << 26


class BlockSparseAttention(SelfAttention):
    """Self-attention over the blocks of a pattern; texts of up to `dense_up_to` positions are looked over whole.

    Row by row: what a text of a batch gets depends on its own length alone.
    """

    def __init__(
        self, dim: int, num_heads: int, pattern: BlockPattern, dense_up_to: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__(dim, num_heads, dropout=dropout)
        self.pattern = pattern
        self.dense_up_to = dense_up_to

    def weights(
        self,
        projected_query: Float[Tensor, "batch heads query head_dim"],
        key: Float[Tensor, "batch heads key head_dim"],
        mask: Mask,
    ) -> Float[Tensor, "batch heads query key"]:
        """Return what each head of each query attends to, written out: zeros where it does not look."""
        lengths = _lengths(mask, len(key), key.shape[2])
        weights = block_sparse_weights(projected_query, key, lengths, self.pattern)
        short = lengths <= self.dense_up_to
        if short.any():
            weights[short] = super().weights(projected_query[short], key[short], Mask(lengths[short]))
        return weights

    def weights_held(
        self,
        projected_query: Float[Tensor, "batch heads query head_dim"],
        key: Float[Tensor, "batch heads key head_dim"],
        mask: Mask,
    ) -> Float[Tensor, "batch heads query key"] | BlockWeights:
        """Return what each head of each query attends to, without the blocks where it does not look."""
        lengths = _lengths(mask, len(key), key.shape[2])
        short = lengths <= self.dense_up_to
        held = held_weights(projected_query, key, lengths.masked_fill(short, 0), self.pattern)
        if not short.any():
            return held
        rows, longest = short.nonzero()[:, 0], int(lengths[short].max())
        query, key = projected_query[short, :, :longest], key[short, :, :longest]
        return held.joined(rows, super().weights(query, key, Mask(lengths[short])))

    def context(
        self, projected_query: Float[Tensor, "batch heads query head_dim"], memory: KeyValue, mask: Mask
    ) -> Float[Tensor, "batch query dim"]:
        """Return the heads' contexts, joined and mixed."""
        probability = self.dropout if self.training else 0.0
        lengths = _lengths(mask, len(memory.key), memory.key.shape[2])
        short = lengths <= self.dense_up_to
        if not short.any():
            found = block_sparse_attention(projected_query, *memory, lengths, self.pattern, probability)
        elif short.all():
            found = dot_product_attention(projected_query, *memory, mask, probability)
        else:
            found, long = torch.empty_like(projected_query), ~short
            query, key, value = projected_query, memory.key, memory.value
            found[short] = dot_product_attention(
                query[short], key[short], value[short], Mask(lengths[short]), probability
            )
            found[long] = block_sparse_attention(
                query[long], key[long], value[long], lengths[long], self.pattern, probability
            )
        return self.output(join_heads(found))


def _lengths(mask: Mask, batch: int, num_keys: int) -> Int[Tensor, " batch"]:
    assert not mask.causal and mask.texts is None, "blocks are those of one text that is there as a whole"
    if mask.key_lengths is None:
        return torch.full((batch,), num_keys)
    return mask.key_lengths.clamp(max=num_keys)


def block_sparse_weights(
    query: Float[Tensor, "batch heads positions head_dim"],
    key: Float[Tensor, "batch heads positions head_dim"],
    lengths: Int[Tensor, " batch"],
    pattern: BlockPattern,
) -> Float[Tensor, "batch heads positions positions"]:
    """Return the weights over all positions, by their definition; memory grows with the square of the length.

    Rows of padding are zeros.
    """
    heads, positions, head_dim = query.shape[1:]
    times = _times_seen(lengths.cpu(), heads, positions, pattern).to(query.device)
    scores = (query / math.sqrt(head_dim)) @ key.transpose(-1, -2) + times.to(query.dtype).log()
    there = torch.arange(positions, device=query.device) < lengths.to(query.device)[:, None]
    scores = scores.masked_fill(~there[:, None, :, None], 0.0)
    return scores.softmax(-1).masked_fill(~there[:, None, :, None], 0.0)


def _times_seen(
    lengths: Int[Tensor, " batch"], heads: int, positions: int, pattern: BlockPattern
) -> Int[Tensor, "batch heads positions positions"]:
    size, most = pattern.block_size, pattern.num_blocks(positions)
    counts = pattern.num_blocks(1) * (-(-lengths // size))
    slots = pattern.slots(counts, heads, most)
    times = torch.zeros(len(lengths), heads, most, most, dtype=torch.long)
    times.scatter_add_(3, slots.blocks, slots.used.long())
    for row, count in enumerate(counts.tolist()):
        for block in (*range(min(pattern.num_first, count)), *range(max(count - pattern.num_last, 0), count)):
            times[row, :, block, :count] = 1
    times = times.repeat_interleave(size, 2).repeat_interleave(size, 3)[:, :, :positions, :positions]
    return times.masked_fill(torch.arange(positions) >= lengths[:, None, None, None], 0)


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
        own, seen = piece.at[0][:, 0], piece.at[1]
        weights = _weights(_gather(blocked[0], piece.at[0]), _gather(blocked[1], seen), piece.hidden) * of_text[own]
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
    """Which blocks of queries look over a few blocks only, and what each looks over; rows count batch, head, block."""

    own: Int[Tensor, " rows"]
    seen: Int[Tensor, "rows seen"]
    hidden: Bool[Tensor, "rows seen_positions"] | None


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
    place = slots.blocks[..., None] * size + torch.arange(size)
    hidden = (~slots.used[..., None] | (place >= lengths[:, None, None, None, None])).flatten(3)[sparse]
    first = torch.arange(pattern.num_first).expand(len(lengths), -1)
    last = counts[:, None] - pattern.num_last + torch.arange(pattern.num_last)
    whole = torch.cat(
        [first.masked_fill(first >= counts[:, None], -1), last.masked_fill(last < pattern.num_first, -1)], dim=1
    )
    whole = torch.where(whole[:, None] < 0, -1, base + whole[:, None])
    rows = _Rows(own.to(device), seen.to(device), hidden.to(device) if hidden.any() else None)
    return rows, whole.to(device)


class _SparseRows(torch.autograd.Function):
    """The rows that look over a few blocks, a piece at a time; other rows of the result are zeros."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, rows: _Rows, dropout_probability: float) -> Tensor:
        found = torch.zeros_like(query)
        # Drawn once, so that the backward pass can draw the same bits again, piece by piece.
        seed = int(torch.randint(1 << 62, ())) if dropout_probability else 0
        for number, piece in enumerate(_pieces(rows, query)):
            looking, keys, values = (_gather(part, at) for part, at in zip((query, key, value), piece.at, strict=True))
            if dropout_probability:
                weights = _weights(looking, keys, piece.hidden)
                weights = weights * _dropped(weights, dropout_probability, seed + number)
                context = torch.bmm(weights, values)
            else:
                seen = None if piece.hidden is None else ~piece.hidden[:, None, None]
                context = scaled_dot_product_attention(looking[:, None], keys[:, None], values[:, None], seen)[:, 0]
            found.index_copy_(0, piece.at[0][:, 0], context)
        ctx.save_for_backward(query, key, value, found)
        ctx.rows, ctx.dropout_probability, ctx.seed = rows, dropout_probability, seed
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, found = ctx.saved_tensors
        rows, scale = ctx.rows, query.shape[-1] ** -0.5
        for_query, for_key, for_value = (torch.zeros_like(part) for part in (query, key, value))
        for number, piece in enumerate(_pieces(rows, query)):
            looking, keys, values = (_gather(part, at) for part, at in zip((query, key, value), piece.at, strict=True))
            own = piece.at[0][:, 0]
            gradient, context = gradients[0].index_select(0, own), found.index_select(0, own)
            weights = _weights(looking, keys, piece.hidden)
            for_weights = torch.bmm(gradient, values.transpose(1, 2))
            kept = weights
            if ctx.dropout_probability:
                mask = _dropped(weights, ctx.dropout_probability, ctx.seed + number)
                kept, for_weights = weights * mask, for_weights * mask
            # softmax backward: w (dw - sum of w dw), and that sum is the context times its own gradient.
            for_scores = for_weights.sub_((gradient * context).sum(-1, keepdim=True)).mul_(weights).mul_(scale)
            for_query.index_copy_(0, own, torch.bmm(for_scores, keys))
            for target, part in (
                (for_key, torch.bmm(for_scores.transpose(1, 2), looking)),
                (for_value, torch.bmm(kept.transpose(1, 2), gradient)),
            ):
                target.index_add_(0, piece.at[1].flatten(), part.view(-1, *target.shape[1:]))
        return for_query, for_key, for_value, None, None


class _Piece(NamedTuple):
    """Rows that are computed at once: where their queries, keys and values lie, and which of the keys are hidden."""

    at: tuple[Tensor, Tensor, Tensor]
    hidden: Tensor | None


def _pieces(rows: _Rows, query: Tensor) -> list[_Piece]:
    size = query.shape[1]
    scores_a_row = size * size * max(rows.seen.shape[1], 1)
    at_once = max((_SCORES_ON_CPU if query.is_cpu else _SCORES_ON_GPU) // scores_a_row, 1)
    found = []
    for start in range(0, len(rows.own), at_once):
        part = slice(start, start + at_once)
        hidden = None if rows.hidden is None else rows.hidden[part]
        if hidden is not None and hidden.is_cpu and not hidden.any():
            hidden = None
        found.append(_Piece((rows.own[part, None], rows.seen[part], rows.seen[part]), hidden))
    return found


def _gather(blocks: Tensor, at: Int[Tensor, "rows seen"]) -> Float[Tensor, "rows seen_positions head_dim"]:
    return blocks.index_select(0, at.flatten()).view(len(at), -1, blocks.shape[-1])


def _weights(looking: Tensor, keys: Tensor, hidden: Tensor | None) -> Tensor:
    scores = torch.bmm(looking * looking.shape[-1] ** -0.5, keys.transpose(1, 2))
    if hidden is not None:
        scores.masked_fill_(hidden[:, None], -math.inf)
    return scores.softmax(-1)


def _dropped(like: Tensor, probability: float, seed: int) -> Tensor:
    """Return what weights are multiplied with: 0, or what makes up for those that are."""
    with torch.random.fork_rng(devices=[] if like.is_cpu else [like.device]):
        torch.manual_seed(seed)
        return keep_mask(like, probability).to(like.dtype).div_(1.0 - probability)
