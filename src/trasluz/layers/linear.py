"""A linear layer, y = x W^T + b, that is fast for a few rows too, and in training.

Libraries for matrix products are made for large ones; decoding has one row a hypothesis, and then waits for the weights
to come from memory. Those few rows, on a CPU and without gradients, go through a kernel of ours where it is there.

While a CPU trains, several layers that read the same are one product, forward and backward: what they read is then read
once, and its gradient needs no adding up.
"""

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trasluz.layers.kernels import draws_graph
from trasluz.layers.kernels.column_sums import column_sums
from trasluz.layers.kernels.few_rows import few_rows, takes_few_rows
from trasluz.layers.products import in_eight_bits, product_in_room, product_with, row_products


class Linear(nn.Linear):
    """As `torch.nn.Linear`, of which it is one."""

    def forward(self, x: Float[Tensor, "*positions inputs"]) -> Float[Tensor, "*positions outputs"]:
        """Return x W^T + b."""
        return linear(x, self.weight, self.bias)


def linear(
    x: Float[Tensor, "*positions inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None,
) -> Float[Tensor, "*positions outputs"]:
    """Return x W^T + b."""
    if takes_few_rows(x, weight):
        return few_rows(x, weight, bias)
    if trains_on_cpu(x, weight):
        product: Tensor = _Products.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return product
    if torch.is_grad_enabled() or draws_graph() or torch.is_autocast_enabled("cpu"):
        return nn.functional.linear(x, weight, bias)
    return product_with(x, weight, bias)


def linears(
    x: Float[Tensor, "*positions inputs"], layers: Sequence[nn.Module]
) -> tuple[Float[Tensor, "*positions outputs"], ...]:
    """Return what each of several layers makes of `x`."""
    of_ours = [layer for layer in layers if is_bare(layer)]
    together = len(of_ours) == len(layers) and len({layer.bias is None for layer in of_ours}) == 1
    if not together or not trains_on_cpu(x, *(layer.weight for layer in of_ours)):
        return tuple(layer(x) for layer in layers)
    parameters = [layer.weight for layer in of_ours] + [layer.bias for layer in of_ours]
    products: Tensor | tuple[Tensor, ...] = _Products.apply(x, *parameters)  # type: ignore[no-untyped-call]
    return products if isinstance(products, tuple) else (products,)


def is_bare(layer: nn.Module) -> TypeGuard[Linear]:
    """Tell whether a layer is a `Linear`, does no more, and nobody waits to be called when it is.

    Else it must be called, where a product with its weights would do.
    """
    return type(layer) is Linear and not (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks)


def trains_on_cpu(x: Tensor, *weights: Tensor) -> bool:
    """Tell whether gradients are wanted of products on a CPU, in a type that they can be made in without more ado."""
    if not x.is_cpu or not torch.is_grad_enabled() or draws_graph():
        return False
    if torch.is_autocast_enabled("cpu"):
        return x.dtype in (torch.float32, torch.get_autocast_dtype("cpu"))
    return all(weight.dtype == x.dtype for weight in weights)


def compute_dtype(x: Tensor) -> torch.dtype:
    """Return the type that products of `x` are made in: autocast's on its device, or its own."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class _Products(torch.autograd.Function):
    """x W_1^T + b_1, x W_2^T + b_2, ... of weights and then biases."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor | None) -> Any:
        dtype, count = compute_dtype(x), len(parameters) // 2
        weights = [weight for weight in parameters[:count] if weight is not None]
        biases = [bias for bias in parameters[count:] if bias is not None]
        ctx.eight_bits = in_eight_bits(*weights)
        x, weight = x.to(dtype), _side_by_side(weights, torch.float32 if ctx.eight_bits else dtype)
        bias = _side_by_side(biases, dtype) if biases else None
        product = product_in_room(x, weight, bias, eight_bits=ctx.eight_bits)
        ctx.save_for_backward(x, weight)
        ctx.outputs = [len(one) for one in weights]
        return product if count == 1 else product.split(ctx.outputs, dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        count = len(gradients)
        wanted, of_weights, of_biases = (
            ctx.needs_input_grad[0],
            ctx.needs_input_grad[1 : count + 1],
            ctx.needs_input_grad[count + 1 :],
        )
        gradient = as_rows(_joined(gradients))
        of_x = product_in_room(gradient, weight.t(), eight_bits=ctx.eight_bits).view(x.shape) if wanted else None
        of_weight, of_bias = [None] * count, [None] * count
        if any(of_weights):
            of_weight = row_products(gradient, as_rows(x)).split(ctx.outputs)
        if any(of_biases):
            of_bias = column_sums(gradient).split(ctx.outputs)
        return of_x, *of_weight, *of_bias


def as_rows(x: Float[Tensor, "*positions dim"]) -> Float[Tensor, "places dim"]:
    """Return all positions one behind the other, a single one too."""
    return x.reshape(-1, x.shape[-1])


def _side_by_side(parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Return weights, or biases, one behind the other, of a type."""
    return parts[0].to(dtype) if len(parts) == 1 else torch.cat([part.to(dtype) for part in parts])


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return tensors side by side along the last axis, without a copy where that is how they lie already."""
    first, width = parts[0], sum(part.shape[-1] for part in parts)
    place = first.storage_offset()
    for part in parts:
        same = part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr() and part.dtype == first.dtype
        if not same or part.storage_offset() != place or part.stride() != first.stride() or part.stride(-1) != 1:
            return torch.cat(list(parts), dim=-1) if len(parts) > 1 else first.contiguous()
        place += part.shape[-1]
    shape = (*first.shape[:-1], width)
    joined = first.as_strided(shape, first.stride())
    return joined if joined.is_contiguous() else torch.cat(list(parts), dim=-1)
