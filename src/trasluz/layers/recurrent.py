"""Recurrent layers: fused whole-sequence kernels where nothing sits inside the loop, single cells where attention does.

Gated recurrent unit (Cho et al. 2014, appendix A.1; Bahdanau et al. 2015, appendix A.1.1), the cell's form:

    z = sigmoid(W_z x + U_z s);  r = sigmoid(W_r x + U_r s)
    proposal = tanh(W x + U (r * s));  s' = (1 - z) * s + z * proposal

Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000):

    i, f, o = sigmoid(W x + U s);  g = tanh(W_g x + U_g s);  c' = f * c + i * g;  s' = o * tanh(c')

The fused GRU of torch multiplies by r after U, not before it (U (r * s) becomes r * (U s + b)), which is as good.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from trasluz.layers.dropout import dropout
from trasluz.layers.linear import Linear, linear
from trasluz.layers.recurrent_kernels import gru_recurrence

CellName = Literal["gru", "lstm"]

RecurrentState = tuple[Tensor, ...]
"""What goes from step to step, the batch as axis 0 of each: (hidden,) of a GRU, (hidden, cell) of an LSTM.

A model may have more.
"""


class GRUCell(nn.Module):
    """One step of a gated recurrent unit, as the papers write it."""

    num_states = 1

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.input = Linear(input_dim, 3 * hidden_dim)
        self.gates = Linear(hidden_dim, 2 * hidden_dim, bias=False)
        self.proposal = Linear(hidden_dim, hidden_dim, bias=False)

    def recurrent_weights(self) -> tuple[Tensor, ...]:
        """Return what multiplies the state, as `GRUKernel` takes it."""
        return self.gates.weight, self.proposal.weight

    def forward(self, projected: Float[Tensor, "batch gates"], state: RecurrentState) -> RecurrentState:
        """Return the next state; `projected` is W x + b, which callers may compute for many steps at once."""
        (hidden,) = state
        from_input, candidate = projected.split([2 * hidden.shape[-1], hidden.shape[-1]], dim=-1)
        update, reset = (from_input + self.gates(hidden)).sigmoid().chunk(2, dim=-1)
        proposal = (candidate + self.proposal(reset * hidden)).tanh()
        return (torch.lerp(hidden, proposal, update),)


class LSTMCell(nn.Module):
    """One step of a long short-term memory."""

    num_states = 2

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.input = Linear(input_dim, 4 * hidden_dim)
        self.gates = Linear(hidden_dim, 4 * hidden_dim, bias=False)

    def recurrent_weights(self) -> tuple[Tensor, ...]:
        """Return what multiplies the state, as `LSTMKernel` takes it."""
        return (self.gates.weight,)

    def forward(self, projected: Float[Tensor, "batch gates"], state: RecurrentState) -> RecurrentState:
        """Return the next state; `projected` is W x + b, which callers may compute for many steps at once."""
        hidden, cell = state
        enter, forget, leave, proposal = (projected + self.gates(hidden)).chunk(4, dim=-1)
        cell = forget.sigmoid() * cell + enter.sigmoid() * proposal.tanh()
        return leave.sigmoid() * cell.tanh(), cell


CELLS: dict[str, type[GRUCell] | type[LSTMCell]] = {"gru": GRUCell, "lstm": LSTMCell}


class RecurrentStack(nn.Module):
    """A stack of recurrent layers over whole sequences, by torch's fused kernels.

    A bidirectional stack gives, at every position, the states of both directions side by side.
    """

    def __init__(
        self,
        cell: CellName,
        input_dim: int,
        hidden_dim: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        between_layers = dropout if num_layers > 1 else 0.0
        self.recurrence = kind(
            input_dim, hidden_dim, num_layers, batch_first=True, bidirectional=bidirectional, dropout=between_layers
        )

    def forward(
        self,
        x: Float[Tensor, "batch positions input_dim"],
        lengths: Int[Tensor, " batch"] | None = None,
        state: RecurrentState | None = None,
    ) -> tuple[Float[Tensor, "batch positions hidden_dim"], RecurrentState]:
        """Return the states at every position, and the last ones as (batch, layers * directions, hidden_dim).

        With `lengths`, each sequence ends at its own last word, in both directions; states behind it are zeros.
        """
        if torch.is_grad_enabled() and x.is_cpu and isinstance(self.recurrence, nn.GRU):
            return self._train_gru(x, lengths, state)
        # The fused kernels exist in one type at a time; mixed precision would fall back to a loop of small pieces.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float() if x.dtype == torch.bfloat16 and self.recurrence.weight_hh_l0.dtype == torch.float32 else x
            start = None
            if state is not None:
                layers_first = tuple(part.transpose(0, 1).contiguous().to(x.dtype) for part in state)
                start = layers_first[0] if len(layers_first) == 1 else layers_first
            if lengths is None:
                outputs, last = self.recurrence(x, start)
            else:
                packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
                packed_outputs, last = self.recurrence(packed, start)
                outputs, _ = pad_packed_sequence(packed_outputs, batch_first=True, total_length=x.shape[1])
        states = (last,) if isinstance(last, Tensor) else last
        return outputs, tuple(part.transpose(0, 1) for part in states)

    def _train_gru(
        self, x: Tensor, lengths: Tensor | None, state: RecurrentState | None
    ) -> tuple[Tensor, RecurrentState]:
        """Do what `torch.nn.GRU` does, whose backward pass on a CPU takes time that grows with the length squared."""
        recurrence = self.recurrence
        suffixes = ("", "_reverse") if recurrence.bidirectional else ("",)
        num_directions, batch, last = len(suffixes), x.shape[0], []
        for layer in range(recurrence.num_layers):
            if layer:
                x = dropout(x, recurrence.dropout, self.training)
            of_input, of_state, input_bias, state_bias = (
                [getattr(recurrence, f"{kind}_l{layer}{suffix}") for suffix in suffixes]
                for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            first = layer * num_directions
            start = (
                of_state[0].new_zeros(num_directions, batch, recurrence.hidden_size)
                if state is None
                else state[0][:, first : first + num_directions].transpose(0, 1)
            )
            x, last_of_layer = gru_recurrence(
                linear(x, torch.cat(of_input), torch.cat(input_bias)),
                *(lengths, start, torch.stack(of_state), torch.stack(state_bias)),
            )
            last.append(last_of_layer)
        return x, (torch.cat(last).transpose(0, 1),)


class MaxoutReadout(nn.Module):
    """A deep output with one maxout layer (Bahdanau et al. 2015, appendix A.2.2; Goodfellow et al. 2013).

    t~ = U s + V E y + C c;   t_j = max(t~_{2j-1}, t~_{2j})
    """

    def __init__(self, state_dim: int, embedding_dim: int, context_dim: int, readout_dim: int) -> None:
        super().__init__()
        self.state = Linear(state_dim, 2 * readout_dim)
        self.embedding = Linear(embedding_dim, 2 * readout_dim, bias=False)
        self.context = Linear(context_dim, 2 * readout_dim, bias=False)

    def forward(
        self,
        state: Float[Tensor, "batch target state_dim"],
        embedding: Float[Tensor, "batch target embedding_dim"],
        context: Float[Tensor, "batch #target context_dim"],
    ) -> Float[Tensor, "batch target readout_dim"]:
        """Return what the output head turns into logits."""
        both = self.state(state) + self.embedding(embedding) + self.context(context)
        return both.unflatten(-1, (-1, 2)).amax(-1)


def initialize_recurrent(model: nn.Module) -> None:
    """Draw orthogonal recurrent matrices (Bahdanau et al. 2015, appendix B.1); Glorot's for the rest suit Adam."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
        elif "embedding.weight" in name or "output_head" in name:
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        elif "weight_hh" in name or ".gates." in name or ".proposal." in name:
            for square in parameter.split(parameter.shape[1]):
                nn.init.orthogonal_(square)
        else:
            nn.init.xavier_uniform_(parameter)
