"""Words as vectors, and vectors as scores of words; both ends may share one matrix (Press and Wolf 2017)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trasluz.layers.dropout import Dropout
from trasluz.layers.linear import compute_dtype, linear


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


class EmbeddingDropout(Dropout):
    """Dropout of embedded words, behind which all states are of the type that products are computed in.

    Under autocast on a CPU they would otherwise stay float32 from norm to norm, and every layer cast what it reads and
    what it gives: more work there than its matrix product.
    """

    def forward(self, x: Float[Tensor, "batch positions dim"]) -> Float[Tensor, "batch positions dim"]:
        """Return `x`, dropped out while training."""
        return super().forward(x.to(compute_dtype(x)) if x.is_cpu else x)


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


def embeddings_and_head(
    source_vocab_size: int, target_vocab_size: int, dim: int, output_dim: int, *, shared: bool
) -> tuple[TokenEmbedding, TokenEmbedding, OutputHead]:
    """Return embeddings of a source and of a target, and a head with a bias; `shared`: all three have one matrix."""
    source, target = TokenEmbedding(source_vocab_size, dim), TokenEmbedding(target_vocab_size, dim)
    bias = nn.Parameter(torch.zeros(target_vocab_size))
    if not shared:
        return source, target, OutputHead(nn.Parameter(torch.empty(target_vocab_size, output_dim)), bias)
    target.weight = source.weight
    return source, target, OutputHead(source.weight, bias)
