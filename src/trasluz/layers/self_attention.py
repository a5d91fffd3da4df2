"""Self-attention: every position looks over its own sequence (Vaswani et al. 2017, section 3.2.3)."""

from jaxtyping import Float, Int
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.dot_product_attention import split_heads
from trasluz.layers.key_value_cache import KeyValueCache, Lineage
from trasluz.layers.linear import linears
from trasluz.layers.masks import CAUSAL, Mask
from trasluz.layers.multi_head_attention import MultiHeadAttention
from trasluz.layers.rotary_positions import RotaryPositions


class SelfAttention(MultiHeadAttention):
    """Multi-head attention of a sequence over itself.

    `positions` act inside attention, where there are such; all layers of a model may share them. More arguments:
    `MultiHeadAttention`.
    """

    band: int | None = None
    """How many positions each one sees at most, itself included; None: all that the mask allows."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        dropout: float = 0.0,
        *,
        num_memory_heads: int | None = None,
        bias: bool = True,
        positions: RotaryPositions | None = None,
    ) -> None:
        super().__init__(dim, num_heads, dropout=dropout, num_memory_heads=num_memory_heads, bias=bias)
        self.positions = positions

    def placed(
        self, projected: Float[Tensor, "batch heads positions head_dim"], first: int
    ) -> Float[Tensor, "batch heads positions head_dim"]:
        """Put into queries or keys where they stand."""
        return projected if self.positions is None else self.positions(projected, first)

    def forward(
        self, x: Float[Tensor, "batch positions dim"], mask: Mask, kept: Int[Tensor, " kept"] | None = None
    ) -> Float[Tensor, "batch positions dim"] | Float[Tensor, "kept dim"]:
        """Let every position look over the whole sequence, as far as the mask allows.

        Where only some contexts are asked for, `kept` are their places, counted over all rows.
        """
        query, key, value = linears(x, (self.query, self.key, self.value))
        query, key = (self.placed(one, 0) for one in (split_heads(query, self.num_heads), self._memory_heads(key)))
        return self.look(query, KeyValue(key, self._memory_heads(value)), mask, kept)

    def _memory_heads(self, projected: Tensor) -> Float[Tensor, "batch memory_heads positions head_dim"]:
        return split_heads(projected, self.num_memory_heads)

    def read_prompt(
        self, x: Float[Tensor, "sources positions dim"], cache: KeyValueCache
    ) -> Float[Tensor, "sources positions dim"]:
        """Let every position of the prompts look over those before it, and remember them all for the steps to come."""
        prompt = self.remember(x)
        cache.write_prompt(prompt)
        return self.attend(x, prompt, CAUSAL)

    def step(self, x: Float[Tensor, "rows 1 dim"], cache: KeyValueCache) -> Float[Tensor, "rows 1 dim"]:
        """Let one new position look over itself and all positions before it; the cache's lineage has been advanced."""
        key, value = (self._memory_heads(project(x)) for project in (self.key, self.value))
        cache.write(KeyValue(self.placed(key, cache.newest).squeeze(2), value.squeeze(2)))
        if self.tap is None and cache.can_attend(x):
            query = self.placed(self.project_query(x), cache.newest).squeeze(2)
            return self.output(cache.attend(query, self.band).reshape(x.shape))
        return self.attend(x, cache.read().of(x.dtype), cache.lineage.mask())

    def new_cache(self, lineage: Lineage, like: Tensor) -> KeyValueCache:
        """Allocate a cache for the prompts and steps of a lineage, of the type and device of `like`."""
        shape = (lineage.num_slots, self.num_memory_heads, self.head_dim)
        dtype = self.remembered_dtype(like)
        key, value = (like.new_empty(shape, dtype=dtype) for _ in range(2))
        return KeyValueCache(key, value, lineage)
