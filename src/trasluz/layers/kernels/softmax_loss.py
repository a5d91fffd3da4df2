"""Softmax, cross-entropy and its gradient in one pass; what is computed stands in softmax_loss.cpp."""

import ctypes

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.layers.kernels import training_kernels_for


def softmax_loss(
    logits: Float[Tensor, "places vocab"],
    bias: Float[Tensor, " vocab"] | None,
    targets: Int[Tensor, " places"],
    smoothing: float,
    wants_gradient: bool,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the sums of the negative log-likelihood and of the smoothed loss, in float64.

    The gradient of the latter takes the place of the logits, where it is wanted.
    """
    kernels = training_kernels_for(logits)
    if kernels is None:
        return _plainly(logits, bias, targets, smoothing, wants_gradient)
    return _compiled(kernels, logits, bias, targets, smoothing, wants_gradient)


def _compiled(
    kernels: ctypes.CDLL,
    logits: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    smoothing: float,
    wants_gradient: bool,
) -> tuple[Tensor, Tensor]:
    rows, vocab_size = logits.shape
    assert logits.is_contiguous()
    targets = targets.long().contiguous()
    bias = None if bias is None else bias.float().contiguous()
    if rows and not (0 <= int(targets.min()) and int(targets.max()) < vocab_size):
        raise IndexError(f"targets must be below the vocabulary's {vocab_size} entries")
    nll, uniform = logits.new_empty((2, rows), dtype=torch.float64)
    kernels.trasluz_softmax_loss(
        *(logits.data_ptr(), rows, vocab_size, None if bias is None else bias.data_ptr()),
        *(targets.data_ptr(), smoothing, wants_gradient, nll.data_ptr(), uniform.data_ptr()),
        *(logits.dtype == torch.bfloat16, torch.get_num_threads()),
    )
    likelihood = nll.sum()
    total = (1.0 - smoothing) * likelihood
    # Where a word is impossible `uniform` is infinite, which times nothing would be no number.
    return likelihood, total + smoothing * uniform.sum() if smoothing else total


def _plainly(
    logits: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float, wants_gradient: bool
) -> tuple[Tensor, Tensor]:
    target, exact = targets[:, None], logits.float()
    if bias is not None:
        exact = exact + bias.float()
    normalizer = exact.logsumexp(-1, keepdim=True)
    likelihood = (normalizer - exact.gather(1, target)).sum(dtype=torch.float64)
    total = (1.0 - smoothing) * likelihood
    if smoothing:
        total += smoothing * (normalizer.squeeze(-1) - exact.mean(-1)).sum(dtype=torch.float64)
    if wants_gradient:
        gradient = (exact - normalizer).exp_()
        if smoothing:
            gradient -= smoothing / logits.shape[1]
        gradient.scatter_add_(1, target, gradient.new_full(target.shape, smoothing - 1.0))
        logits.copy_(gradient)
    return likelihood, total
