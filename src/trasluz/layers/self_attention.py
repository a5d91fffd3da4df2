"""Self-attention: every position looks over its own sequence (Vaswani et al. 2017, section 3.2.3)."""

from jaxtyping import Float
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.key_value_cache import KeyValueCache, Lineage
from trasluz.layers.masks import CAUSAL, EVERYTHING, Mask
from trasluz.layers.multi_head_attention import MultiHeadAttention


class SelfAttention(MultiHeadAttention):
    """Multi-head attention of a sequence over itself."""

    band: int | None = None
    """How many positions each one sees at most, itself included; None: all that the mask allows."""

    def forward(self, x: Float[Tensor, "batch positions dim"], mask: Mask) -> Float[Tensor, "batch positions dim"]:
        """Let every position look over the whole sequence, as far as the mask allows."""
        return self.attend(x, self.remember(x), mask)

    def read_prompt(
        self, x: Float[Tensor, "sources positions dim"], cache: KeyValueCache
    ) -> Float[Tensor, "sources positions dim"]:
        """Let every position of the prompts look over those before it, and remember them all for the steps to come."""
        prompt = self.remember(x)
        cache.write_prompt(prompt)
        return self.attend(x, prompt, CAUSAL)

    def step(self, x: Float[Tensor, "rows 1 dim"], cache: KeyValueCache) -> Float[Tensor, "rows 1 dim"]:
        """Let one new position look over itself and all positions before it; the cache's lineage has been advanced."""
        heads = (-1, self.num_heads, self.head_dim)
        cache.write(KeyValue(self.key(x).view(heads), self.value(x).view(heads)))
        if self.tap is None and cache.can_attend(x):
            return self.output(cache.attend(self.query(x).view(heads), self.band).view_as(x))
        return self.attend(x, cache.read(), EVERYTHING)

    def new_cache(self, lineage: Lineage, like: Tensor) -> KeyValueCache:
        """Allocate a cache for the prompts and steps of a lineage, of the type and device of `like`."""
        shape = (lineage.num_slots, self.num_heads, self.head_dim)
        return KeyValueCache(like.new_empty(shape), like.new_empty(shape), lineage)
