"""Dropout whose random bits are cheap: one 64-bit random word serves four elements (Srivastava et al. 2014).

On a CPU torch draws a double for every element, which costs more than the matrix product it follows; here each
element is kept when its own 16 random bits, read as an integer, are below keep * 2^16, and is then scaled by 1 / keep.
The compiled kernel, where it is there, needs neither words nor a mask: what it drops follows from a seed and the place.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trasluz.layers.kernels import drawn_seed
from trasluz.layers.kernels.dropout import drop_out, drops_out

_LEVELS = 1 << 16


def keep_mask(like: Tensor, probability: float) -> Tensor:
    """Return a bool tensor shaped as `like` that is False with the given probability, to within 2^-16."""
    count = like.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=like.device)
    # None as upper end asks for all 64 bits; random_() alone never sets the highest.
    words.random_(-(1 << 63), None)
    threshold = round((1.0 - probability) * _LEVELS) - (_LEVELS >> 1)
    return (words.view(torch.int16)[:count] < threshold).view(like.shape)


class _ScaledMask(torch.autograd.Function):
    """Multiply by a bool mask and a number; the backward pass keeps only the mask (one byte an element)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return (x * mask).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return (gradients[0] * mask).mul_(ctx.scale), None, None


class _Compiled(torch.autograd.Function):
    """`beside` + dropout(x), by the kernel; the backward pass keeps only the seed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, beside: Tensor | None, probability: float) -> Tensor:
        ctx.probability, ctx.seed = probability, drawn_seed()
        return drop_out(x, probability, ctx.seed, beside)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        return (
            drop_out(gradients[0], ctx.probability, ctx.seed),
            gradients[0] if ctx.needs_input_grad[1] else None,
            None,
        )


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Return `x` with elements zeroed at the given probability and the rest scaled up; `x` itself when not training."""
    if not training or probability == 0.0:
        return x
    if drops_out(x):
        dropped: Tensor = _Compiled.apply(x, None, probability)  # type: ignore[no-untyped-call]
        return dropped
    if x.is_cpu:
        mask, scale = keep_mask(x, probability), 1.0 / (1.0 - probability)
        dropped = _ScaledMask.apply(x, mask, scale)  # type: ignore[no-untyped-call]
        return dropped
    return nn.functional.dropout(x, probability)


def sum_dropout(
    x: Float[Tensor, "*positions dim"], y: Float[Tensor, "*positions dim"], probability: float, training: bool
) -> Float[Tensor, "*positions dim"]:
    """Return x + dropout(y)."""
    if training and probability > 0.0 and x.dtype == y.dtype and drops_out(y):
        dropped: Tensor = _Compiled.apply(y, x, probability)  # type: ignore[no-untyped-call]
        return dropped
    return x + dropout(y, probability, training)


class Dropout(nn.Module):
    """Dropout as a module."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, dropped out while training."""
        return dropout(x, self.probability, self.training)

    def extra_repr(self) -> str:
        """Show the probability when printed."""
        return f"probability={self.probability}"
