"""Products of matrices with many rows, as fast as this CPU makes them.

Many rows go to oneDNN where it leads, as it offers itself to PyTorch's compiler (`onednn_leads`): it adds the bias to
sums that are at hand, for which PyTorch's own way takes a copy of them, a fifth of the time in bfloat16. It compiles
code for every size, so rows are rounded up to few sizes (`row_room`).

Sums over rows, x^T y, as gradients of weights are, go through a kernel of ours where it is there: faster than oneDNN's
way (on one core, half as fast again), not rounded to bfloat16, and without code to compile for new numbers of rows.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trasluz.devices import onednn_leads
from trasluz.layers.kernels.summed_products import summed_products, sums_products
from trasluz.layers.row_room import whole_rows, with_room

_MANY_ROWS = 64


def product_with(
    x: Float[Tensor, "*positions inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None,
    activation: str = "none",
) -> Float[Tensor, "*positions outputs"]:
    """Return activation(x W^T + b), activation none or relu, of equal types and without gradients."""
    many = x.numel() > _MANY_ROWS * weight.shape[1]
    if x.dtype == weight.dtype and x.is_cpu and many and onednn_leads(x.dtype):
        # In one piece: by rows that have gaps between them, as those of a slice, oneDNN takes a thousand times as long.
        if not (weight.is_contiguous() or weight.t().is_contiguous()):
            weight = weight.contiguous()
        # A bias is read there as if its numbers lay side by side.
        bias = None if bias is None else bias.contiguous()
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")
        return product
    product = nn.functional.linear(x, weight, bias)
    return product.relu_() if activation == "relu" else product


def product_in_room(
    x: Float[Tensor, "*positions inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
    activation: str = "none",
) -> Float[Tensor, "*positions outputs"]:
    """Return what `product_with` does, made of a few more rows (see `row_room`)."""
    rows = x.reshape(-1, x.shape[-1])
    product = product_with(with_room(rows), weight, bias, activation)[: len(rows)]
    return product.view(*x.shape[:-1], len(weight))


def row_products(
    x: Float[Tensor, "places inputs"], y: Float[Tensor, "places outputs"]
) -> Float[Tensor, "inputs outputs"]:
    """Return x^T y, in float32 or the numbers' own type."""
    return summed_products(x, y) if sums_products(x, y) else _product_over_rows(x, y)


def add_row_products(
    x: Float[Tensor, "places inputs"], y: Float[Tensor, "places outputs"], into: Float[Tensor, "inputs outputs"]
) -> None:
    """Add x^T y to a matrix."""
    if into.dtype == torch.float32 and into.is_contiguous() and sums_products(x, y):
        summed_products(x, y, into)
    else:
        into += _product_over_rows(x, y)


def _product_over_rows(
    x: Float[Tensor, "places inputs"], y: Float[Tensor, "places outputs"]
) -> Float[Tensor, "inputs outputs"]:
    whole, step = whole_rows(len(x), x.dtype)
    # In bfloat16 PyTorch's own way is the faster one.
    turned = x[:whole].t()
    result = turned @ y[:whole] if x.dtype == torch.bfloat16 else product_with(turned, y[:whole].t(), None)
    if whole == len(x):
        return result
    rest = [part.new_zeros(step, part.shape[1]) for part in (x, y)]
    for last, part in zip(rest, (x, y), strict=True):
        last[: len(x) - whole] = part[whole:]
    return result.addmm_(rest[0].t(), rest[1])
