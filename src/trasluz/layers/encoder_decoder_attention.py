"""Encoder-decoder attention: target positions look over the encoder's states (Vaswani et al. 2017, section 3.2.3).

While decoding, the beams of a source are extra queries of that source, so its memory is held once and never widened.
"""

from jaxtyping import Float
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.masks import Mask
from trasluz.layers.multi_head_attention import MultiHeadAttention


class EncoderDecoderAttention(MultiHeadAttention):
    """Multi-head attention of one sequence over another."""

    def forward(
        self,
        x: Float[Tensor, "batch target dim"],
        memory: Float[Tensor, "batch source memory_dim"],
        mask: Mask,
    ) -> Float[Tensor, "batch target dim"]:
        """Let every target position look over the source."""
        return self.attend(x, self.remember(memory), mask)

    def step(self, x: Float[Tensor, "rows 1 dim"], memory: KeyValue, mask: Mask) -> Float[Tensor, "rows 1 dim"]:
        """Let one new position of every row look over its source; rows are sources times beams."""
        num_sources = memory.key.shape[0]
        beams_as_queries = x.reshape(num_sources, -1, x.shape[-1])
        return self.attend(beams_as_queries, memory, mask).reshape(x.shape)
