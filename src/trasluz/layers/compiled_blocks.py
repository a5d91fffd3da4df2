"""Blocks as one compiled call, in place of their parts one after the other.

A decoder's make a step of the few rows of a search; an encoder's read texts, in eight bits. Where a part is none that
the kernel knows, or somebody watches, a block goes the usual way (`CausalBlock.step`, `DecoderBlock.step`,
`EncoderBlock.forward`).
"""

import ctypes
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trasluz.layers.attention import KeyValue
from trasluz.layers.banded_attention import BandedSelfAttention
from trasluz.layers.encoder_decoder_attention import EncoderDecoderAttention
from trasluz.layers.feed_forward import FeedForward
from trasluz.layers.int8 import Int8Linear, compiled_product
from trasluz.layers.kernels import LANES, kernels_for
from trasluz.layers.kernels.block_step import (
    ACTIVATION_NUMBERS,
    Block,
    Matrix,
    Memory,
    Norm,
    Past,
    blocks_read,
    blocks_step,
    matrix_of,
    matrix_of_int8,
    norm_of,
)
from trasluz.layers.kernels.few_rows import takes_few_rows
from trasluz.layers.key_value_cache import KeyValueCache, Lineage
from trasluz.layers.linear import Linear, is_bare
from trasluz.layers.masks import Mask
from trasluz.layers.residual import PostNorm, PreNorm
from trasluz.layers.self_attention import SelfAttention

if TYPE_CHECKING:
    from trasluz.layers.transformer_block import CausalBlock, DecoderBlock, EncoderBlock

Blocks = Sequence["CausalBlock"] | Sequence["DecoderBlock"]
Memories = Sequence[KeyValue]
"""What each block looks at beside its own past; it lies as a projection leaves it."""


class CompiledBlocks:
    """Attention, feed-forward networks and their norms, described to the kernel once for all steps of a search.

    The lineage of the search has it, and so is not had by it: what neither lets go of would stay.
    """

    def __init__(self, blocks: Blocks, caches: Sequence[KeyValueCache]) -> None:
        self._attentions = [_attentions(block) for block in blocks]
        self.num_slots = caches[0].lineage.num_slots
        """How many slots the caches had; once they have more, they lie elsewhere."""
        self._dtype = caches[0].key.dtype
        # One past a band: it is the same for all blocks that look back equally far.
        bands = [block.self_attention.band for block in blocks]
        self._bands = list(dict.fromkeys(bands))
        described = [
            _described(block, cache, self._bands.index(band))
            for block, cache, band in zip(blocks, caches, bands, strict=True)
        ]
        self._blocks = (Block * len(blocks))(*described)
        self._kept = [*(one for cache in caches for one in (cache.key, cache.value)), *_all_tensors(blocks)]
        # Of the memories that were looked at last: themselves, their mask, for how many rows, and how they are told.
        self._told: tuple[Memories, Mask, int, Any] | None = None
        self._can_be_told: tuple[Memories, bool] | None = None

    def unwatched(self) -> Iterator[tuple[int, int]]:
        """Yield where stretches of blocks begin and end that nobody wants to see the attention of."""
        begin = 0
        for place, attentions in enumerate(self._attentions):
            for attention in attentions:
                if attention.tap is not None:
                    if begin < place:
                        yield begin, place
                    begin = place + 1
        if begin < len(self._attentions):
            yield begin, len(self._attentions)

    def can_look_at(self, memories: Memories) -> bool:
        """Tell whether memories lie as the kernel wants them."""
        if self._can_be_told is None or self._can_be_told[0] is not memories:
            self._can_be_told = memories, all(map(EncoderDecoderAttention.lies_in_rows, memories))
        return self._can_be_told[1]

    def step(
        self,
        x: Float[Tensor, "rows 1 dim"],
        lineage: Lineage,
        memories: Memories | None,
        mask: Mask | None,
        begin: int,
        end: int,
    ) -> Float[Tensor, "rows 1 dim"]:
        """Return what the blocks from `begin` up to `end` make of one new position a row, and remember it.

        The lineage, theirs, has been advanced.
        """
        blocks, told = self._blocks, None
        if memories is not None and mask is not None:
            told = self._tell(memories, mask, len(x))
        if end - begin < len(blocks):
            blocks, told = _cut(blocks, begin, end), told and _cut(told, begin, end)
        return blocks_step(blocks, self._pasts(lineage), told, x)

    def _pasts(self, lineage: Lineage) -> Any:
        pasts = []
        for band in self._bands:
            (first, count), slots = lineage.spans(band), lineage.slots(band)
            table = (None, 0) if slots is None else (slots.data_ptr(), slots.stride(0))
            pasts.append(Past(lineage.written, *table, first.data_ptr(), lineage.rows_at_start, count.data_ptr()))
        return (Past * len(pasts))(*pasts)

    def _tell(self, memories: Memories, mask: Mask, rows: int) -> Any:
        """Return where memories lie: once for all steps between which nobody leaves or comes."""
        if self._told is None or self._told[0] is not memories or self._told[1] is not mask or self._told[2] != rows:
            assert all(one.dtype == self._dtype for memory in memories for one in memory)
            # The mask keeps the spans.
            spans = [one.data_ptr() for one in mask.spans(memories[0].key.shape[2], rows)]
            told = [Memory(*(one.data_ptr() for one in memory), *spans) for memory in memories]
            self._told = memories, mask, rows, (Memory * len(told))(*told)
        return self._told[3]


def compiled_blocks(
    blocks: Blocks, x: Float[Tensor, "rows 1 dim"], caches: Sequence[KeyValueCache], memories: Memories | None = None
) -> CompiledBlocks | None:
    """Return blocks as the kernel has them, to make a step from `x`; None where they go the usual way.

    They are the same ones at all steps of a lineage.
    """
    if not caches[0].can_attend(x) or any(block.training for block in blocks):
        return None
    lineage = caches[0].lineage
    if lineage.compiled is None or lineage.compiled.num_slots != lineage.num_slots:
        if not all(map(_is_known, blocks)) or len({cache.key.dtype for cache in caches}) > 1:
            return None
        # What it keeps is let go of, before there is more room made.
        lineage.compiled = None
        for cache in caches:
            cache.make_room()
        lineage.compiled = CompiledBlocks(blocks, caches)
    if memories is not None and not lineage.compiled.can_look_at(memories):
        return None
    # Of floats, many rows go faster through a library; in eight bits everything goes through a kernel of ours.
    query: Any = blocks[0].self_attention.query
    return None if isinstance(query, Linear) and not takes_few_rows(x, query.weight) else lineage.compiled


class ReadingBlocks:
    """An encoder's blocks in eight bits, described to the kernel."""

    def __init__(self, blocks: Sequence["EncoderBlock"]) -> None:
        self._kept = _all_tensors(blocks)
        self._blocks = (Block * len(blocks))(*map(_described, blocks))

    def __call__(self, x: Float[Tensor, "batch positions dim"], mask: Mask) -> Float[Tensor, "batch positions dim"]:
        """Return the states of all positions; those outside of texts mean nothing."""
        batch, positions = x.shape[:2]
        _, texts = mask.stretches(batch, positions, positions)
        return blocks_read(self._blocks, texts, x)


def reading_blocks(
    blocks: Sequence["EncoderBlock"], x: Float[Tensor, "batch positions dim"], mask: Mask
) -> ReadingBlocks | None:
    """Return blocks as the kernel has them, to read `x`; None where they go the usual way."""
    if kernels_for(x) is None or not x.numel() or mask.causal or mask.band is not None:
        return None
    if any(block.training or _is_watched(block) for block in blocks):
        return None
    return ReadingBlocks(blocks) if all(map(_is_known_to_read, blocks)) else None


def _is_known_to_read(block: Any) -> bool:
    attention = block.self_attention
    return _is_known(block) and attention.band is None and type(attention.query) is Int8Linear


def _is_watched(block: Any) -> bool:
    return any(one.tap is not None for one in _attentions(block))


def _all_tensors(blocks: Sequence[Any]) -> list[Tensor]:
    """Return what is pointed at: it must stay, even where a layer is given other weights meanwhile."""
    parts = [part for block in blocks for part in (*_linears(block), *_norms(block))]
    return [tensor for part in parts for tensor in _tensors(part)]


def _described(block: Any, cache: KeyValueCache | None = None, past: int = 0) -> Block:
    matrices, norms = [_matrix(linear) for linear in _linears(block)], [norm_of(norm) for norm in _norms(block)]
    cross = (norms[1], *matrices[4:6]) if len(norms) == 3 else (Norm(), Matrix(), Matrix())
    return Block(
        *(norms[0], *matrices[:4], *cross, norms[-1], *matrices[-2:]),
        *(block.self_attention.num_heads, ACTIVATION_NUMBERS[str(block.feed_forward.activation)]),
        *(type(block.feed_forward_residual) is PreNorm, cache is not None and cache.key.dtype == torch.bfloat16, past),
        *((None, None) if cache is None else (cache.key.data_ptr(), cache.value.data_ptr())),
    )


def _cut(array: Any, begin: int, end: int) -> Any:
    """Return some elements of an array of ctypes as an array that shares their memory."""
    kind = array._type_ * (end - begin)
    return kind.from_buffer(array, begin * ctypes.sizeof(array._type_))


def _attentions(block: Any) -> tuple[Any, ...]:
    cross = getattr(block, "cross_attention", None)
    return (block.self_attention,) if cross is None else (block.self_attention, cross)


def _residuals(block: Any) -> tuple[Any, ...]:
    parts = ("self_attention_residual", "cross_attention_residual", "feed_forward_residual")
    return tuple(getattr(block, part) for part in parts if hasattr(block, part))


def _is_known(block: Any) -> bool:
    attention, feed_forward = block.self_attention, block.feed_forward
    if type(attention) not in (SelfAttention, BandedSelfAttention) or type(feed_forward) is not FeedForward:
        return False
    if attention.positions is not None or attention.head_dim % LANES:
        return False
    kinds = {type(residual) for residual in _residuals(block)}
    if (
        len(kinds) > 1
        or not kinds <= {PreNorm, PostNorm}
        or not all(type(norm) is nn.LayerNorm for norm in _norms(block))
    ):
        return False
    sizes = (attention.query.in_features, feed_forward.expand.out_features)
    return (
        feed_forward.activation in ACTIVATION_NUMBERS
        and all(one.num_heads == one.num_memory_heads == attention.num_heads for one in _attentions(block))
        and all(size % LANES == 0 for size in sizes)
        and all(_is_known_linear(linear) for linear in _linears(block))
    )


def _is_known_linear(linear: nn.Module) -> bool:
    if type(linear) is Int8Linear:
        return compiled_product(linear) is not None
    return is_bare(linear) and all(tensor.is_contiguous() for tensor in _tensors(linear))


def _linears(block: Any) -> tuple[Any, ...]:
    attention, *cross, feed_forward = *_attentions(block), block.feed_forward
    of_cross = [linear for one in cross for linear in (one.query, one.output)]
    of_attention = (attention.query, attention.key, attention.value, attention.output)
    return *of_attention, *of_cross, feed_forward.expand, feed_forward.contract


def _norms(block: Any) -> tuple[nn.LayerNorm, ...]:
    return tuple(residual.norm for residual in _residuals(block))


def _tensors(part: Any) -> list[Tensor]:
    product = compiled_product(part)
    if product is not None:
        return [*product.parts]
    return [tensor.detach() for tensor in (part.weight, part.bias) if tensor is not None]


def _matrix(linear: Any) -> Matrix:
    product = compiled_product(linear)
    return matrix_of(linear.weight, linear.bias) if product is None else matrix_of_int8(product)
