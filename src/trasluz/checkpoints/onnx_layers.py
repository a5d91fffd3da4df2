"""Layers in the place of those that no graph can be drawn of: recurrences, and positions that know their last one.

A recurrence over sentences of unlike length is one operator of ONNX, GRU or LSTM, which takes the lengths. Of every
gate it wants the rows in another order than torch:

    torch   GRU r z n    LSTM i f g o          ONNX   GRU z r h    LSTM i o f c
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trasluz.checkpoints.export_folder import LEAST_POSITIONS
from trasluz.layers.positional_encoding import SinusoidalPositions, TrainablePositions, sinusoids
from trasluz.layers.recurrent import RecurrentStack, RecurrentState

_GATES = {"GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}


class PositionTable(nn.Module):
    """Positions, trained or not, looked up in a table."""

    def __init__(self, positions: SinusoidalPositions | TrainablePositions) -> None:
        super().__init__()
        if isinstance(positions, SinusoidalPositions):
            table = sinusoids(0, max(LEAST_POSITIONS, len(positions.table)), positions.dim)
        else:
            table = positions.weight.detach()[positions.first :]
        self.register_buffer("table", table)

    def forward(self, length: int, start: int = 0) -> Float[Tensor, "positions dim"]:
        """Return the vectors of `length` positions from `start` on."""
        return self.get_buffer("table")[torch.arange(start, start + length)]


class RecurrenceOperators(nn.Module):
    """A `RecurrentStack` as operators of ONNX, one a layer; in torch it computes nothing but shapes."""

    def __init__(self, stack: RecurrentStack) -> None:
        super().__init__()
        recurrence = stack.recurrence
        self.operator: str = recurrence.mode
        self.hidden_dim: int = recurrence.hidden_size
        self.num_layers: int = recurrence.num_layers
        self.suffixes = ("", "_reverse") if recurrence.bidirectional else ("",)
        for layer in range(self.num_layers):
            for name in ("weight_ih", "weight_hh"):
                self._keep(name, layer, [self._ordered(recurrence, name, layer, suffix) for suffix in self.suffixes])
            biases = [
                torch.cat([self._ordered(recurrence, name, layer, suffix) for name in ("bias_ih", "bias_hh")])
                for suffix in self.suffixes
            ]
            self._keep("bias", layer, biases)

    def forward(
        self,
        x: Float[Tensor, "batch positions input_dim"],
        lengths: Int[Tensor, " batch"] | None = None,
        state: RecurrentState | None = None,
    ) -> tuple[Float[Tensor, "batch positions hidden_dim"], RecurrentState]:
        """Return what `RecurrentStack` returns."""
        num_directions = len(self.suffixes)
        steps_first, last = x.transpose(0, 1), []
        num_steps, batch = steps_first.shape[:2]
        of_state = (num_directions, batch, self.hidden_dim)
        for layer in range(self.num_layers):
            place = slice(layer * num_directions, (layer + 1) * num_directions)
            starts = [] if state is None else [part[:, place].transpose(0, 1) for part in state]
            outputs, *states = torch.onnx.ops.symbolic_multi_out(
                self.operator,
                [
                    steps_first,
                    *(self.get_buffer(f"{name}_{layer}") for name in ("weight_ih", "weight_hh", "bias")),
                    None if lengths is None else lengths.to(torch.int32),
                    *starts,
                ],
                {
                    "hidden_size": self.hidden_dim,
                    "direction": "bidirectional" if num_directions == 2 else "forward",
                    # As torch does: the reset gate acts on the product.
                    **({"linear_before_reset": 1} if self.operator == "GRU" else {}),
                },
                dtypes=[x.dtype] * (2 if self.operator == "GRU" else 3),
                shapes=[(num_steps, *of_state), of_state, *([of_state] if self.operator == "LSTM" else [])],
            )
            steps_first = outputs.transpose(1, 2).flatten(2)
            last.append([part.transpose(0, 1) for part in states])
        return steps_first.transpose(0, 1), tuple(torch.cat(parts, dim=1) for parts in zip(*last, strict=True))

    def _keep(self, name: str, layer: int, of_directions: list[Tensor]) -> None:
        self.register_buffer(f"{name}_{layer}", torch.stack(of_directions))

    def _ordered(self, recurrence: nn.Module, name: str, layer: int, suffix: str) -> Tensor:
        gates = recurrence.get_parameter(f"{name}_l{layer}{suffix}").detach().chunk(len(_GATES[self.operator]))
        return torch.cat([gates[place] for place in _GATES[self.operator]])


_REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    SinusoidalPositions: PositionTable,
    TrainablePositions: PositionTable,
    RecurrentStack: RecurrenceOperators,
}


def to_onnx_layers(model: nn.Module) -> nn.Module:
    """Put layers that can be drawn in the place of those that cannot; the model is then good for nothing else."""
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if type(part) in _REPLACEMENTS:
                setattr(parent, name, _REPLACEMENTS[type(part)](part))
    return model
