"""The position-wise feed-forward network (Vaswani et al. 2017, section 3.3): W_2 activation(W_1 x + b_1) + b_2."""

from jaxtyping import Float
from torch import Tensor, nn

from trasluz.layers.activated_linear import ActivationName, activated_linear
from trasluz.layers.dropout import Dropout
from trasluz.layers.linear import Linear


class FeedForward(nn.Module):
    """Two linear layers with an activation between, at every position alike."""

    def __init__(self, dim: int, hidden_dim: int, activation: ActivationName = "relu", dropout: float = 0.0) -> None:
        super().__init__()
        self.expand = Linear(dim, hidden_dim)
        self.contract = Linear(hidden_dim, dim)
        self.activation: ActivationName = activation
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "*positions dim"]) -> Float[Tensor, "*positions dim"]:
        """Return what the network makes of each position."""
        return self.contract(self.dropout(activated_linear(self.expand, x, self.activation)))
