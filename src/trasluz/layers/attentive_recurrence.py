"""A recurrence that looks over a memory before every step (Bahdanau, Cho and Bengio 2015, appendix A.2.2).

    c_t = attention(s_{t-1}, memory);   s_t = cell(x_t + W_c c_t, s_{t-1})

Attention inside the loop leaves no kernel of torch's to call. While training, the loop runs with gradients written by
hand, compiled (see `compiled_recurrence`) or not (see `recurrent_kernels`); everywhere else, and when somebody wants to
see the weights, as it is written above.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trasluz.layers.additive_attention import AdditiveAttention
from trasluz.layers.attention import KeyValue
from trasluz.layers.compiled_recurrence import (
    CompiledAttentiveRecurrence,
    CompiledCell,
    CompiledGRU,
    CompiledLSTM,
    compiled_recurrence_takes,
)
from trasluz.layers.linear import compute_dtype
from trasluz.layers.masks import Mask, counts
from trasluz.layers.recurrent import GRUCell, LSTMCell, RecurrentState
from trasluz.layers.recurrent_kernels import (
    CellKernel,
    GRUKernel,
    LSTMKernel,
    add_product,
    product,
    stacked,
    weight_gradient,
)

KERNELS: dict[type[GRUCell] | type[LSTMCell], type[CellKernel]] = {GRUCell: GRUKernel, LSTMCell: LSTMKernel}
COMPILED: dict[type[GRUCell] | type[LSTMCell], type[CompiledCell]] = {GRUCell: CompiledGRU, LSTMCell: CompiledLSTM}


def attentive_recurrence(
    projected: Float[Tensor, "batch steps gates"],
    context_weight: Float[Tensor, "gates memory_dim"],
    attention: AdditiveAttention,
    memory: KeyValue,
    mask: Mask,
    cell: GRUCell | LSTMCell,
    state: RecurrentState,
) -> tuple[Float[Tensor, "batch steps memory_dim"], Float[Tensor, "batch steps hidden_dim"]]:
    """Return the contexts and the hidden states of all steps; `projected` are W x + b."""
    if torch.is_grad_enabled() and attention.tap is None and not mask.hides_everything_somewhere():
        num_keys = memory.key.shape[1]
        weights = attention.query.weight, attention.score.weight, context_weight, *cell.recurrent_weights()
        of_all: tuple[Tensor, Tensor]
        if compiled_recurrence_takes(projected) and mask.hides_only_padding():
            every = counts(mask.key_lengths, len(projected), num_keys)
            of_all = CompiledAttentiveRecurrence.apply(  # type: ignore[no-untyped-call]
                COMPILED[type(cell)], every, projected, *memory, *weights, *state
            )
            return of_all
        seen = None if mask.sees_everything(1, num_keys) else mask.dense(1, num_keys, projected.device)[:, 0]
        # Products run in autocast's type, everything else in that of the weights.
        dtype = context_weight.dtype
        of_all = _AttentiveRecurrence.apply(  # type: ignore[no-untyped-call]
            KERNELS[type(cell)],
            compute_dtype(projected),
            seen,
            projected.transpose(0, 1).to(dtype),
            *(part.to(dtype) for part in memory),
            *weights,
            *(part.to(dtype) for part in state),
        )
        return of_all[0].transpose(0, 1), of_all[1].transpose(0, 1)
    contexts, hiddens = [], []
    for now in projected.unbind(1):
        context = attention.attend_from_rows(state[0], memory, mask)
        state = cell(now + nn.functional.linear(context, context_weight), state)
        contexts.append(context)
        hiddens.append(state[0])
    return torch.stack(contexts, 1), torch.stack(hiddens, 1)


class _AttentiveRecurrence(torch.autograd.Function):
    """The loop of `attentive_recurrence`, steps first: tensors are (steps, batch, ...)."""

    @staticmethod
    def forward(
        ctx: Any,
        kind: type[CellKernel],
        dtype: torch.dtype,
        seen: Tensor | None,
        projected: Tensor,
        key: Tensor,
        value: Tensor,
        query_weight: Tensor,
        score_weight: Tensor,
        context_weight: Tensor,
        *weights_and_states: Tensor,
    ) -> tuple[Tensor, Tensor]:
        num_weights = len(weights_and_states) - kind.num_states
        kernel = kind(weights_and_states[:num_weights], dtype)
        states = weights_and_states[num_weights:]
        to_query, to_gates, score = query_weight.to(dtype).T, context_weight.to(dtype).T, score_weight[0]
        hidden_bias = None if seen is None else (~seen).to(key.dtype).mul_(torch.finfo(key.dtype).min)
        every, contexts, alignments, saved = [states], [], [], []
        with torch.autocast(projected.device.type, enabled=False):
            for now in projected:
                scores = _hidden_layer(product(states[0], to_query), key) @ score
                weights = (scores if hidden_bias is None else scores + hidden_bias).softmax(-1)
                context = torch.bmm(weights[:, None], value)[:, 0]
                states, kept = kernel.step(add_product(now, context, to_gates), states)
                every.append(states)
                contexts.append(context)
                alignments.append(weights)
                saved.append(kept)
        all_states, all_saved, all_contexts = stacked(every), stacked(saved), torch.stack(contexts)
        ctx.kernel, ctx.num_states, ctx.dtype = kernel, len(all_states), dtype
        ctx.save_for_backward(
            key,
            value,
            query_weight,
            score_weight,
            context_weight,
            all_contexts,
            torch.stack(alignments),
            *all_states,
            *all_saved,
        )
        return all_contexts, all_states[0][1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        kernel: CellKernel = ctx.kernel
        dtype: torch.dtype = ctx.dtype
        key, value, query_weight, score_weight, context_weight, contexts, alignments, *rest = ctx.saved_tensors
        before = tuple(part[:-1] for part in rest[: ctx.num_states])
        saved = tuple(rest[ctx.num_states :])
        factors = kernel.backward_factors(saved, before)
        to_contexts, to_hiddens = gradients
        query_matrix, context_matrix, score = query_weight.to(dtype), context_weight.to(dtype), score_weight[0]
        num_steps, batch = contexts.shape[:2]
        to_projected = contexts.new_empty(num_steps, batch, kernel.num_gates * kernel.hidden_dim)
        through_contexts = torch.empty_like(contexts)
        to_queries = contexts.new_empty(num_steps, batch, key.shape[-1])
        to_key, to_score = torch.zeros_like(key), torch.zeros_like(score)
        one = key.new_ones(())
        queries = product(before[0], query_matrix.T)
        flowing = tuple(torch.zeros_like(part[0]) for part in before)
        for step in reversed(range(num_steps)):
            flowing = (flowing[0] + to_hiddens[step], *flowing[1:])
            flowing = kernel.step_back(tuple(factor[step] for factor in factors), flowing, to_projected[step])
            to_context = through_contexts[step]
            torch.add(to_contexts[step], product(to_projected[step], context_matrix), out=to_context)
            weights = alignments[step]
            to_weights = torch.bmm(value, to_context[:, :, None])[:, :, 0]
            to_scores = weights * (to_weights - torch.linalg.vecdot(weights, to_weights)[:, None])
            # Made again rather than kept: all steps' hidden layers are by far the largest thing here.
            hidden = _hidden_layer(queries[step], key)
            to_score += to_scores.flatten() @ hidden.flatten(0, 1)
            slope = torch.addcmul(one, hidden, hidden, value=-1)
            to_key.addcmul_(slope, to_scores[:, :, None])
            torch.mul(torch.bmm(to_scores[:, None], slope)[:, 0], score, out=to_queries[step])
            flowing = (add_product(flowing[0], to_queries[step], query_matrix), *flowing[1:])
        return (
            None,
            None,
            None,
            to_projected,
            to_key.mul_(score),
            torch.einsum("tbs,tbm->bsm", alignments, through_contexts),
            weight_gradient(to_queries, before[0], dtype),
            to_score[None],
            weight_gradient(to_projected, contexts, dtype),
            *kernel.weight_gradients(saved, before, to_projected),
            *flowing,
        )


def _hidden_layer(query: Tensor, key: Tensor) -> Tensor:
    """Return tanh(W s + U h) of one query a row: (batch, attention_dim) and (batch, key, attention_dim)."""
    return torch.add(query[:, None], key).tanh_()
