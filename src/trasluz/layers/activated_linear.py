"""A linear layer and an activation behind it; on a CPU bias and activation are one pass, and so is the way back.

What is computed stands in kernels/activation.cpp.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import gelu, relu, silu

from trasluz.layers.kernels import draws_graph, kernels_for
from trasluz.layers.kernels.activation import activation_backward, gelu_rows, takes_rows
from trasluz.layers.linear import as_rows, compute_dtype, is_bare, trains_on_cpu
from trasluz.layers.products import in_eight_bits, product_in_room, product_with, row_products

ActivationName = Literal["relu", "gelu", "gelu_tanh", "swish"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "gelu": gelu,
    # The approximation that BERT's first code and GPT-2 compute (Hendrycks and Gimpel 2016, section 2).
    "gelu_tanh": functools.partial(gelu, approximate="tanh"),
    "swish": silu,
}

assert set(ACTIVATIONS) == set(get_args(ActivationName))


def activated_linear(
    linear: nn.Module, x: Float[Tensor, "*positions inputs"], activation: ActivationName
) -> Float[Tensor, "*positions outputs"]:
    """Return activation(linear(x)); what is compiled is for a `Linear` with a bias, and for ReLU or GELU."""
    bias: Tensor | None = linear.bias if is_bare(linear) else None
    if bias is not None and takes_rows(x, len(bias)):
        weight: Tensor = linear.weight  # type: ignore[assignment]
        # Under autocast the kernel meets another type than that of `x`, and maybe none that it knows.
        is_known = activation in ("relu", "gelu") and compute_dtype(x) in (torch.float32, torch.bfloat16)
        if is_known and trains_on_cpu(x, weight):
            activated: Tensor = _Activated.apply(x, weight, bias, activation == "gelu")  # type: ignore[no-untyped-call]
            return activated
        if activation == "gelu" and weight.dtype == x.dtype and kernels_for(x, (x.dtype,)) is not None:
            # Without the bias, which would cost a pass over the result.
            return gelu_rows(product_with(x.contiguous(), weight, None), bias, in_place=True)
    product = linear(x)
    if activation == "relu" and not torch.is_grad_enabled() and not draws_graph():
        # The widest of all states need not be there twice.
        return product.relu_()
    return ACTIVATIONS[activation](product)


class _Activated(torch.autograd.Function):
    """activation(x W^T + b), ReLU or GELU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, is_gelu: bool) -> Tensor:
        dtype = compute_dtype(x)
        ctx.eight_bits = in_eight_bits(weight)
        x, weight = x.to(dtype), weight if ctx.eight_bits else weight.to(dtype)
        before = product_in_room(x, weight, bias.to(dtype), "none" if is_gelu else "relu", ctx.eight_bits)
        # Of ReLU, what comes out says as much as what goes in.
        ctx.save_for_backward(x, weight, before)
        ctx.is_gelu = is_gelu
        return gelu_rows(before, None, in_place=False) if is_gelu else before

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, before = ctx.saved_tensors
        gradient, of_bias = activation_backward(as_rows(gradients[0]), as_rows(before), ctx.is_gelu)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = product_in_room(gradient, weight.t(), eight_bits=ctx.eight_bits).view(x.shape)
        of_weight = row_products(gradient, as_rows(x)) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, of_bias if ctx.needs_input_grad[2] else None, None
