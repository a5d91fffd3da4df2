"""Encoder-decoder attention: target positions look over the encoder's states (Vaswani et al. 2017, section 3.2.3).

While decoding, the beams of a source are extra queries of that source, so its memory is held once and never widened.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.dot_product_attention import split_heads
from trasluz.layers.int8 import compiled_product
from trasluz.layers.kernels.attention_step import attention_step, can_step
from trasluz.layers.kernels.block_step import remember
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

    def remember_for_steps(self, memory: Float[Tensor, "sources source memory_dim"]) -> KeyValue:
        """Project what every step will look at, laid out as the steps want it."""
        found = self.remember(memory).of(self.remembered_dtype(memory))
        return found if can_step(memory, self.head_dim) else KeyValue(found.key.contiguous(), found.value.contiguous())

    @staticmethod
    def lies_in_rows(memory: KeyValue) -> bool:
        """Tell whether a memory lies as a projection leaves it, the heads of a position side by side."""
        return all(one.transpose(1, 2).is_contiguous() for one in memory)

    def step(self, x: Float[Tensor, "rows 1 dim"], memory: KeyValue, mask: Mask) -> Float[Tensor, "rows 1 dim"]:
        """Let one new position of every row look over its source; rows are sources times beams."""
        if self.tap is not None or not can_step(x, self.head_dim) or not self.lies_in_rows(memory):
            own = memory if mask.places is None else memory.select(mask.places)
            beams_as_queries = x.reshape(own.key.shape[0], -1, x.shape[-1])
            return self.attend(beams_as_queries, own.of(x.dtype), mask).reshape(x.shape)
        first, count = mask.spans(memory.key.shape[2], len(x))
        query = self.query(x).view(-1, self.num_heads, self.head_dim)
        key, value = (one.transpose(1, 2) for one in memory)
        return self.output(attention_step(query, key, value, count, first=first).view_as(x))


def remember_for_steps(
    attentions: Sequence[EncoderDecoderAttention], memory: Float[Tensor, "sources source memory_dim"]
) -> list[KeyValue]:
    """Project what the attention of every layer will look at; in eight bits at once, and as bfloat16 from the first."""
    found = [compiled_product(linear) for one in attentions for linear in (one.key, one.value)]
    products = [product for product in found if product is not None]
    if not products or len(products) < len(found) or not all(can_step(memory, one.head_dim) for one in attentions):
        return [one.remember_for_steps(memory) for one in attentions]
    both = iter(remember(products, memory))
    return [KeyValue(*(split_heads(next(both), one.num_memory_heads) for _ in range(2))) for one in attentions]
