"""Output layer and cross-entropy in one, in chunks: the logits of a whole batch are never held.

    loss(t) = (1 - e) * -log p(y_t) + e * mean over the vocabulary of -log p(v)

The second term is label smoothing (Szegedy et al. 2016, section 7). For each chunk of positions the logits, the loss
and, while they are at hand, the gradients with respect to hidden states and weights are made; then the logits go.
Matrix products run in autocast's type, softmax in float32.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Positions a chunk: logits of 256 x 8,000 in float32 are 8 MB, about what a core's share of the cache holds.
_CHUNK = 256


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
        wants_gradients: bool,
    ) -> tuple[Tensor, Tensor]:
        dtype = _compute_dtype(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.detach().to(dtype)
            vocab_size = matrix.shape[0]
            total = hidden.new_zeros((), dtype=torch.float64)
            likelihood = hidden.new_zeros((), dtype=torch.float64)
            hidden_gradient = torch.empty_like(hidden) if wants_gradients else None
            weight_gradient = torch.zeros_like(weight) if wants_gradients else None
            bias_gradient = torch.zeros_like(bias) if wants_gradients and bias is not None else None
            for start in range(0, hidden.shape[0], _CHUNK):
                part = slice(start, start + _CHUNK)
                x = hidden[part].detach().to(dtype)
                target = targets[part, None]
                logits = (x @ matrix.T).float()
                if bias is not None:
                    logits += bias.detach().float()
                normalizer = logits.logsumexp(-1, keepdim=True)
                nll = (normalizer - logits.gather(1, target)).sum(dtype=torch.float64)
                likelihood += nll
                total += (1.0 - smoothing) * nll
                if smoothing:
                    uniform = normalizer.squeeze(-1) - logits.mean(-1)
                    total += smoothing * uniform.sum(dtype=torch.float64)
                if not wants_gradients:
                    continue
                gradient = logits.sub_(normalizer).exp_()
                if smoothing:
                    gradient -= smoothing / vocab_size
                gradient.scatter_add_(1, target, gradient.new_full(target.shape, smoothing - 1.0))
                if bias_gradient is not None:
                    bias_gradient += gradient.sum(0)
                gradient = gradient.to(dtype)
                assert hidden_gradient is not None and weight_gradient is not None
                hidden_gradient[part] = gradient @ matrix
                weight_gradient += gradient.T @ x
        ctx.save_for_backward(hidden_gradient, weight_gradient, bias_gradient)
        likelihood = likelihood.float()
        ctx.mark_non_differentiable(likelihood)
        return total.float(), likelihood

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0]
        hidden, weight, bias = ctx.saved_tensors
        return hidden * scale, weight * scale, None if bias is None else bias * scale, None, None, None


def output_loss(
    hidden: Float[Tensor, "positions dim"],
    weight: Float[Tensor, "vocab dim"],
    bias: Float[Tensor, " vocab"] | None,
    targets: Int[Tensor, " positions"],
    label_smoothing: float = 0.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return two sums over the positions, in nats: the smoothed loss (differentiable), the negative log-likelihood."""
    # Inside `forward` gradients are always off, so whether they are wanted is asked here.
    wants_gradients = torch.is_grad_enabled()
    total, likelihood = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, targets, label_smoothing, wants_gradients
    )
    return total, likelihood
