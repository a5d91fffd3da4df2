"""Products of matrices with many rows, as fast as this CPU makes them.

Many rows go to oneDNN where it leads, as it offers itself to PyTorch's compiler (`onednn_leads`): it adds the bias to
sums that are at hand, for which PyTorch's own way takes a copy of them, a fifth of the time in bfloat16. It compiles
code for every size, so rows are rounded up to few sizes (`row_room`).

Sums over rows, x^T y, as gradients of weights are, go through a kernel of ours where it is there: faster than oneDNN's
way (on one core, half as fast again), not rounded to bfloat16, and without code to compile for new numbers of rows.

Training may want products of layers in eight bits (`eight_bit_products`): what enters and the weights, and on the way
back the gradient and the weights, each row rounded by a scale of its own. The gradients of weights are not: they are
sums over all rows, in which what one row lacks would be felt in all. That is SwitchBack (Wortsman et al. 2023,
arXiv 2304.13013, section 2), but for weights rounded by rows, too. Recurrences round their weights once for all steps
(`RepeatedProduct`).
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trasluz.devices import onednn_leads
from trasluz.layers.kernels.int8_training import RoundedWeight, int8_rows, rounds_rows
from trasluz.layers.kernels.summed_products import summed_products, sums_products
from trasluz.layers.row_room import whole_rows, with_room

_MANY_ROWS = 64
# Less than this on a side, and rounding takes what it saves; what few outputs say, such as classes, is kept exact.
_WORTH_ROUNDING = 64
_IN_EIGHT_BITS = ContextVar("_IN_EIGHT_BITS", default=False)


@contextlib.contextmanager
def eight_bit_products(wanted: bool = True) -> Iterator[None]:
    """Make products of layers that train on a CPU in eight bits; their way back must be inside, too."""
    before = _IN_EIGHT_BITS.set(wanted and rounds_rows())
    try:
        yield
    finally:
        _IN_EIGHT_BITS.reset(before)


def in_eight_bits(*weights: Tensor) -> bool:
    """Tell whether products with weights are to be made in eight bits."""
    return _IN_EIGHT_BITS.get() and all(
        weight.dtype == torch.float32 and min(weight.shape) >= _WORTH_ROUNDING for weight in weights
    )


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


class RepeatedProduct:
    """x W^T and, on the way back, x W, again and again: what is to be made of W for them is made once.

    As `product_with`, in a type; in eight bits where those are wanted now, and the way back only if it `rounds_back`.
    """

    def __init__(
        self, weight: Float[Tensor, "outputs inputs"], dtype: torch.dtype, *, rounds_back: bool = True
    ) -> None:
        self.dtype = dtype
        rounds = in_eight_bits(weight)
        in_type = None if rounds and rounds_back else weight.to(dtype).contiguous()
        self._forth = RoundedWeight(weight) if in_type is None or rounds else in_type
        self._back = RoundedWeight(weight.t()) if in_type is None else in_type.t()

    def __call__(self, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """Return x W^T."""
        return _multiplied(x, self._forth)

    def back(self, x: Float[Tensor, "rows outputs"]) -> Float[Tensor, "rows inputs"]:
        """Return x W."""
        return _multiplied(x, self._back)


def _multiplied(x: Tensor, weight: Tensor | RoundedWeight) -> Tensor:
    return weight.product(x) if isinstance(weight, RoundedWeight) else product_with(x, weight, None)


def product_in_room(
    x: Float[Tensor, "*positions inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None = None,
    activation: str = "none",
    eight_bits: bool = False,
) -> Float[Tensor, "*positions outputs"]:
    """Return what `product_with` does, made of a few more rows (see `row_room`).

    In eight bits, weights are float32, and the product is of the type of x.
    """
    rows = x.reshape(-1, x.shape[-1])
    if eight_bits:
        product = int8_rows(rows, weight, bias)
        product = product.relu_() if activation == "relu" else product
    else:
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
