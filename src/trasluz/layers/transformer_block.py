"""The blocks of the Transformer (Vaswani et al. 2017, section 3.1 and figure 1), of parts given ready-made.

Encoder and decoder have one each; a decoder that stands alone (Liu et al. 2018, section 4.2.3) has the first of them,
of a sequence that grows.
"""

from collections.abc import Sequence
from functools import partial

from jaxtyping import Float, Int
from torch import Tensor, nn

from trasluz.layers.attention import KeyValue
from trasluz.layers.compiled_blocks import compiled_blocks, reading_blocks
from trasluz.layers.encoder_decoder_attention import EncoderDecoderAttention
from trasluz.layers.feed_forward import FeedForward
from trasluz.layers.gated_feed_forward import GatedFeedForward
from trasluz.layers.key_value_cache import KeyValueCache
from trasluz.layers.masks import Mask
from trasluz.layers.residual import PostNorm, PreNorm
from trasluz.layers.self_attention import SelfAttention

Residual = PostNorm | PreNorm
PositionWise = FeedForward | GatedFeedForward


class EncoderBlock(nn.Module):
    """Self-attention, then a feed-forward network, each on a residual path."""

    def __init__(
        self,
        self_attention: SelfAttention,
        feed_forward: PositionWise,
        self_attention_residual: Residual,
        feed_forward_residual: Residual,
    ) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.self_attention_residual = self_attention_residual
        self.feed_forward = feed_forward
        self.feed_forward_residual = feed_forward_residual

    def forward(
        self, x: Float[Tensor, "batch positions dim"], mask: Mask, kept: Int[Tensor, " kept"] | None = None
    ) -> Float[Tensor, "batch positions dim"] | Float[Tensor, "kept dim"]:
        """Return the positions' next states.

        Where only some are asked for, as above the last layer, `kept` are their places, counted over all rows: the
        others are looked at, and no more is computed of them.
        """
        x = self.self_attention_residual(x, lambda y: self.self_attention(y, mask, kept), kept)
        return self.feed_forward_residual(x, self.feed_forward)


class CausalBlock(EncoderBlock):
    """The block of a sequence that grows: what is given is read at once, then a position at a time."""

    def read_prompt(
        self, x: Float[Tensor, "sources positions dim"], cache: KeyValueCache
    ) -> Float[Tensor, "sources positions dim"]:
        """Return the next states of prompts, each position over those before it, and remember them."""
        x = self.self_attention_residual(x, lambda y: self.self_attention.read_prompt(y, cache))
        return self.feed_forward_residual(x, self.feed_forward)

    def step(self, x: Float[Tensor, "rows 1 dim"], cache: KeyValueCache) -> Float[Tensor, "rows 1 dim"]:
        """Return the next state of one new position a row."""
        x = self.self_attention_residual(x, lambda y: self.self_attention.step(y, cache))
        return self.feed_forward_residual(x, self.feed_forward)


class DecoderBlock(nn.Module):
    """Self-attention over the target, encoder-decoder attention over the source, then a feed-forward network."""

    def __init__(
        self,
        self_attention: SelfAttention,
        cross_attention: EncoderDecoderAttention,
        feed_forward: PositionWise,
        self_attention_residual: Residual,
        cross_attention_residual: Residual,
        feed_forward_residual: Residual,
    ) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.self_attention_residual = self_attention_residual
        self.cross_attention = cross_attention
        self.cross_attention_residual = cross_attention_residual
        self.feed_forward = feed_forward
        self.feed_forward_residual = feed_forward_residual

    def forward(
        self,
        x: Float[Tensor, "batch target dim"],
        memory: Float[Tensor, "batch source dim"],
        mask: Mask,
        memory_mask: Mask,
    ) -> Float[Tensor, "batch target dim"]:
        """Return the target positions' next states, all at once."""
        x = self.self_attention_residual(x, lambda y: self.self_attention(y, mask))
        x = self.cross_attention_residual(x, lambda y: self.cross_attention(y, memory, memory_mask))
        return self.feed_forward_residual(x, self.feed_forward)

    def step(
        self, x: Float[Tensor, "rows 1 dim"], cache: KeyValueCache, memory: KeyValue, memory_mask: Mask
    ) -> Float[Tensor, "rows 1 dim"]:
        """Return the next state of one new position a row."""
        x = self.self_attention_residual(x, lambda y: self.self_attention.step(y, cache))
        x = self.cross_attention_residual(x, lambda y: self.cross_attention.step(y, memory, memory_mask))
        return self.feed_forward_residual(x, self.feed_forward)


def read_through(
    blocks: Sequence[EncoderBlock], x: Float[Tensor, "batch positions dim"], mask: Mask
) -> Float[Tensor, "batch positions dim"]:
    """Return what the blocks, one after the other, make of all positions."""
    reading = reading_blocks(blocks, x, mask) if blocks else None
    if reading is not None:
        return reading(x, mask)
    for block in blocks:
        x = block(x, mask)
    return x


def step_through(
    blocks: Sequence[CausalBlock] | Sequence[DecoderBlock],
    x: Float[Tensor, "rows 1 dim"],
    caches: Sequence[KeyValueCache],
    memories: Sequence[KeyValue] | None = None,
    memory_mask: Mask | None = None,
) -> Float[Tensor, "rows 1 dim"]:
    """Return what the blocks, one after the other, make of one new position a row.

    Each has its own cache and, where there is a source to look at, its own memory of it.
    """
    compiled = compiled_blocks(blocks, x, caches, memories)
    usual = partial(_step_the_usual_way, blocks, caches=caches, memories=memories, memory_mask=memory_mask)
    if compiled is None:
        return usual(x, range(len(blocks)))
    place = 0
    for begin, end in compiled.unwatched():
        x = usual(x, range(place, begin))
        x = compiled.step(x, caches[0].lineage, memories, memory_mask, begin, end)
        place = end
    return usual(x, range(place, len(blocks)))


def _step_the_usual_way(
    blocks: Sequence[CausalBlock] | Sequence[DecoderBlock],
    x: Float[Tensor, "rows 1 dim"],
    places: range,
    *,
    caches: Sequence[KeyValueCache],
    memories: Sequence[KeyValue] | None,
    memory_mask: Mask | None,
) -> Float[Tensor, "rows 1 dim"]:
    for place in places:
        block, cache = blocks[place], caches[place]
        if isinstance(block, DecoderBlock):
            assert memories is not None and memory_mask is not None
            x = block.step(x, cache, memories[place], memory_mask)
        else:
            x = block.step(x, cache)
    return x
