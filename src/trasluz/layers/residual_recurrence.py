"""Deep recurrence with shortcuts (Wu et al. 2016, section 3.1, equation 6).

    m_i = LSTM_i([x_{i-1}; beside]);   x_i = m_i + x_{i-1}        for every layer but the first, of which x_1 = m_1

Without the sums a stack of more than some four layers hardly learns.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trasluz.layers.dropout import Dropout
from trasluz.layers.recurrent import CellName, RecurrentStack, RecurrentState


class ResidualRecurrentStack(nn.Module):
    """Recurrent layers over whole sequences, each but the first adding to what it reads.

    All may read something else beside it.
    """

    def __init__(
        self,
        cell: CellName,
        input_dim: int,
        hidden_dim: int,
        num_layers: int,
        beside_dim: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            RecurrentStack(cell, (hidden_dim if number else input_dim) + beside_dim, hidden_dim)
            for number in range(num_layers)
        )
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch positions input_dim"],
        beside: Float[Tensor, "batch positions beside_dim"] | None = None,
        state: RecurrentState | None = None,
    ) -> tuple[Float[Tensor, "batch positions hidden_dim"], RecurrentState]:
        """Return what the last layer gives at every position, and the last states as (batch, layers, hidden_dim)."""
        last = []
        for number, layer in enumerate(self.layers):
            read = self.dropout(x)
            begin = None if state is None else tuple(part[:, number : number + 1] for part in state)
            y, ended = layer(read if beside is None else torch.cat([read, beside.to(read.dtype)], -1), state=begin)
            x = y + x if number else y
            last.append(ended)
        return x, tuple(torch.cat(parts, 1) for parts in zip(*last, strict=True))
