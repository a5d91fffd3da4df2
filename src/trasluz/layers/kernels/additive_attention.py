"""Additive attention step by step, and its gradients; what is computed stands in additive_attention.cpp."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.layers.kernels import call_kernel


@dataclass(frozen=True)
class CompiledAttention:
    """A memory that is looked over at every step of a recurrence, all in one type: float32 or bfloat16."""

    key: Float[Tensor, "rows key dim"]
    value: Float[Tensor, "rows key memory_dim"]
    score: Float[Tensor, " dim"]
    seen: Int[Tensor, " rows"]
    """How many of its keys a row sees, one at least."""

    def look(
        self,
        query: Float[Tensor, "rows dim"],
        weights: Float[Tensor, "rows key"],
        context: Float[Tensor, "rows memory_dim"],
    ) -> None:
        """Write the weights, in float32, and the context of one step."""
        self._call("trasluz_look", query, *self._memory(), *self._sizes(), weights, context)

    def look_back(
        self,
        given: Float[Tensor, "rows memory_dim"],
        product: Float[Tensor, "rows memory_dim"],
        query: Float[Tensor, "rows dim"],
        weights: Float[Tensor, "rows key"],
        to_context: Float[Tensor, "rows memory_dim"],
        to_scores: Float[Tensor, "rows key"],
        to_query: Float[Tensor, "rows dim"],
    ) -> None:
        """Write the gradients of one step's context, which is `given` + `product`, of its scores, and of its query."""
        places = product, query, *self._memory(), *self._sizes(), weights, to_context, to_scores, to_query
        self._call("trasluz_look_backward", given, given.stride(0), *places)

    def memory_gradients(
        self,
        queries: Float[Tensor, "steps rows dim"],
        to_contexts: Float[Tensor, "steps rows memory_dim"],
        weights: Float[Tensor, "steps rows key"],
        to_scores: Float[Tensor, "steps rows key"],
    ) -> tuple[Float[Tensor, "rows key dim"], Float[Tensor, "rows key memory_dim"], Float[Tensor, " dim"]]:
        """Return the gradients of key, value and score, of all steps."""
        to_key, to_value = torch.empty_like(self.key), torch.empty_like(self.value)
        to_score = torch.empty(len(self.key), self.key.shape[-1], dtype=torch.float32)
        self._call(
            *("trasluz_memory_gradients", queries, to_contexts, self.key, self.score, self.seen, len(queries)),
            *(*self._sizes(), weights, to_scores, to_key, to_value, to_score),
        )
        return to_key, to_value, to_score.sum(0)

    def _memory(self) -> tuple[Tensor, ...]:
        return self.key, self.value, self.score, self.seen

    def _sizes(self) -> tuple[int, ...]:
        return (*self.key.shape, self.value.shape[-1])

    def _call(self, name: str, *arguments: Any) -> None:
        call_kernel(name, *arguments, is_bfloat=self.key.dtype == torch.bfloat16)
