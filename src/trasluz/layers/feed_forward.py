"""The position-wise feed-forward network (Vaswani et al. 2017, section 3.3): W_2 activation(W_1 x + b_1) + b_2."""

import functools
from collections.abc import Callable
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, relu, silu

from trasluz.layers.dropout import Dropout
from trasluz.layers.kernels.gelu import linear_gelu
from trasluz.layers.linear import Linear

ActivationName = Literal["relu", "gelu", "gelu_tanh", "swish"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "gelu": gelu,
    # The approximation that BERT's first code and GPT-2 compute (Hendrycks and Gimpel 2016, section 2).
    "gelu_tanh": functools.partial(gelu, approximate="tanh"),
    "swish": silu,
}

assert set(ACTIVATIONS) == set(get_args(ActivationName))


class FeedForward(nn.Module):
    """Two linear layers with an activation between, at every position alike."""

    def __init__(self, dim: int, hidden_dim: int, activation: ActivationName = "relu", dropout: float = 0.0) -> None:
        super().__init__()
        self.expand = Linear(dim, hidden_dim)
        self.contract = Linear(hidden_dim, dim)
        self.activation_name, self.activation = activation, ACTIVATIONS[activation]
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch positions dim"]) -> Float[Tensor, "batch positions dim"]:
        """Return what the network makes of each position."""
        is_gelu = self.activation_name == "gelu"
        hidden = linear_gelu(self.expand, x) if is_gelu else self.activation(self.expand(x))
        return self.contract(self.dropout(hidden))
