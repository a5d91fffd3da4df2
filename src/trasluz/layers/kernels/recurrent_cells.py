"""One step of a recurrent cell beside its products, and the way back; what is computed stands in recurrent_cells.cpp.

Numbers that products are made of, or that come of them, are float32 or bfloat16; states and what is saved are float32.
Each function writes into its last arguments.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.layers.kernels import call_kernel


def gru_gates(
    projected: Float[Tensor, "rows gates"],
    from_context: Float[Tensor, "rows gates"],
    from_state: Float[Tensor, "rows two_gates"],
    state: Float[Tensor, "rows dim"],
    saved: Float[Tensor, "rows gates"],
    reset_state: Float[Tensor, "rows dim"],
) -> None:
    """Write update and reset gate into `saved`, and r * s."""
    _call("trasluz_gru_gates", *_stepping(projected), from_context, from_state, state, *state.shape, saved, reset_state)


def gru_proposal(
    projected: Float[Tensor, "rows gates"],
    from_context: Float[Tensor, "rows gates"],
    from_reset: Float[Tensor, "rows dim"],
    state: Float[Tensor, "rows dim"],
    saved: Float[Tensor, "rows gates"],
    after: Float[Tensor, "rows dim"],
    shown: Float[Tensor, "rows dim"],
) -> None:
    """Write the proposal into `saved`, and the next state twice: in float32, and as a number for products."""
    places = from_context, from_reset, state, *state.shape, saved, after, shown
    _call("trasluz_gru_proposal", *_stepping(projected), *places)


def gru_proposal_backward(
    given: Float[Tensor, "rows dim"],
    product: Float[Tensor, "rows dim"],
    saved: Float[Tensor, "rows gates"],
    flowing: Float[Tensor, "rows dim"],
    to_projected: Float[Tensor, "rows gates"],
) -> None:
    """Add what was given and the product to what flows, and write the proposal's part of `to_projected`."""
    _call("trasluz_gru_proposal_backward", *_stepping(given), product, saved, *flowing.shape, flowing, to_projected)


def gru_gates_backward(
    of_reset: Float[Tensor, "rows dim"],
    saved: Float[Tensor, "rows gates"],
    state: Float[Tensor, "rows dim"],
    flowing: Float[Tensor, "rows dim"],
    to_projected: Float[Tensor, "rows gates"],
) -> None:
    """Write the gates' part of `to_projected`, and what flows back without a product."""
    _call("trasluz_gru_gates_backward", of_reset, saved, state, *state.shape, flowing, to_projected)


def lstm(
    projected: Float[Tensor, "rows gates"],
    from_context: Float[Tensor, "rows gates"],
    from_state: Float[Tensor, "rows gates"],
    cell: Float[Tensor, "rows dim"],
    saved: Float[Tensor, "rows five_gates"],
    after: Float[Tensor, "rows dim"],
    shown: Float[Tensor, "rows dim"],
) -> None:
    """Write the gates and the tanh of the next cell into `saved`, the next cell, and the next state."""
    _call("trasluz_lstm", *_stepping(projected), from_context, from_state, cell, *cell.shape, saved, after, shown)


def lstm_backward(
    given: Float[Tensor, "rows dim"],
    product: Float[Tensor, "rows dim"],
    saved: Float[Tensor, "rows five_gates"],
    cell: Float[Tensor, "rows dim"],
    flowing: Float[Tensor, "rows dim"],
    to_projected: Float[Tensor, "rows gates"],
) -> None:
    """Write `to_projected`, and what flows back through the cell; the state's gradient is given + product."""
    _call("trasluz_lstm_backward", *_stepping(given), product, saved, cell, *cell.shape, flowing, to_projected)


def torch_gru(
    projected: Float[Tensor, "rows gates"],
    from_state: Float[Tensor, "rows gates"],
    bias: Float[Tensor, " gates"],
    state: Float[Tensor, "rows dim"],
    lengths: Int[Tensor, " rows"],
    position: int,
    saved: Float[Tensor, "rows four_gates"],
    after: Float[Tensor, "rows dim"],
    shown: Float[Tensor, "rows dim"],
    output: Float[Tensor, "rows dim"],
) -> None:
    """Write what is saved, the next state twice, and what is seen of it: zeros at and behind a row's length."""
    places = from_state, bias, state, lengths, position, *state.shape, saved, after, shown, *_stepping(output)
    _call("trasluz_torch_gru", *_stepping(projected), *places)


def torch_gru_backward(
    given: Float[Tensor, "rows dim"],
    product: Float[Tensor, "rows dim"],
    saved: Float[Tensor, "rows four_gates"],
    state: Float[Tensor, "rows dim"],
    lengths: Int[Tensor, " rows"],
    position: int,
    flowing: Float[Tensor, "rows dim"],
    to_projected: Float[Tensor, "rows gates"],
    to_product: Float[Tensor, "rows gates"],
) -> None:
    """Write the gradients of what was projected and of what came of the state; the rest flows back."""
    places = product, saved, state, lengths, position, *state.shape, flowing, *_stepping(to_projected), to_product
    _call("trasluz_torch_gru_backward", *_stepping(given), *places)


def _stepping(x: Tensor) -> tuple[Tensor, int]:
    """Return what may have gaps between its rows, and how far apart those are."""
    assert x.stride(-1) == 1
    return x, x.stride(0)


def _call(name: str, *arguments: Any) -> None:
    # Numbers that products are made of are of one type, and the first argument is always such.
    call_kernel(name, *arguments, is_bfloat=arguments[0].dtype == torch.bfloat16)
