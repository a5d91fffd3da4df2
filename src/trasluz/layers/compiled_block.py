"""A decoder's block as one compiled step, in place of its parts one after the other: for the few rows of a search.

Where a part is none that the kernel knows, or somebody watches, the block goes the usual way (`CausalBlock.step`,
`DecoderBlock.step`).
"""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trasluz.layers.attention import KeyValue
from trasluz.layers.banded_attention import BandedSelfAttention
from trasluz.layers.feed_forward import FeedForward
from trasluz.layers.int8 import Int8Linear
from trasluz.layers.kernels import LANES
from trasluz.layers.kernels.block_step import (
    ACTIVATION_NUMBERS,
    Block,
    Matrix,
    Memory,
    Norm,
    Past,
    block_step,
    matrix_of,
    matrix_of_int8,
    norm_of,
)
from trasluz.layers.kernels.few_rows import takes_few_rows
from trasluz.layers.kernels.int8_product import CompiledProduct
from trasluz.layers.key_value_cache import KeyValueCache
from trasluz.layers.linear import Linear, is_bare
from trasluz.layers.masks import Mask
from trasluz.layers.residual import PostNorm, PreNorm
from trasluz.layers.self_attention import SelfAttention

if TYPE_CHECKING:
    from trasluz.layers.transformer_block import CausalBlock, DecoderBlock


class CompiledBlock:
    """Attention, feed-forward network and their norms, described to the kernel once for all steps of a search."""

    def __init__(self, block: "CausalBlock | DecoderBlock", cache: KeyValueCache) -> None:
        linears, norms = _linears(block), _norms(block)
        # What is pointed at must stay, even where a layer is given other weights meanwhile.
        self._kept = [cache.key, cache.value, *(tensor for part in (*linears, *norms) for tensor in _tensors(part))]
        matrices, norm_parts = [_matrix(linear) for linear in linears], [norm_of(norm) for norm in norms]
        cross = (norm_parts[1], *matrices[4:6]) if len(norms) == 3 else (Norm(), Matrix(), Matrix())
        self._block = Block(
            *(norm_parts[0], *matrices[:4], *cross, norm_parts[-1], *matrices[-2:]),
            *(block.self_attention.num_heads, ACTIVATION_NUMBERS[str(block.feed_forward.activation)]),
            *(type(block.feed_forward_residual) is PreNorm, cache.key.dtype == torch.bfloat16),
            *(cache.key.data_ptr(), cache.value.data_ptr()),
        )
        self._lineage, self._band = cache.lineage, block.self_attention.band

    def step(
        self, x: Float[Tensor, "rows 1 dim"], memory: KeyValue | None = None, mask: Mask | None = None
    ) -> Float[Tensor, "rows 1 dim"]:
        """Return the next state of one new position a row, and remember it; the lineage has been advanced.

        `memory` and its `mask` are what a block looks at beside its own past; it lies as a projection leaves it.
        """
        lineage = self._lineage
        (first, count), slots = lineage.spans(self._band), lineage.slots()
        if slots is not None and self._band is not None:
            slots = slots[:, -self._band :]
        table = (None, 0) if slots is None else (slots.data_ptr(), slots.stride(0))
        past = Past(lineage.written, *table, first.data_ptr(), lineage.rows_at_start, count.data_ptr())
        if memory is None or mask is None:
            return block_step(self._block, past, None, x)
        spans = mask.spans(memory.key.shape[2], len(x))
        assert memory.key.dtype == memory.value.dtype == self._kept[0].dtype
        looked_at = Memory(*(one.data_ptr() for one in (*memory, *spans)))
        return block_step(self._block, past, looked_at, x)


def compiled_block(
    block: "CausalBlock | DecoderBlock", x: Float[Tensor, "rows 1 dim"], cache: KeyValueCache
) -> CompiledBlock | None:
    """Return a block as the kernel has it, to make a step from `x`; None where the block goes the usual way."""
    if any(one.tap is not None for one in _attentions(block)) or block.training or not cache.can_attend(x):
        return None
    cache.make_room()
    if cache.compiled is None:
        if not _is_known(block):
            return None
        cache.compiled = CompiledBlock(block, cache)
    # Of floats, many rows go faster through a library; in eight bits everything goes through a kernel of ours.
    query: Any = block.self_attention.query
    if isinstance(query, Linear) and not takes_few_rows(x, query.weight):
        return None
    return cache.compiled


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
    if attention.positions is not None or attention.num_memory_heads != attention.num_heads:
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
        and all(one.num_heads == attention.num_heads for one in _attentions(block))
        and all(size % LANES == 0 for size in sizes)
        and all(_is_known_linear(linear) for linear in _linears(block))
    )


def _is_known_linear(linear: nn.Module) -> bool:
    if isinstance(linear, Int8Linear):
        return isinstance(linear.product, CompiledProduct)
    return is_bare(linear) and all(tensor.is_contiguous() for tensor in _tensors(linear))


def _linears(block: Any) -> tuple[Any, ...]:
    attention, *cross, feed_forward = *_attentions(block), block.feed_forward
    of_cross = [linear for one in cross for linear in (one.query, one.output)]
    of_attention = (attention.query, attention.key, attention.value, attention.output)
    return *of_attention, *of_cross, feed_forward.expand, feed_forward.contract


def _norms(block: Any) -> tuple[nn.LayerNorm, ...]:
    return tuple(residual.norm for residual in _residuals(block))


def _tensors(part: Any) -> list[Tensor]:
    if type(part) is Int8Linear:
        return [*_compiled(part).parts]
    return [tensor.detach() for tensor in (part.weight, part.bias) if tensor is not None]


def _matrix(linear: Any) -> Matrix:
    return matrix_of_int8(_compiled(linear)) if type(linear) is Int8Linear else matrix_of(linear.weight, linear.bias)


def _compiled(linear: Int8Linear) -> CompiledProduct:
    assert isinstance(linear.product, CompiledProduct)
    return linear.product
