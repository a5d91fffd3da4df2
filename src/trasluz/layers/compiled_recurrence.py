"""Recurrences in training by compiled kernels: a step is a few matrix products, and one call between two of them.

What the kernels write is one place for all steps, so that the gradients of the weights are one product over all of
them. The state that goes on from step to step is float32; what products read of it, and all that they give, is in their
type. `recurrent_kernels` and `attentive_recurrence` have the same in PyTorch's words.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from trasluz.layers.kernels import recurrent_cells, training_kernels_for
from trasluz.layers.kernels.additive_attention import CompiledAttention
from trasluz.layers.kernels.column_sums import column_sums
from trasluz.layers.linear import compute_dtype
from trasluz.layers.products import RepeatedProduct, row_products

States = tuple[Tensor, ...]


def compiled_recurrence_takes(x: Tensor) -> bool:
    """Tell whether the kernels are there for a recurrence over `x`, in the type that its products are made in."""
    return training_kernels_for(x) is not None and compute_dtype(x) in (torch.float32, torch.bfloat16)


class Tape(NamedTuple):
    """What a recurrence leaves behind for the way back; `states` and `shown` begin with the start."""

    states: Float[Tensor, "steps_and_one rows dim"]
    """What goes on beside the products, in float32: the state of a GRU, the cell of an LSTM."""
    shown: Float[Tensor, "steps_and_one rows dim"]
    """The state as a number for products."""
    saved: Float[Tensor, "steps rows gates"]
    kept: Float[Tensor, "steps rows dim"]
    """What else a product was made of."""


class CompiledCell(ABC):
    """One recurrent cell, forward and backward."""

    num_states: int
    num_gates: int
    num_saved: int

    @abstractmethod
    def __init__(self, weights: States, dtype: torch.dtype) -> None:
        """Take the weights that multiply the state, and the type in which they do."""

    @abstractmethod
    def tape(self, start: States, steps: int) -> Tape:
        """Return room for so many steps from a start."""

    @abstractmethod
    def step(self, tape: Tape, step: int, projected: Tensor, from_context: Tensor) -> None:
        """Move on by one step; what enters it is `projected` + `from_context`."""

    @abstractmethod
    def step_back(
        self, tape: Tape, step: int, given: Tensor, product: Tensor, flowing: Tensor, to_projected: Tensor
    ) -> Tensor:
        """Write the gradient of what entered a step, and return what flows back to the state before by products.

        What flows back otherwise is in `flowing`, which was, with `product`, what flows back from the steps behind.
        """

    @abstractmethod
    def of_start(self, flowing: Tensor, product: Tensor) -> States:
        """Return the gradients of the start."""

    @abstractmethod
    def weight_gradients(self, tape: Tape, to_projected: Tensor) -> States:
        """Return the gradients of the weights, in the order of the constructor."""


class CompiledGRU(CompiledCell):
    """As `GRUKernel`."""

    num_states, num_gates, num_saved = 1, 3, 3

    def __init__(self, weights: States, dtype: torch.dtype) -> None:
        self.gates, self.proposal = (RepeatedProduct(weight, dtype) for weight in weights)

    def tape(self, start: States, steps: int) -> Tape:
        (state,), dtype = start, self.gates.dtype
        states, shown, saved = _places(state, state, steps, self.num_saved, dtype)
        return Tape(states, shown, saved, torch.empty(steps, *state.shape, dtype=dtype))

    def step(self, tape: Tape, step: int, projected: Tensor, from_context: Tensor) -> None:
        state, saved, reset_state = tape.states[step], tape.saved[step], tape.kept[step]
        from_state = self.gates(tape.shown[step])
        recurrent_cells.gru_gates(projected, from_context, from_state, state, saved, reset_state)
        from_reset = self.proposal(reset_state)
        recurrent_cells.gru_proposal(
            projected, from_context, from_reset, state, saved, tape.states[step + 1], tape.shown[step + 1]
        )

    def step_back(
        self, tape: Tape, step: int, given: Tensor, product: Tensor, flowing: Tensor, to_projected: Tensor
    ) -> Tensor:
        two_gates = 2 * flowing.shape[-1]
        recurrent_cells.gru_proposal_backward(given, product, tape.saved[step], flowing, to_projected)
        of_reset = self.proposal.back(to_projected[:, two_gates:])
        recurrent_cells.gru_gates_backward(of_reset, tape.saved[step], tape.states[step], flowing, to_projected)
        return self.gates.back(to_projected[:, :two_gates])

    def of_start(self, flowing: Tensor, product: Tensor) -> States:
        return (flowing + product,)

    def weight_gradients(self, tape: Tape, to_projected: Tensor) -> States:
        of_all, two_gates = to_projected.flatten(0, 1), 2 * tape.kept.shape[-1]
        return (
            row_products(of_all[:, :two_gates], tape.shown[:-1].flatten(0, 1)),
            row_products(of_all[:, two_gates:], tape.kept.flatten(0, 1)),
        )


class CompiledLSTM(CompiledCell):
    """As `LSTMKernel`."""

    num_states, num_gates, num_saved = 2, 4, 5

    def __init__(self, weights: States, dtype: torch.dtype) -> None:
        (self.gates,) = (RepeatedProduct(weight, dtype) for weight in weights)

    def tape(self, start: States, steps: int) -> Tape:
        state, cell = start
        return Tape(*_places(cell, state, steps, self.num_saved, self.gates.dtype, apart=True), cell.new_empty(0))

    def step(self, tape: Tape, step: int, projected: Tensor, from_context: Tensor) -> None:
        from_state = self.gates(tape.shown[step])
        recurrent_cells.lstm(
            *(projected, from_context, from_state, tape.states[step], tape.saved[step]),
            *(tape.states[step + 1], tape.shown[step + 1]),
        )

    def step_back(
        self, tape: Tape, step: int, given: Tensor, product: Tensor, flowing: Tensor, to_projected: Tensor
    ) -> Tensor:
        recurrent_cells.lstm_backward(given, product, tape.saved[step], tape.states[step], flowing, to_projected)
        return self.gates.back(to_projected)

    def of_start(self, flowing: Tensor, product: Tensor) -> States:
        return product, flowing

    def weight_gradients(self, tape: Tape, to_projected: Tensor) -> States:
        return (row_products(to_projected.flatten(0, 1), tape.shown[:-1].flatten(0, 1)),)


class CompiledAttentiveRecurrence(torch.autograd.Function):
    """The loop of `attentive_recurrence`; what comes in and goes out has the batch first, all between the steps."""

    @staticmethod
    def forward(
        ctx: Any,
        kind: type[CompiledCell],
        seen: Int[Tensor, " rows"],
        projected: Float[Tensor, "rows steps gates"],
        key: Float[Tensor, "rows key attention_dim"],
        value: Float[Tensor, "rows key memory_dim"],
        query_weight: Float[Tensor, "attention_dim dim"],
        score_weight: Float[Tensor, "1 attention_dim"],
        context_weight: Float[Tensor, "gates memory_dim"],
        *weights_and_start: Tensor,
    ) -> tuple[Float[Tensor, "rows steps memory_dim"], Float[Tensor, "rows steps dim"]]:
        dtype, (rows, steps, _) = compute_dtype(projected), projected.shape
        cell = kind(weights_and_start[: -kind.num_states], dtype)
        tape = cell.tape(weights_and_start[-kind.num_states :], steps)
        projected = _with_whole_rows(projected.to(dtype))
        key, value = (part.to(dtype).contiguous() for part in (key, value))
        memory = CompiledAttention(key, value, score_weight[0].float().contiguous(), seen)
        to_query = RepeatedProduct(query_weight, dtype)
        # Gradients of scores are small differences of what comes back to the contexts: eight bits are too few for them.
        to_gates = RepeatedProduct(context_weight, dtype, rounds_back=False)
        contexts = torch.empty(steps, rows, value.shape[-1], dtype=dtype)
        alignments, queries = torch.empty(steps, rows, key.shape[1], dtype=torch.float32), []
        for step in range(steps):
            query = to_query(tape.shown[step])
            memory.look(query, alignments[step], contexts[step])
            cell.step(tape, step, projected[:, step], to_gates(contexts[step]))
            queries.append(query)
        ctx.cell, ctx.memory, ctx.to_query, ctx.to_gates = cell, memory, to_query, to_gates
        ctx.save_for_backward(contexts, alignments, torch.stack(queries), *tape)
        return contexts.transpose(0, 1), tape.shown[1:].transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        contexts, alignments, queries, *rest = ctx.saved_tensors
        cell: CompiledCell = ctx.cell
        memory: CompiledAttention = ctx.memory
        tape, dtype = Tape(*rest), contexts.dtype
        to_contexts, to_shown = (_with_whole_rows(one.to(dtype)) for one in gradients)
        steps, rows, dim = tape.shown[1:].shape
        to_projected = torch.empty(steps, rows, cell.num_gates * dim, dtype=dtype)
        through_contexts, to_queries = torch.empty_like(contexts), torch.empty_like(queries)
        to_scores = torch.empty_like(alignments)
        flowing, product = (torch.zeros(rows, dim, dtype=one) for one in (torch.float32, dtype))
        for step in reversed(range(steps)):
            product = cell.step_back(tape, step, to_shown[:, step], product, flowing, to_projected[step])
            memory.look_back(
                *(to_contexts[:, step], ctx.to_gates.back(to_projected[step])),
                *(queries[step], alignments[step], through_contexts[step], to_scores[step], to_queries[step]),
            )
            product += ctx.to_query.back(to_queries[step])
        to_key, to_value, to_score = memory.memory_gradients(queries, through_contexts, alignments, to_scores)
        return (
            *(None, None),
            *(to_projected.transpose(0, 1), to_key, to_value),
            row_products(to_queries.flatten(0, 1), tape.shown[:-1].flatten(0, 1)),
            to_score[None],
            row_products(to_projected.flatten(0, 1), contexts.flatten(0, 1)),
            *cell.weight_gradients(tape, to_projected),
            *cell.of_start(flowing, product),
        )


class CompiledGRUStack(torch.autograd.Function):
    """One layer of `torch.nn.GRU` over whole sequences, forwards, and backwards where there is a second direction."""

    @staticmethod
    def forward(
        ctx: Any,
        projected: Float[Tensor, "rows steps directions_gates"],
        lengths: Int[Tensor, " rows"],
        start: Float[Tensor, "directions rows dim"],
        matrix: Float[Tensor, "directions gates dim"],
        bias: Float[Tensor, "directions gates"],
    ) -> tuple[Float[Tensor, "rows steps directions_dim"], Float[Tensor, "directions rows dim"]]:
        dtype, (rows, steps, _) = compute_dtype(projected), projected.shape
        directions, dim = len(start), start.shape[2]
        products, bias = [RepeatedProduct(one, dtype) for one in matrix], bias.float()
        parts = _with_whole_rows(projected.to(dtype)).chunk(directions, dim=-1)
        output = torch.empty(rows, steps, directions * dim, dtype=dtype)
        tapes = [_places(one, one, steps, 4, dtype) for one in start]
        for direction, (states, shown, saved) in enumerate(tapes):
            seen, product, added = output.chunk(directions, dim=-1)[direction], products[direction], bias[direction]
            for step, position in enumerate(_positions(steps, direction)):
                now, from_state = parts[direction][:, position], product(shown[step])
                recurrent_cells.torch_gru(
                    *(now, from_state, added, states[step], lengths, position, saved[step]),
                    *(states[step + 1], shown[step + 1], seen[:, position]),
                )
        ctx.products = products
        ctx.save_for_backward(lengths, *(part for tape in tapes for part in tape))
        return output, torch.stack([states[-1] for states, _, _ in tapes])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        lengths, *rest = ctx.saved_tensors
        products: list[RepeatedProduct] = ctx.products
        directions, dtype = len(products), products[0].dtype
        of_output, of_last = _with_whole_rows(gradients[0].to(dtype)), gradients[1]
        (rows, steps, _), (_, dim) = of_output.shape, of_last.shape[1:]
        gates = 3 * dim
        to_projected = torch.empty(rows, steps, directions * gates, dtype=dtype)
        to_start, to_matrix, to_bias = [], [], []
        for direction in range(directions):
            states, shown, saved = rest[3 * direction : 3 * direction + 3]
            given, wanted = (x.chunk(directions, dim=-1)[direction] for x in (of_output, to_projected))
            to_product = torch.empty(steps, rows, gates, dtype=dtype)
            flowing = of_last[direction].clone(memory_format=torch.contiguous_format)
            product = torch.zeros(rows, dim, dtype=dtype)
            for step, position in reversed(list(enumerate(_positions(steps, direction)))):
                recurrent_cells.torch_gru_backward(
                    *(given[:, position], product, saved[step], states[step], lengths, position),
                    *(flowing, wanted[:, position], to_product[step]),
                )
                product = products[direction].back(to_product[step])
            to_start.append(flowing + product)
            to_matrix.append(row_products(to_product.flatten(0, 1), shown[:-1].flatten(0, 1)))
            to_bias.append(column_sums(to_product.flatten(0, 1)))
        return to_projected, None, *(torch.stack(one) for one in (to_start, to_matrix, to_bias))


def _places(
    start: Tensor, shown_start: Tensor, steps: int, num_saved: int, dtype: torch.dtype, apart: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return room for states, what is shown of them and what is saved; the first two are one where they are alike."""
    rows, dim = start.shape
    states = torch.empty(steps + 1, rows, dim, dtype=torch.float32)
    shown = states if dtype == torch.float32 and not apart else torch.empty(steps + 1, rows, dim, dtype=dtype)
    states[0], shown[0] = start, shown_start
    return states, shown, torch.empty(steps, rows, num_saved * dim, dtype=torch.float32)


def _positions(steps: int, direction: int) -> range:
    return range(steps - 1, -1, -1) if direction else range(steps)


def _with_whole_rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
