"""The gated feed-forward network (Shazeer 2020, equations 5 and 6): W_2 (activation(W_g x) * W_1 x), without biases.

With the activation "swish" it is SwiGLU, with "gelu" GEGLU.
"""

from jaxtyping import Float
from torch import Tensor, nn

from trasluz.layers.activated_linear import ACTIVATIONS, ActivationName
from trasluz.layers.dropout import Dropout
from trasluz.layers.linear import Linear, linears


class GatedFeedForward(nn.Module):
    """Two linear layers side by side, of which one opens and closes the other, and a third."""

    def __init__(self, dim: int, hidden_dim: int, activation: ActivationName = "swish", dropout: float = 0.0) -> None:
        super().__init__()
        self.gate = Linear(dim, hidden_dim, bias=False)
        self.expand = Linear(dim, hidden_dim, bias=False)
        self.contract = Linear(hidden_dim, dim, bias=False)
        self.activation = ACTIVATIONS[activation]
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "*positions dim"]) -> Float[Tensor, "*positions dim"]:
        """Return what the network makes of each position."""
        gate, expanded = linears(x, (self.gate, self.expand))
        return self.contract(self.dropout(self.activation(gate) * expanded))
