"""A residual path around a sublayer, with the layer norm after it or before it.

post-norm (Vaswani et al. 2017, section 3.1):   norm(x + dropout(f(x)))
pre-norm  (Xiong et al. 2020):                  x + dropout(f(norm(x)))

    post:  x ──┬── f ── dropout ── + ── norm ──▶      pre:  x ──┬── norm ── f ── dropout ── + ──▶
               └───────────────────┘                            └───────────────────────────┘
"""

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor, nn

from trasluz.layers.dropout import Dropout, sum_dropout
from trasluz.layers.kept_rows import kept_rows
from trasluz.layers.sum_norm import sum_norm

Sublayer = Callable[[Tensor], Tensor]
Norm = Callable[[int, float], nn.Module]


class PostNorm(nn.Module):
    """Normalise the sum."""

    def __init__(self, dim: int, dropout: float = 0.0, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, epsilon)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "*positions dim"], f: Sublayer, kept: Int[Tensor, " kept"] | None = None
    ) -> Float[Tensor, "*positions dim"] | Float[Tensor, "kept dim"]:
        """Return norm(x + dropout(f(x))); of the rows `kept` alone, where f gives no others."""
        return sum_norm(self.norm, kept_rows(x, kept), f(x), self.dropout.probability if self.training else 0.0)


class PreNorm(nn.Module):
    """Normalise what goes in; the path itself stays free, and the stack needs one last norm at its top.

    `norm` makes the norm of a width and an epsilon.
    """

    def __init__(self, dim: int, dropout: float = 0.0, epsilon: float = 1e-5, norm: Norm = nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm(dim, epsilon)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "*positions dim"], f: Sublayer, kept: Int[Tensor, " kept"] | None = None
    ) -> Float[Tensor, "*positions dim"] | Float[Tensor, "kept dim"]:
        """Return x + dropout(f(norm(x))); of the rows `kept` alone, where f gives no others."""
        found = f(sum_norm(self.norm, x))
        return sum_dropout(kept_rows(x, kept), found, self.dropout.probability, self.training)


RESIDUALS: dict[str, type[PostNorm] | type[PreNorm]] = {"post": PostNorm, "pre": PreNorm}
