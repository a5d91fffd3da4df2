"""Additive attention (Bahdanau, Cho and Bengio 2015, section 3.1 and appendix A.1.2).

scores(t, i) = v^T tanh(W s_{t-1} + U h_i)
weights(t, .) = softmax(scores(t, .));   context(t) = sum_i weights(t, i) h_i
"""

from jaxtyping import Float
from torch import Tensor

from trasluz.layers.attention import Attention, KeyValue, masked_softmax
from trasluz.layers.linear import Linear
from trasluz.layers.masks import Mask


class AdditiveAttention(Attention):
    """One attention whose score is a small feed-forward network of query and key."""

    def __init__(self, query_dim: int, memory_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.query = Linear(query_dim, attention_dim, bias=False)
        self.key = Linear(memory_dim, attention_dim)
        self.score = Linear(attention_dim, 1, bias=False)

    def remember(self, memory: Float[Tensor, "batch key memory_dim"]) -> KeyValue:
        """Compute U h once; the values are the states themselves."""
        return KeyValue(self.key(memory), memory)

    def project_query(self, query: Float[Tensor, "batch query dim"]) -> Float[Tensor, "batch query attention_dim"]:
        """Compute W s."""
        return self.query(query)

    def weights(
        self,
        projected_query: Float[Tensor, "batch query attention_dim"],
        key: Float[Tensor, "batch key attention_dim"],
        mask: Mask,
    ) -> Float[Tensor, "batch heads query key"]:
        """Return the alignment of every query; one head."""
        # (batch, query, key, attention_dim) would not fit for whole sequences: callers ask for a few queries at a time.
        hidden = (projected_query[:, :, None] + key[:, None]).tanh()
        return masked_softmax(self.score(hidden).squeeze(-1)[:, None], mask)

    def context(
        self, projected_query: Float[Tensor, "batch query attention_dim"], memory: KeyValue, mask: Mask
    ) -> Float[Tensor, "batch query memory_dim"]:
        """Return the expected annotation of every query."""
        return self.weights(projected_query, memory.key, mask).squeeze(1) @ memory.value
