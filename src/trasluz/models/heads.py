"""What stands on an encoder's states to answer a question: the heads of BERT (Devlin et al. 2019, sections 3.1 and 4).

    fill-mask                 E norm(activation(W h + b)) + c      logits over the vocabulary; E the embeddings
    next-sentence, classify   V activation(W h_0 + b) + c          scores of classes; h_0 the first position's state
    tag, answer               V h + c                              scores at every position
    pool                      activation(W h_0 + b)                a vector for the whole text

An encoder may have several; each has its name in `Bert.heads`.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trasluz.layers.activated_linear import ACTIVATIONS, ActivationName, activated_linear
from trasluz.layers.dropout import Dropout
from trasluz.layers.embeddings import OutputHead
from trasluz.layers.linear import Linear
from trasluz.layers.sum_norm import sum_norm

HeadName = Literal["pool", "fill-mask", "next-sentence", "classify", "tag", "answer"]
HEADS: tuple[str, ...] = get_args(HeadName)

PoolerActivation = Literal["tanh", "relu"]
_POOLER_ACTIVATIONS = {"tanh": torch.tanh, **ACTIVATIONS}

NEXT_SENTENCE_CLASSES = 2
"""Class 0: the second text follows the first; class 1: it was drawn from elsewhere."""
SPAN_ENDS = 2
"""Scores of an answer's first token, then of its last."""


class Pooler(nn.Module):
    """The first position's state, projected: the text as one vector."""

    def __init__(self, dim: int, activation: PoolerActivation | ActivationName) -> None:
        super().__init__()
        self.dense = Linear(dim, dim)
        self.activation = _POOLER_ACTIVATIONS[activation]

    def forward(self, hidden: Float[Tensor, "batch positions dim"]) -> Float[Tensor, "batch dim"]:
        """Return a vector a text."""
        return self.activation(self.dense(hidden[:, 0]))


class ClassHead(nn.Module):
    """Scores of a text's classes."""

    def __init__(
        self, dim: int, num_classes: int, activation: PoolerActivation | ActivationName, dropout: float
    ) -> None:
        super().__init__()
        self.pooler = Pooler(dim, activation)
        self.dropout = Dropout(dropout)
        self.output = Linear(dim, num_classes)

    def forward(self, hidden: Float[Tensor, "batch positions dim"]) -> Float[Tensor, "batch classes"]:
        """Return the logits of a text's classes."""
        return self.output(self.dropout(self.pooler(hidden)))


class TokenHead(nn.Module):
    """Scores at every position: of a token's classes, or of being an answer's first and last."""

    def __init__(self, dim: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.output = Linear(dim, num_classes)

    def forward(self, hidden: Float[Tensor, "batch positions dim"]) -> Float[Tensor, "batch positions classes"]:
        """Return the logits of every position's classes."""
        return self.output(self.dropout(hidden))


class MaskedWordHead(nn.Module):
    """Scores of all words at a masked position; the matrix is that of the embeddings, the bias its own."""

    def __init__(self, embedding: nn.Parameter, activation: ActivationName, epsilon: float) -> None:
        super().__init__()
        vocab_size, dim = embedding.shape
        self.dense = Linear(dim, dim)
        self.activation: ActivationName = activation
        self.norm = nn.LayerNorm(dim, epsilon)
        self.output = OutputHead(embedding, nn.Parameter(torch.zeros(vocab_size)))

    def features(self, hidden: Float[Tensor, "*positions dim"]) -> Float[Tensor, "*positions dim"]:
        """Return what the output matrix is multiplied with: for a loss that never holds the logits."""
        return sum_norm(self.norm, activated_linear(self.dense, hidden, self.activation))

    def forward(self, hidden: Float[Tensor, "*positions dim"]) -> Float[Tensor, "*positions vocab"]:
        """Return the logits of all words."""
        return self.output(self.features(hidden))
