"""Multiplicative attention, the "general" score of Luong, Pham and Manning 2015 (section 3.1).

scores(t, i) = s_t^T W h_i;   weights(t, .) = softmax(scores(t, .));   context(t) = sum_i weights(t, i) h_i
"""

import torch
from jaxtyping import Float
from torch import Tensor

from trasluz.layers.attention import Attention, KeyValue, masked_softmax
from trasluz.layers.linear import Linear
from trasluz.layers.masks import Mask


class MultiplicativeAttention(Attention):
    """One attention whose score is a product of query and key: many queries look at once."""

    def __init__(self, query_dim: int, memory_dim: int) -> None:
        super().__init__()
        self.key = Linear(memory_dim, query_dim, bias=False)

    def remember(self, memory: Float[Tensor, "batch key memory_dim"]) -> KeyValue:
        """Compute W h once; the values are the states themselves."""
        return KeyValue(self.key(memory), memory)

    def project_query(self, query: Float[Tensor, "batch query dim"]) -> Float[Tensor, "batch query dim"]:
        """Return the queries: they are compared as they are."""
        return query

    def weights(
        self, projected_query: Float[Tensor, "batch query dim"], key: Float[Tensor, "batch key dim"], mask: Mask
    ) -> Float[Tensor, "batch heads query key"]:
        """Return the alignment of every query, in float32; one head."""
        # Scores grow with the width, and are not divided by its root: of bfloat16's eight bits too few would be left.
        with torch.autocast(key.device.type, enabled=False):
            scores = projected_query.float() @ key.float().transpose(1, 2)
        return masked_softmax(scores[:, None], mask)

    def context(
        self, projected_query: Float[Tensor, "batch query dim"], memory: KeyValue, mask: Mask
    ) -> Float[Tensor, "batch query memory_dim"]:
        """Return the expected state of every query."""
        return self.weights(projected_query, memory.key, mask).squeeze(1).to(memory.value.dtype) @ memory.value
