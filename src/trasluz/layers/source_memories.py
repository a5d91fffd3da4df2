"""What all layers of a decoder remember of the sources of a search, while some leave and others join.

Where a kernel finds memories wherever they lie, those of sources that have left may stay for a while: copying what
remains at every departure would cost more. The mask says at which place the memory of each source lies.
"""

from jaxtyping import Int
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.encoder_decoder_attention import EncoderDecoderAttention
from trasluz.layers.masks import Mask

Memories = list[KeyValue]
"""Of each layer, (sources, heads, source, head_dim)."""


def of_sources(memories: Memories, mask: Mask, sources: Int[Tensor, " kept"]) -> tuple[Memories, Mask]:
    """Return what is remembered of these sources alone, and the mask that goes with it."""
    lengths, places = mask.key_lengths, mask.places
    assert lengths is not None
    mask = Mask(lengths[sources], places=sources if places is None else places[sources])
    may_stay = EncoderDecoderAttention.lies_in_rows(memories[0])
    most_are_needed = 2 * len(sources) > len(memories[0].key)
    return (memories, mask) if may_stay and most_are_needed else _moved_together(memories, mask)


def joined(memories: Memories, mask: Mask, others: Memories, other_mask: Mask) -> tuple[Memories, Mask]:
    """Return what is remembered of some sources and, behind them, of others."""
    memories, mask = _moved_together(memories, mask)
    return [one.join(other) for one, other in zip(memories, others, strict=True)], mask.join(other_mask)


def _moved_together(memories: Memories, mask: Mask) -> tuple[Memories, Mask]:
    if mask.places is None:
        return memories, mask
    return [memory.select(mask.places) for memory in memories], Mask(mask.key_lengths)
