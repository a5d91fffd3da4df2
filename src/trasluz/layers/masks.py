"""What may be seen: one small object, one meaning (True = may attend), and the cheapest form for each kernel."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mask:
    """Which keys a query may see.

    `key_lengths` hides the padding behind each sentence; `causal` hides the keys after the query. Queries are aligned
    with the *end* of the keys, so one new query over ten remembered keys sees all ten.

        causal, 3 queries over 5 keys      key_lengths = 2, 3 queries over 5 keys
            x x x . .                          x x . . .
            x x x x .                          x x . . .
            x x x x x                          x x . . .
    """

    key_lengths: Int[Tensor, " batch"] | None = None
    causal: bool = False

    def sees_everything(self, num_queries: int) -> bool:
        """Tell whether no key is hidden from any of the queries."""
        return self.key_lengths is None and (not self.causal or num_queries == 1)

    def hides_everything_somewhere(self) -> bool:
        """Tell whether some sentence has no key at all; a graph that is being drawn must stand it."""
        if self.key_lengths is None:
            return False
        return torch.compiler.is_exporting() or bool((self.key_lengths == 0).any())

    def dense(
        self, num_queries: int, num_keys: int, device: torch.device | None = None
    ) -> Bool[Tensor, "#batch query key"]:
        """Return the mask written out."""
        keys = torch.arange(num_keys, device=device)
        seen = torch.ones(1, num_queries, num_keys, dtype=torch.bool, device=device)
        if self.causal:
            queries = torch.arange(num_keys - num_queries, num_keys, device=device)
            seen = seen & (keys <= queries[:, None])
        if self.key_lengths is not None:
            seen = seen & (keys < self.key_lengths[:, None, None])
        return seen


EVERYTHING = Mask()
CAUSAL = Mask(causal=True)
