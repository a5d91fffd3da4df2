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

from trasluz.devices import onednn_leads
from trasluz.layers.kernels.column_sums import column_sums
from trasluz.layers.kernels.softmax_loss import softmax_loss
from trasluz.layers.linear import compute_dtype
from trasluz.layers.products import add_row_products, product_with, row_products

# Logits a chunk: as many as make products with the whole vocabulary worth their while, and sums of gradients few.
_LOGITS_A_CHUNK = 1 << 23
_MOST_POSITIONS, _FEWEST_POSITIONS = 512, 128


def _whole_rows(x: Tensor) -> Tensor:
    """Return rows with zeros behind them: oneDNN compiles its products for each number of rows (`row_room`)."""
    room = -len(x) % _FEWEST_POSITIONS if onednn_leads(x.dtype) else 0
    return torch.cat([x, x.new_zeros(room, x.shape[1])]) if room else x


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
        dtype = compute_dtype(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            matrix = weight.detach().to(dtype)
            total, likelihood = hidden.new_zeros((2,), dtype=torch.float64)
            hidden_gradient = torch.empty_like(hidden) if wants_gradients else None
            weight_gradient: Tensor | None = None
            bias_gradient = torch.zeros_like(bias) if wants_gradients and bias is not None else None
            fitting = _LOGITS_A_CHUNK // matrix.shape[0] // _FEWEST_POSITIONS * _FEWEST_POSITIONS
            chunk = max(_FEWEST_POSITIONS, min(_MOST_POSITIONS, fitting))
            for start in range(0, hidden.shape[0], chunk):
                part = slice(start, start + chunk)
                x = hidden[part].detach().to(dtype)
                rows, x = len(x), _whole_rows(x)
                logits = product_with(x, matrix, None)
                some_likelihood, some_total = softmax_loss(
                    logits[:rows], None if bias is None else bias.detach(), targets[part], smoothing, wants_gradients
                )
                likelihood += some_likelihood
                total += some_total
                if hidden_gradient is None:
                    continue
                gradient = logits
                gradient[rows:] = 0.0
                if bias_gradient is not None:
                    bias_gradient += column_sums(gradient)
                hidden_gradient[part] = product_with(gradient, matrix.t(), None)[:rows]
                # The first chunk's needs no zeros to be added to: a pass over the matrix less.
                if weight_gradient is None:
                    weight_gradient = row_products(gradient, x).to(weight.dtype)
                else:
                    add_row_products(gradient, x, weight_gradient)
                # So that the next chunk's logits take their place, which is at hand already.
                del logits, gradient
            if wants_gradients and weight_gradient is None:
                weight_gradient = torch.zeros_like(weight)
        ctx.save_for_backward(hidden_gradient, weight_gradient, bias_gradient)
        likelihood = likelihood.float()
        ctx.mark_non_differentiable(likelihood)
        return total.float(), likelihood

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0]
        # Nearly always 1, and on a CPU known without waiting: a pass over the matrix is saved.
        if not (scale.is_cpu and scale == 1.0):
            return *(None if one is None else one * scale for one in ctx.saved_tensors), None, None, None
        return *ctx.saved_tensors, None, None, None


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
