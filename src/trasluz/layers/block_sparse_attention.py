"""Block-sparse attention (BigBird; Zaheer et al. 2020): every query looks over a fixed number of keys, however long.

    weights[q, k] = n(q, k) exp(score[q, k]) / sum over k' of n(q, k') exp(score[q, k'])

n(q, k) is how many times the block of k stands among what the block of q looks over (`layers/block_pattern.py`): 0 or
1, more only where a pattern names a block again. Written twice: `block_sparse_weights` writes n out and is the
definition; `layers/gathered_blocks.py` gathers the blocks and is what runs.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.block_pattern import BlockPattern
from trasluz.layers.block_weights import BlockWeights
from trasluz.layers.dot_product_attention import dot_product_attention
from trasluz.layers.gathered_blocks import block_sparse_attention, held_weights
from trasluz.layers.masks import Mask
from trasluz.layers.self_attention import SelfAttention


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

    def contexts_of_heads(
        self, projected_query: Float[Tensor, "batch heads query head_dim"], memory: KeyValue, mask: Mask
    ) -> Float[Tensor, "batch heads query head_dim"]:
        """Return each head's contexts."""
        probability = self.dropout if self.training else 0.0
        lengths = _lengths(mask, len(memory.key), memory.key.shape[2])
        short = lengths <= self.dense_up_to
        if not short.any():
            return block_sparse_attention(projected_query, *memory, lengths, self.pattern, probability)
        if short.all():
            return dot_product_attention(projected_query, *memory, mask, probability)
        found, long = torch.empty_like(projected_query), ~short
        query, key, value = projected_query, memory.key, memory.value
        found[short] = dot_product_attention(query[short], key[short], value[short], Mask(lengths[short]), probability)
        found[long] = block_sparse_attention(
            query[long], key[long], value[long], lengths[long], self.pattern, probability
        )
        return found


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
