"""Attention of many texts at once, none of which sees another; what is computed stands in text_attention.cpp."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from trasluz.layers.kernels import LANES, drawn_seed, load_kernels, training_kernels_for
from trasluz.layers.masks import Stretches
from trasluz.layers.row_room import empty_rows

# As many keys as nobody has: every query sees all of its text.
_ALL = 1 << 40


def takes_texts(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Tell whether the kernel is there for these."""
    return (
        training_kernels_for(query) is not None
        and query.dtype == key.dtype == value.dtype
        and key.shape == value.shape
        and query.shape[:2] == key.shape[:2]
        and query.shape[-1] == key.shape[-1]
        and query.shape[-1] % LANES == 0
    )


def attends_to_texts(device: torch.device) -> bool:
    """Tell whether the kernel is there on a device, so that rows of several texts cost no more than these."""
    return device.type == "cpu" and load_kernels() is not None


def text_attention(
    query: Float[Tensor, "batch heads query head_dim"],
    key: Float[Tensor, "batch heads key head_dim"],
    value: Float[Tensor, "batch heads key head_dim"],
    queries: Stretches,
    keys: Stretches,
    first_sees: int | None = None,
    dropout_probability: float = 0.0,
) -> Float[Tensor, "batch heads query head_dim"]:
    """Return the context of every query of `queries` over the `keys` of its text; zeros where there are none.

    A text's first query sees its first `first_sees` keys, and each one more than that before it; all, where not given.
    The texts stand in the order of their positions.
    """
    # Positions before heads: so a projection leaves them, and nothing is copied.
    parts = [_in_rows(x.transpose(1, 2)) for x in (query, key, value)]
    sees = _ALL if first_sees is None else first_sees
    call = TextCall((*queries, *keys), sees, drawn_seed() if dropout_probability else 0, dropout_probability)
    context: Tensor = _TextAttention.apply(*parts, call)  # type: ignore[no-untyped-call]
    return context.transpose(1, 2)


class TextCall(NamedTuple):
    """What both passes are told: whose queries look over which keys (see `text_attention`), and what is dropped out."""

    stretches: tuple[Tensor, Tensor, Tensor, Tensor]
    first_sees: int = _ALL
    seed: int = 0
    dropout_probability: float = 0.0


class _TextAttention(torch.autograd.Function):
    """What is kept for the backward pass is what came in, and the seed of what is dropped out."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, call: TextCall) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.call = call
        return contexts_of_texts(query, key, value, call)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        return *gradients_of_texts(query, key, value, gradients[0], ctx.call), None


def contexts_of_texts(
    query: Float[Tensor, "batch query heads head_dim"],
    key: Float[Tensor, "batch key heads head_dim"],
    value: Float[Tensor, "batch key heads head_dim"],
    call: TextCall,
) -> Float[Tensor, "batch query heads head_dim"]:
    """Return the contexts; all positions of a tensor lie equally far apart, each one's heads side by side."""
    context = empty_rows(query.shape, query.dtype, row_axes=2)
    kernels = load_kernels()
    assert kernels is not None
    kernels.trasluz_text_attention(*_arguments(query, key, value, call), context.data_ptr())
    return context


def gradients_of_texts(
    query: Float[Tensor, "batch query heads head_dim"],
    key: Float[Tensor, "batch key heads head_dim"],
    value: Float[Tensor, "batch key heads head_dim"],
    gradient: Float[Tensor, "batch query heads head_dim"],
    call: TextCall,
) -> list[Tensor]:
    """Return the gradients of queries, keys and values, given that of the contexts."""
    given, wanted = gradient.contiguous(), _laid_out_alike(query, key, value)
    kernels = load_kernels()
    assert kernels is not None
    kernels.trasluz_text_attention_gradients(
        *_arguments(query, key, value, call),
        given.data_ptr(),
        *(number for one in wanted for number in (one.data_ptr(), _step(one))),
    )
    return wanted


def _arguments(query: Tensor, key: Tensor, value: Tensor, call: TextCall) -> tuple[Any, ...]:
    first_query, queries, first_key, keys = (part.data_ptr() for part in call.stretches)
    return (
        *(number for one in (query, key, value) for number in (one.data_ptr(), _step(one))),
        *(len(call.stretches[0]), first_query, queries, query.shape[0] * query.shape[1]),
        *(first_key, keys, key.shape[0] * key.shape[1]),
        *(query.shape[2], query.shape[3], call.first_sees, call.seed, call.dropout_probability),
        *(torch.get_num_threads(), query.dtype == torch.bfloat16),
    )


def _step(x: Float[Tensor, "batch positions heads head_dim"]) -> int:
    """Return how many numbers lie from one position to the next, the last of a row and the first of another too."""
    return x.stride(1) if x.shape[1] > 1 else x.stride(0)


def _in_rows(x: Float[Tensor, "batch positions heads head_dim"]) -> Float[Tensor, "batch positions heads head_dim"]:
    """Return the same with the heads of a position side by side, and all positions equally far apart."""
    batch, positions, heads, head_dim = x.shape
    side_by_side = x.stride(3) == 1 and (heads == 1 or x.stride(2) == head_dim)
    return x if side_by_side and (batch == 1 or x.stride(0) == positions * _step(x)) else x.contiguous()


def _laid_out_alike(query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
    """Return room for gradients: in one piece where what they are of are slices of one projection, side by side."""
    for joint in ([query, key, value], [key, value]):
        if _are_one(joint):
            batch, positions, heads, head_dim = key.shape
            room = empty_rows((batch, positions, len(joint), heads, head_dim), key.dtype, row_axes=3)
            alone = [empty_rows(query.shape, query.dtype, row_axes=2)] if len(joint) == 2 else []
            return [*alone, *room.unbind(2)]
    return [empty_rows(x.shape, x.dtype, row_axes=2) for x in (query, key, value)]


def _are_one(slices: list[Tensor]) -> bool:
    """Tell whether these fill one piece of memory, a position of each beside that of the last."""
    first, width = slices[0], slices[0].shape[2] * slices[0].shape[3]
    return all(
        x.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        and x.shape == first.shape
        and x.storage_offset() == first.storage_offset() + i * width
        and _step(x) == len(slices) * width
        for i, x in enumerate(slices)
    )
