"""Self-attention: every position looks over its own sequence (Vaswani et al. 2017, section 3.2.3)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.masks import EVERYTHING, Mask
from trasluz.layers.multi_head_attention import MultiHeadAttention


@dataclass
class KeyValueCache:
    """Keys and values of the positions decoded so far, in tensors allocated once.

    Shapes (rows, heads, capacity, head_dim); the first `length` positions are filled.
    """

    key: Float[Tensor, "rows heads capacity head_dim"]
    value: Float[Tensor, "rows heads capacity head_dim"]
    length: int = 0

    def append(self, new: KeyValue) -> KeyValue:
        """Write one more position and return views of all that is remembered."""
        end = self.length + new.key.shape[2]
        self.key[:, :, self.length : end] = new.key
        self.value[:, :, self.length : end] = new.value
        self.length = end
        return KeyValue(self.key[:, :, :end], self.value[:, :, :end])

    def select_rows(self, rows: Int[Tensor, " selected"]) -> None:
        """Keep these rows, in this order, repeats allowed."""
        if len(rows) == self.key.shape[0]:
            # The common case, a reordering of beams, touches only what is filled and allocates no new cache.
            for tensor in (self.key, self.value):
                filled = tensor[:, :, : self.length]
                filled.copy_(filled.index_select(0, rows))
        else:
            self.key = self.key.index_select(0, rows)
            self.value = self.value.index_select(0, rows)


class SelfAttention(MultiHeadAttention):
    """Multi-head attention of a sequence over itself."""

    def forward(self, x: Float[Tensor, "batch positions dim"], mask: Mask) -> Float[Tensor, "batch positions dim"]:
        """Let every position look over the whole sequence, as far as the mask allows."""
        return self.attend(x, self.remember(x), mask)

    def step(self, x: Float[Tensor, "rows 1 dim"], cache: KeyValueCache) -> Float[Tensor, "rows 1 dim"]:
        """Let one new position look over itself and all positions before it; the cache grows by it."""
        return self.attend(x, cache.append(self.remember(x)), EVERYTHING)

    def new_cache(self, rows: int, capacity: int, like: Tensor) -> KeyValueCache:
        """Allocate a cache for `rows` hypotheses of at most `capacity` positions, of the type and device of `like`."""
        shape = (rows, self.num_heads, capacity, self.key.out_features // self.num_heads)
        key, value = (torch.empty(shape, dtype=like.dtype, device=like.device) for _ in range(2))
        return KeyValueCache(key, value)
