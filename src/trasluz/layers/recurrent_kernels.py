"""Whole recurrences with gradients written by hand: the loop holds only what must wait for the step before.

Automatic differentiation of a loop adds a small product to the gradient of every weight at every step, and keeps some
twenty little tensors a step. Here the backward loop carries nothing but the gradient of the state; what each step gave
is stacked, and the gradients of the weights are one large product each, after the loop. On a CPU, torch's own gated
recurrent unit is worse still: its backward pass fills a tensor as long as the sequence at every step of the sequence.

Each kernel is one cell: `step` moves on, `backward_factors` turns what the steps left behind into the derivatives that
can be had for all steps at once, `step_back` uses them. The formulas stand in `layers/recurrent.py`.

Shapes: T steps, rows (one sentence each; the stack puts the direction before them), H hidden, G gates side by side.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from trasluz.layers.compiled_recurrence import CompiledGRUStack, States, compiled_recurrence_takes
from trasluz.layers.linear import compute_dtype
from trasluz.layers.masks import counts


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """Return x @ matrix in the type of the matrix, given back in the type of x."""
    return x @ matrix if x.dtype == matrix.dtype else (x.to(matrix.dtype) @ matrix).to(x.dtype)


def add_product(base: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """Return base + x @ matrix; with directions before the rows where there are some."""
    if x.dtype != matrix.dtype:
        return (x.to(matrix.dtype) @ matrix).to(x.dtype).add_(base)
    return torch.addmm(base, x, matrix) if x.ndim == 2 else torch.baddbmm(base, x, matrix)


def weight_gradient(outer: Tensor, inner: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the sum over steps and rows of outer^T inner: (T, rows, a) and (T, rows, b) give (a, b).

    Directions before the rows, (T, directions, rows, .), stay apart: (directions, a, b).
    """
    if outer.ndim == 4:
        return torch.stack([weight_gradient(outer[:, d], inner[:, d], dtype) for d in range(outer.shape[1])])
    a, b = outer.reshape(-1, outer.shape[-1]), inner.reshape(-1, inner.shape[-1])
    return (a.to(dtype).T @ b.to(dtype)).to(outer.dtype)


class CellKernel(ABC):
    """One recurrent cell, forward and backward, on plain tensors."""

    num_states: int
    num_gates: int
    hidden_dim: int

    @abstractmethod
    def __init__(self, weights: States, dtype: torch.dtype) -> None:
        """Take the weights that multiply the state, and the type in which they do."""

    @abstractmethod
    def step(self, projected: Tensor, states: States) -> tuple[States, States]:
        """Return the next states, and what the backward pass needs of this step."""

    @abstractmethod
    def backward_factors(self, saved: States, before: States) -> States:
        """Return what multiplies gradients, for all steps at once; `before` are the states before each step."""

    @abstractmethod
    def step_back(self, factors: States, gradients: States, to_projected: Tensor) -> States:
        """Return the gradients of the states before a step; write that of `projected` into `to_projected`."""

    @abstractmethod
    def weight_gradients(self, saved: States, before: States, to_projected: Tensor) -> States:
        """Return the gradients of the weights, in the order of the constructor."""


class GRUKernel(CellKernel):
    """The gated recurrent unit as the papers write it."""

    num_states, num_gates = 1, 3

    def __init__(self, weights: States, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.gates, self.proposal = (weight.to(dtype) for weight in weights)
        self.hidden_dim = self.proposal.shape[0]

    def step(self, projected: Tensor, states: States) -> tuple[States, States]:
        (hidden,), width = states, 2 * self.hidden_dim
        gates = add_product(projected[..., :width], hidden, self.gates.T).sigmoid_()
        update, reset = gates.chunk(2, dim=-1)
        proposal = add_product(projected[..., width:], reset * hidden, self.proposal.T).tanh_()
        return (torch.lerp(hidden, proposal, update),), (gates, proposal)

    def backward_factors(self, saved: States, before: States) -> States:
        (gates, proposal), (hidden,) = saved, before
        update, reset = gates.chunk(2, dim=-1)
        return (
            (proposal - hidden).mul_(update).mul_(1 - update),
            torch.addcmul(update, update, proposal.square(), value=-1),
            (1 - reset).mul_(reset).mul_(hidden),
            reset,
            1 - update,
        )

    def step_back(self, factors: States, gradients: States, to_projected: Tensor) -> States:
        to_update, to_proposal, to_reset, reset, keep = factors
        (gradient,), h = gradients, self.hidden_dim
        torch.mul(gradient, to_update, out=to_projected[..., :h])
        of_proposal = gradient * to_proposal
        to_projected[..., 2 * h :] = of_proposal
        of_reset_hidden = product(of_proposal, self.proposal)
        torch.mul(of_reset_hidden, to_reset, out=to_projected[..., h : 2 * h])
        before = (gradient * keep).addcmul_(of_reset_hidden, reset)
        return (add_product(before, to_projected[..., : 2 * h], self.gates),)

    def weight_gradients(self, saved: States, before: States, to_projected: Tensor) -> States:
        (gates, _), (hidden,), h = saved, before, self.hidden_dim
        return (
            weight_gradient(to_projected[..., : 2 * h], hidden, self.dtype),
            weight_gradient(to_projected[..., 2 * h :], gates[..., h:] * hidden, self.dtype),
        )


class LSTMKernel(CellKernel):
    """The long short-term memory; gates in the order of `LSTMCell`: enter, forget, leave, proposal."""

    num_states, num_gates = 2, 4

    def __init__(self, weights: States, dtype: torch.dtype) -> None:
        self.dtype = dtype
        (self.gates,) = (weight.to(dtype) for weight in weights)
        self.hidden_dim = self.gates.shape[-1]

    def step(self, projected: Tensor, states: States) -> tuple[States, States]:
        hidden, cell = states
        gates = add_product(projected, hidden, self.gates.T)
        gates[..., : 3 * self.hidden_dim].sigmoid_()
        gates[..., 3 * self.hidden_dim :].tanh_()
        enter, forget, leave, proposal = gates.chunk(4, dim=-1)
        cell = (forget * cell).addcmul_(enter, proposal)
        shown = cell.tanh()
        return (leave * shown, cell), (gates, shown)

    def backward_factors(self, saved: States, before: States) -> States:
        (gates, shown), (_, cell) = saved, before
        enter, forget, leave, proposal = gates.chunk(4, dim=-1)
        # Side by side, so that one product with the cell's gradient serves three gates.
        of_cell = torch.cat(
            [
                (1 - enter).mul_(enter).mul_(proposal),
                (1 - forget).mul_(forget).mul_(cell),
                torch.addcmul(enter, enter, proposal.square(), value=-1),
            ],
            dim=-1,
        )
        return (
            of_cell,
            (1 - leave).mul_(leave).mul_(shown),
            torch.addcmul(leave, leave, shown.square(), value=-1),
            forget,
        )

    def step_back(self, factors: States, gradients: States, to_projected: Tensor) -> States:
        of_cell, of_leave, to_cell, forget = factors
        (gradient, cell_gradient), h = gradients, self.hidden_dim
        cell_gradient = torch.addcmul(cell_gradient, gradient, to_cell)
        enter, forgotten, proposal = of_cell.chunk(3, dim=-1)
        torch.mul(cell_gradient, enter, out=to_projected[..., :h])
        torch.mul(cell_gradient, forgotten, out=to_projected[..., h : 2 * h])
        torch.mul(gradient, of_leave, out=to_projected[..., 2 * h : 3 * h])
        torch.mul(cell_gradient, proposal, out=to_projected[..., 3 * h :])
        return product(to_projected, self.gates), cell_gradient * forget

    def weight_gradients(self, saved: States, before: States, to_projected: Tensor) -> States:
        return (weight_gradient(to_projected, before[0], self.dtype),)


class TorchGRUKernel(CellKernel):
    """The gated recurrent unit of `torch.nn.GRU`, which resets after the product; one weight for each direction.

    r, z = sigmoid(x + W s + b);  n = tanh(x_n + r * (W_n s + b_n));  s' = (1 - z) * n + z * s
    """

    num_states, num_gates = 1, 3

    def __init__(self, weights: States, dtype: torch.dtype) -> None:
        self.dtype = dtype
        matrix, bias = weights
        self.matrix, self.bias = matrix.to(dtype), bias.unsqueeze(1)
        self.hidden_dim = matrix.shape[-1]

    def step(self, projected: Tensor, states: States) -> tuple[States, States]:
        (hidden,), width = states, 2 * self.hidden_dim
        from_hidden = add_product(self.bias, hidden, self.matrix.mT)
        gates = (from_hidden[..., :width] + projected[..., :width]).sigmoid_()
        reset, keep = gates.chunk(2, dim=-1)
        candidate = from_hidden[..., width:]
        proposal = torch.addcmul(projected[..., width:], reset, candidate).tanh_()
        return (torch.lerp(proposal, hidden, keep),), (gates, candidate, proposal)

    def backward_factors(self, saved: States, before: States) -> States:
        (gates, candidate, proposal), (hidden,) = saved, before
        reset, keep = gates.chunk(2, dim=-1)
        return (
            (1 - reset).mul_(reset).mul_(candidate),
            (hidden - proposal).mul_(keep).mul_(1 - keep),
            (1 - keep).mul_(1 - proposal.square()),
            reset,
            keep,
        )

    def step_back(self, factors: States, gradients: States, to_projected: Tensor) -> States:
        to_reset, to_keep, to_proposal, reset, keep = factors
        (gradient,), h = gradients, self.hidden_dim
        of_proposal = gradient * to_proposal
        torch.mul(of_proposal, to_reset, out=to_projected[..., :h])
        torch.mul(gradient, to_keep, out=to_projected[..., h : 2 * h])
        to_projected[..., 2 * h :] = of_proposal
        of_product = to_projected.clone()
        of_product[..., 2 * h :] *= reset
        return (add_product(gradient * keep, of_product, self.matrix),)

    def weight_gradients(self, saved: States, before: States, to_projected: Tensor) -> States:
        (gates, _, _), (hidden,), h = saved, before, self.hidden_dim
        of_product = torch.cat([to_projected[..., : 2 * h], to_projected[..., 2 * h :] * gates[..., :h]], dim=-1)
        return weight_gradient(of_product, hidden, self.dtype), of_product.sum((0, 2))


def stacked(steps: list[States]) -> States:
    """Return the tensors of all steps, each with the steps as axis 0."""
    return tuple(torch.stack(parts) for parts in zip(*steps, strict=True))


class _GRURecurrence(torch.autograd.Function):
    """`torch.nn.GRU` over whole sequences, all directions in one loop; the state stands still on padding."""

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, real: Tensor | None, start: Tensor, matrix: Tensor, bias: Tensor
    ) -> Tensor:
        kernel = TorchGRUKernel((matrix, bias), compute_dtype(projected))
        states, saved = [start], []
        with torch.autocast(projected.device.type, enabled=False):
            for position, now in enumerate(projected):
                (state,), kept = kernel.step(now, (states[-1],))
                states.append(state if real is None else torch.where(real[position], state, states[-1]))
                saved.append(kept)
        every = torch.stack(states)
        ctx.kernel = kernel
        ctx.save_for_backward(real, every, *stacked(saved))
        return every[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        kernel: TorchGRUKernel = ctx.kernel
        real, every, *rest = ctx.saved_tensors
        saved, before = tuple(rest), (every[:-1],)
        factors = kernel.backward_factors(saved, before)
        to_projected = every.new_empty((*before[0].shape[:-1], kernel.num_gates * kernel.hidden_dim))
        flowing = torch.zeros_like(every[0])
        for position in reversed(range(len(to_projected))):
            flowing = flowing + gradients[0][position]
            now = tuple(factor[position] for factor in factors)
            if real is None:
                (flowing,) = kernel.step_back(now, (flowing,), to_projected[position])
            else:
                still = flowing.masked_fill(real[position], 0)
                moving = (flowing.masked_fill(~real[position], 0),)
                flowing = kernel.step_back(now, moving, to_projected[position])[0].add_(still)
        return to_projected, None, flowing, *kernel.weight_gradients(saved, before, to_projected)


def gru_recurrence(
    projected: Float[Tensor, "rows steps directions_gates"],
    lengths: Int[Tensor, " rows"] | None,
    start: Float[Tensor, "directions rows hidden_dim"],
    matrix: Float[Tensor, "directions gates hidden_dim"],
    bias: Float[Tensor, "directions gates"],
) -> tuple[Float[Tensor, "rows steps directions_dim"], Float[Tensor, "directions rows hidden_dim"]]:
    """Return the states of `torch.nn.GRU`, one layer, whose inputs are projected already: all of them, and the last.

    The second direction, where there is one, reads from the end. Behind a row's length the state stays as it was, and
    what is shown of it are zeros. For training: with gradients off, the kernel of torch is as fast.
    """
    num_directions, (rows, num_steps, _) = len(start), projected.shape
    found: tuple[Tensor, Tensor]
    if compiled_recurrence_takes(projected):
        seen = counts(lengths, rows, num_steps)
        found = CompiledGRUStack.apply(projected, seen, start, matrix, bias)  # type: ignore[no-untyped-call]
        return found
    real = None
    if lengths is not None and bool((lengths < num_steps).any()):
        forwards = torch.arange(num_steps, device=projected.device)[:, None] < lengths
        real = _in_reading_order([forwards[..., None]] * num_directions)
    steps_first = projected.to(matrix.dtype).transpose(0, 1)
    inputs = _in_reading_order(list(steps_first.chunk(num_directions, dim=-1)))
    states: Tensor = _GRURecurrence.apply(  # type: ignore[no-untyped-call]
        inputs, real, start.to(matrix.dtype), matrix, bias
    )
    shown = states if real is None else states * real
    sides = _in_reading_order(list(shown.unbind(1)))
    return torch.cat(sides.unbind(1), -1).transpose(0, 1), states[-1]


def _in_reading_order(directions: list[Tensor]) -> Tensor:
    """Return what is steps first, the second direction from its end, in one tensor, (steps, directions, ...)."""
    return torch.stack([one.flip(0) if reads_back else one for reads_back, one in enumerate(directions)], 1)
