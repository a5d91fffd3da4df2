"""Words as vectors, and vectors as scores of words; both ends may share one matrix (Press and Wolf 2017)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trasluz.layers.linear import linear


class TokenEmbedding(nn.Module):
    """A table of vectors, one a token, multiplied by `scale` when looked up."""

    def __init__(self, vocab_size: int, dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, dim))
        self.scale = scale

    def forward(self, ids: Int[Tensor, "batch positions"]) -> Float[Tensor, "batch positions dim"]:
        """Return the tokens' vectors."""
        found = nn.functional.embedding(ids, self.weight)
        return found if self.scale == 1.0 else found * self.scale


class OutputHead(nn.Module):
    """One score a token of the vocabulary: logits = W x + b.

    `weight` may be another layer's parameter, which ties the two. `bias` None: no bias.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias

    def forward(self, x: Float[Tensor, "*positions dim"]) -> Float[Tensor, "*positions vocab"]:
        """Return the logits."""
        return linear(x, self.weight, self.bias)
