"""The norm of a sum, dropped out on the way: norm(x + dropout(y)), in one pass where the compiled kernel is there.

What is computed stands in kernels/sum_norm.cpp. Gradients come from a kernel, too, which knows what was dropped by the
seed alone.
"""

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trasluz.layers.dropout import sum_dropout
from trasluz.layers.kernels import LANES, drawn_seed, dropout_of, training_kernels_for
from trasluz.layers.rms_norm import RmsNorm
from trasluz.layers.row_room import empty_rows


def sum_norm(
    norm: nn.Module,
    x: Float[Tensor, "*positions dim"],
    y: Float[Tensor, "*positions dim"] | None = None,
    dropout_probability: float = 0.0,
) -> Float[Tensor, "*positions dim"]:
    """Return norm(x + dropout(y)), or norm(x) where there is no `y`; the kernel is for layer norms and `RmsNorm`."""
    kernels = training_kernels_for(x)
    if kernels is None or not _is_known(norm, x, y):
        return norm(x if y is None else sum_dropout(x, y, dropout_probability, training=True))
    weight, bias, epsilon = _parts(norm)
    if torch.is_grad_enabled() and weight.dtype == torch.float32:
        result: Tensor = _SumNorm.apply(x, y, weight, bias, epsilon, dropout_probability)  # type: ignore[no-untyped-call]
        return result
    if torch.is_grad_enabled() or dropout_probability:
        return norm(x if y is None else sum_dropout(x, y, dropout_probability, training=True))
    return _forward(kernels, x, y, weight, bias, epsilon)


def _is_known(norm: Any, x: Tensor, y: Tensor | None) -> bool:
    # Heirs may compute something else.
    if type(norm) not in (nn.LayerNorm, RmsNorm):
        return False
    # Without a bias the kernel would take a layer norm for the other kind.
    parts: list[Tensor | None] = [norm.weight] if type(norm) is RmsNorm else [norm.weight, norm.bias]
    return (
        all(part is not None and part.shape == x.shape[-1:] and part.is_contiguous() for part in parts)
        and norm.weight.dtype in (x.dtype, torch.float32)
        and (y is None or (y.dtype == x.dtype and y.shape == x.shape))
        and x.shape[-1] % LANES == 0
    )


def _parts(norm: Any) -> tuple[Tensor, Tensor | None, float]:
    return (norm.weight, None, norm.epsilon) if isinstance(norm, RmsNorm) else (norm.weight, norm.bias, norm.eps)


class _SumNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        epsilon: float,
        probability: float,
    ) -> Tensor:
        kernels = training_kernels_for(x)
        assert kernels is not None
        drop = dropout_of(probability, drawn_seed() if probability else 0)
        total = x.contiguous() if y is None else x.new_empty(x.shape)
        statistics = x.new_empty((x.numel() // max(x.shape[-1], 1), 2), dtype=torch.float32)
        result = _forward(kernels, x, y, weight, bias, epsilon, drop, total, statistics)
        ctx.save_for_backward(total, statistics, weight)
        ctx.drop, ctx.has_y, ctx.has_bias = drop, y is not None, bias is not None
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        total, statistics, weight = ctx.saved_tensors
        kernels = training_kernels_for(total)
        assert kernels is not None
        rows, dim = statistics.shape[0], weight.shape[0]
        gradient = gradients[0].contiguous()
        of_weights = total.new_zeros((2, kernels.trasluz_row_parts(rows), dim), dtype=torch.float32)
        of_total = empty_rows(total.shape, total.dtype)
        of_y = empty_rows(total.shape, total.dtype) if ctx.has_y and ctx.drop[1] else None
        kernels.trasluz_sum_norm_backward(
            *(gradient.data_ptr(), total.data_ptr(), statistics.data_ptr(), *ctx.drop, rows, dim),
            *(weight.data_ptr(), ctx.has_bias, of_weights[0].data_ptr(), of_weights[1].data_ptr()),
            *(total.dtype == torch.bfloat16, of_total.data_ptr(), None if of_y is None else of_y.data_ptr()),
            torch.get_num_threads(),
        )
        of_weight, of_bias = of_weights.sum(1)
        if ctx.has_y and of_y is None:
            of_y = of_total
        return of_total, of_y, of_weight, of_bias if ctx.has_bias else None, None, None


def _forward(
    kernels: ctypes.CDLL,
    x: Tensor,
    y: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    epsilon: float,
    drop: tuple[int, int, float] = (0, 0, 1.0),
    total: Tensor | None = None,
    statistics: Tensor | None = None,
) -> Tensor:
    x = x.contiguous()
    y = None if y is None else y.contiguous()
    result = empty_rows(x.shape, x.dtype)
    dim = x.shape[-1]
    kernels.trasluz_sum_norm(
        *(x.data_ptr(), None if y is None else y.data_ptr(), *drop, x.numel() // dim, dim),
        *(weight.data_ptr(), None if bias is None else bias.data_ptr(), epsilon),
        *(x.dtype == torch.bfloat16, weight.dtype == torch.float32),
        # Without a `y` the sum is there already.
        None if total is None or y is None else total.data_ptr(),
        *(None if statistics is None else statistics.data_ptr(), result.data_ptr(), torch.get_num_threads()),
    )
    return result
