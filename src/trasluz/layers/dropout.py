"""Dropout whose random bits are cheap: one 64-bit random word serves four elements (Srivastava et al. 2014).

On a CPU torch draws a double for every element, which costs more than the matrix product it follows; here each
element is kept when its own 16 random bits, read as an integer, are below keep * 2^16, and is then scaled by 1 / keep.
"""

from typing import Any

import torch
from torch import Tensor, nn

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


def dropout(x: Tensor, probability: float, training: bool) -> Tensor:
    """Return `x` with elements zeroed at the given probability and the rest scaled up; `x` itself when not training."""
    if not training or probability == 0.0:
        return x
    if x.is_cpu:
        mask, scale = keep_mask(x, probability), 1.0 / (1.0 - probability)
        dropped: Tensor = _ScaledMask.apply(x, mask, scale)  # type: ignore[no-untyped-call]
        return dropped
    return nn.functional.dropout(x, probability)


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
