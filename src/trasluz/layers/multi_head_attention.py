"""Multi-head attention (Vaswani et al. 2017, section 3.2.2): small attentions side by side, each with its own view.

    head_i = softmax(Q W_i^Q (K W_i^K)^T / sqrt(d_head)) V W_i^V
    MultiHead(Q, K, V) = [head_1; ...; head_h] W^O

Several views may look at the same keys and values (grouped queries, Ainslie et al. 2023, section 2.2): there are then
fewer W^K and W^V than W^Q, and as many times less has to be remembered. One for all is multi-query attention (Shazeer
2019).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.layers.attention import Attention, KeyValue
from trasluz.layers.dot_product_attention import dot_product_attention, dot_product_weights, join_heads, split_heads
from trasluz.layers.int8 import Int8Linear
from trasluz.layers.kept_rows import kept_rows
from trasluz.layers.kernels.attention_step import can_step
from trasluz.layers.linear import Linear, linears
from trasluz.layers.masks import Mask


class MultiHeadAttention(Attention):
    """`num_heads` attentions over a memory that need not be as wide as the queries.

    `num_memory_heads` are the heads of keys and values, each for a group of heads side by side; as many as `num_heads`
    where not given.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        memory_dim: int | None = None,
        dropout: float = 0.0,
        *,
        num_memory_heads: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_memory_heads = num_memory_heads or num_heads
        self.head_dim = dim // num_heads
        self.dropout = dropout
        remembered_dim = self.num_memory_heads * self.head_dim
        self.query = Linear(dim, dim, bias)
        self.key = Linear(memory_dim or dim, remembered_dim, bias)
        self.value = Linear(memory_dim or dim, remembered_dim, bias)
        self.output = Linear(dim, dim, bias)

    def remember(self, memory: Float[Tensor, "batch key memory_dim"]) -> KeyValue:
        """Project keys and values, heads forward."""
        key, value = (split_heads(one, self.num_memory_heads) for one in linears(memory, (self.key, self.value)))
        return KeyValue(self.placed(key, 0), value)

    def remembered_dtype(self, like: Tensor) -> torch.dtype:
        """Return the type of what is remembered for many steps of a search.

        Beside weights of eight bits it is bfloat16: with many rows, what is remembered is most of what a step reads.
        """
        in_eight_bits = any(isinstance(part, Int8Linear) for part in self.children())
        return torch.bfloat16 if in_eight_bits and can_step(like, self.head_dim) else like.dtype

    def project_query(self, query: Float[Tensor, "batch query dim"]) -> Float[Tensor, "batch heads query head_dim"]:
        """Project queries, heads forward."""
        return split_heads(self.query(query), self.num_heads)

    def weights(
        self,
        projected_query: Float[Tensor, "batch heads query head_dim"],
        key: Float[Tensor, "batch memory_heads key head_dim"],
        mask: Mask,
    ) -> Float[Tensor, "batch heads query key"]:
        """Return what each head of each query attends to."""
        return dot_product_weights(projected_query, key, mask)

    def context(
        self, projected_query: Float[Tensor, "batch heads query head_dim"], memory: KeyValue, mask: Mask
    ) -> Float[Tensor, "batch query dim"]:
        """Return the heads' contexts, joined and mixed."""
        return self.output(join_heads(self.contexts_of_heads(projected_query, memory, mask)))

    def context_of(
        self,
        projected_query: Float[Tensor, "batch heads query head_dim"],
        memory: KeyValue,
        mask: Mask,
        kept: Int[Tensor, " kept"],
    ) -> Float[Tensor, "kept dim"]:
        """Return the contexts of some queries alone: the others are not mixed."""
        joined = join_heads(self.contexts_of_heads(projected_query, memory, mask))
        return self.output(kept_rows(joined, kept))

    def contexts_of_heads(
        self, projected_query: Float[Tensor, "batch heads query head_dim"], memory: KeyValue, mask: Mask
    ) -> Float[Tensor, "batch heads query head_dim"]:
        """Return each head's contexts."""
        return dot_product_attention(projected_query, *memory, mask, self.dropout if self.training else 0.0)
