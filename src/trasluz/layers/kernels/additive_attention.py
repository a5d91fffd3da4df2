"""Additive attention step by step, and its gradients; what is computed stands in additive_attention.cpp."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.layers.kernels import load_kernels


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
        _call(
            "trasluz_look",
            *(query.data_ptr(), *self._memory(), *self._sizes(), weights.data_ptr(), context.data_ptr()),
            *self._kind(),
        )

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
        _call(
            "trasluz_look_backward",
            *(given.data_ptr(), given.stride(0), product.data_ptr(), query.data_ptr(), *self._memory(), *self._sizes()),
            *(weights.data_ptr(), to_context.data_ptr(), to_scores.data_ptr(), to_query.data_ptr(), *self._kind()),
        )

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
        _call(
            "trasluz_memory_gradients",
            *(queries.data_ptr(), to_contexts.data_ptr(), self.key.data_ptr(), self.score.data_ptr()),
            *(self.seen.data_ptr(), len(queries), *self._sizes(), weights.data_ptr(), to_scores.data_ptr()),
            *(to_key.data_ptr(), to_value.data_ptr(), to_score.data_ptr(), *self._kind()),
        )
        return to_key, to_value, to_score.sum(0)

    def _memory(self) -> tuple[int, ...]:
        return tuple(x.data_ptr() for x in (self.key, self.value, self.score, self.seen))

    def _sizes(self) -> tuple[int, ...]:
        return (*self.key.shape, self.value.shape[-1])

    def _kind(self) -> tuple[bool, int]:
        return self.key.dtype == torch.bfloat16, torch.get_num_threads()


def _call(name: str, *arguments: Any) -> None:
    kernels = load_kernels()
    assert kernels is not None
    getattr(kernels, name)(*arguments)
