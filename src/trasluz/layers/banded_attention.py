"""Banded self-attention: every position looks at itself and a few before it (Child et al. 2019, section 4.3).

    seen by position i:   i - band + 1, ..., i

What lies further back reaches a position through layers that see everything, or step by step through several bands. The
work grows with the length times the band, not with the square of the length.
"""

from jaxtyping import Float, Int
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.masks import Mask
from trasluz.layers.self_attention import SelfAttention


class BandedSelfAttention(SelfAttention):
    """Self-attention within a band, whatever else a mask hides."""

    def __init__(self, dim: int, num_heads: int, band: int, dropout: float = 0.0) -> None:
        super().__init__(dim, num_heads, dropout=dropout)
        self.band: int = band

    def look(
        self, projected_query: Tensor, memory: KeyValue, mask: Mask, kept: Int[Tensor, " kept"] | None = None
    ) -> Float[Tensor, "batch query dim"] | Float[Tensor, "kept dim"]:
        """Let projected queries look over what the band lets be seen of a remembered memory."""
        return super().look(projected_query, memory, mask.narrowed(self.band), kept)
