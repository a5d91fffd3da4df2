"""Weights in eight bits for decoding on a CPU, in place of the layers they were made from.

    x W^T  ~  s_x * s_W * (round(x / s_x) @ round(W / s_W)^T)

Both scales are one number a row: s_W of each output feature, fixed when the model is loaded, and s_x of each position,
so that what stands in one sentence changes nothing in another. Products are of integers, sums exact; layer norms,
softmax and everything else stay in float32. A quarter of the bytes are read, which is what decoding waits for.

A matrix is held once, rounded, however many layers share it: where it is an output head's, embeddings look their rows
up in what the head multiplies by. What a layer is made from is read piece by piece, and let go of before the next.

Scaling by the largest value a row follows Wu et al. 2016 (section 6) and Bhandare et al. 2019 (arXiv 1906.00532).
"""

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor, nn

from trasluz.devices import cpu_flags
from trasluz.errors import RequestError
from trasluz.layers.embeddings import OutputHead, TokenEmbedding
from trasluz.layers.kernels import load_kernels
from trasluz.layers.kernels.int8_product import CompiledProduct
from trasluz.layers.linear import Linear

# Only this engine takes a scale that is given rather than found in the whole batch.
_ENGINE = "fbgemm"
_WEIGHT_LEVELS = 127
# About so many numbers are rounded at once, in rows of whole blocks of every kernel.
_AT_ONCE, _BLOCK = 1 << 17, 32

Piece = tuple[Int8[Tensor, "some inputs"], Float[Tensor, " some"]]
"""Some rows of a matrix, rounded, and their scales."""


def _input_levels() -> int:
    # Without VNNI the processor adds two products in 16 bits: 2 * 127 * 127 still fits, 2 * 254 * 127 does not.
    return 127 if {"avx512_vnni", "avx_vnni", "amx_int8"} & cpu_flags() else 63


class FbgemmProduct(nn.Module):
    """x W^T + b by PyTorch's eight-bit kernels, with what they lack around them."""

    def __init__(self, shape: tuple[int, int], pieces: Iterable[Piece], bias: Float[Tensor, " outputs"] | None) -> None:
        super().__init__()
        self.levels = _input_levels()
        self.packed = _packed(*_joined(shape, pieces))
        self.bias = bias

    def forward(self, x: Float[Tensor, "*positions inputs"]) -> Float[Tensor, "*positions outputs"]:
        """Return the product."""
        # The same as the maximum norm, whose kernel takes ten times as long. A row of zeros needs no scale.
        scale = x.abs().amax(-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
        product: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x / scale, 1.0 / self.levels, self.levels, self.packed
        )
        product = product.mul_(scale)
        return product if self.bias is None else product.add_(self.bias)

    def rows(self) -> Float[Tensor, "outputs inputs"]:
        """Return the matrix in float32, to within the rounding."""
        with _quiet():
            rounded, _ = torch.ops.quantized.linear_unpack(self.packed)
            whole: Tensor = rounded.dequantize()
        return whole


class RoundedTable(nn.Module):
    """Rounded rows as they are, to be looked up."""

    def __init__(self, shape: tuple[int, int], pieces: Iterable[Piece]) -> None:
        super().__init__()
        self.rounded, self.scale = _joined(shape, pieces)

    def looked_up(self, ids: Int[Tensor, "*positions"], by: float = 1.0) -> Float[Tensor, "*positions inputs"]:
        """Return rows of the table times `by`."""
        return nn.functional.embedding(ids, self.rounded).float().mul_(self.scale[ids].unsqueeze(-1) * by)


def _product(
    weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, " outputs"] | None
) -> CompiledProduct | FbgemmProduct:
    outputs, inputs = weight.shape
    return (FbgemmProduct if load_kernels() is None else CompiledProduct)((outputs, inputs), _pieces(weight), bias)


class Int8Linear(nn.Module):
    """A linear layer of which the matrix has eight bits."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias: nn.Parameter | None = linear.bias
        self.product = _product(linear.weight.detach(), self.bias)

    @property
    def weight(self) -> Float[Tensor, "outputs inputs"]:
        """The matrix in float32, made anew each time: for whoever looks inside, not for work."""
        return self.product.rows()

    def forward(self, x: Float[Tensor, "*positions inputs"]) -> Float[Tensor, "*positions outputs"]:
        """Return x W^T + b."""
        return self.product(x)


def compiled_product(layer: nn.Module) -> CompiledProduct | None:
    """Return what a linear layer of eight bits multiplies by, where that is our kernel."""
    product = layer.product if isinstance(layer, Int8Linear) else None
    return product if isinstance(product, CompiledProduct) else None


class Int8OutputHead(nn.Module):
    """One score a token of the vocabulary, by an eight-bit matrix."""

    def __init__(self, head: OutputHead) -> None:
        super().__init__()
        self.product = _product(head.weight.detach(), head.bias)

    def forward(self, x: Float[Tensor, "*positions inputs"]) -> Float[Tensor, "*positions outputs"]:
        """Return the logits."""
        return self.product(x)


class Int8Embedding(nn.Module):
    """Vectors of which each has eight bits and a scale, from a table of its own or the matrix of a product."""

    def __init__(self, embedding: TokenEmbedding, rows: RoundedTable | CompiledProduct | None = None) -> None:
        super().__init__()
        weight = embedding.weight.detach()
        vocab_size, dim = weight.shape
        self.rows = RoundedTable((vocab_size, dim), _pieces(weight)) if rows is None else rows
        self.scale = embedding.scale

    def forward(self, ids: Int[Tensor, "batch positions"]) -> Float[Tensor, "batch positions dim"]:
        """Return the tokens' vectors."""
        return self.rows.looked_up(ids, self.scale)


_PRODUCTS: dict[type[nn.Module], type[nn.Module]] = {
    Linear: Int8Linear,
    nn.Linear: Int8Linear,
    OutputHead: Int8OutputHead,
}


def to_int8(model: nn.Module, after_each: Callable[[], None] = lambda: None) -> None:
    """Put eight-bit layers in the place of a model's linear layers, embeddings and output head.

    One matrix after the other, the largest first, while little else is held; the layers that share it all at once, so
    that nobody holds the floats any more when `after_each` is called. Raises RequestError where PyTorch has no such
    kernels: anywhere but on x86 processors.
    """
    if _ENGINE not in torch.backends.quantized.supported_engines:
        raise RequestError("int8 needs an x86 processor; use fp32 (or bf16) here.")
    model.requires_grad_(False)
    places = _places(model)
    while places:
        _replace(places.pop())
        after_each()


def _places(model: nn.Module) -> list[list[tuple[nn.Module, str]]]:
    """Return where layers to be replaced stand, those that share a matrix together, the largest matrix last."""
    found: dict[nn.Parameter, list[tuple[nn.Module, str]]] = {}
    for parent in model.modules():
        for name, part in parent.named_children():
            if type(part) in _PRODUCTS or type(part) is TokenEmbedding:
                weight: Any = part.weight
                found.setdefault(weight, []).append((parent, name))
    return [found[weight] for weight in sorted(found, key=Tensor.numel)]


def _replace(places: Iterable[tuple[nn.Module, str]]) -> None:
    """Replace layers that share a matrix."""
    rows: RoundedTable | CompiledProduct | None = None
    embeddings = []
    for parent, name in places:
        part = parent.get_submodule(name)
        if isinstance(part, TokenEmbedding):
            embeddings.append((parent, name, part))
            continue
        rounded: Any = _PRODUCTS[type(part)](part)
        setattr(parent, name, rounded)
        if isinstance(rounded.product, CompiledProduct):
            rows = rounded.product
    for parent, name, embedding in embeddings:
        found = Int8Embedding(embedding, rows)
        setattr(parent, name, found)
        rows = found.rows


def _pieces(weight: Float[Tensor, "outputs inputs"]) -> Iterator[Piece]:
    """Yield a matrix's rows rounded, some at a time; what comes from a file is read meanwhile."""
    for rows in weight.split(max(1, _AT_ONCE // weight.shape[1] // _BLOCK) * _BLOCK):
        some = rows.float()
        scale = some.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / _WEIGHT_LEVELS
        yield (some / scale[:, None]).round_().to(torch.int8), scale


def _joined(shape: tuple[int, int], pieces: Iterable[Piece]) -> tuple[Tensor, Tensor]:
    rounded, scales = torch.empty(shape, dtype=torch.int8), torch.empty(shape[0], dtype=torch.float32)
    begin = 0
    for some, scale in pieces:
        rounded[begin : begin + len(some)], scales[begin : begin + len(some)] = some, scale
        begin += len(some)
    return rounded, scales


def _packed(rounded: Tensor, scale: Tensor) -> torch.ScriptObject:
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = _ENGINE
    try:
        with _quiet():
            zero = torch.zeros(len(scale), dtype=torch.int64)
            weight = torch._make_per_channel_quantized_tensor(rounded, scale.double(), zero, 0)
            packed: torch.ScriptObject = torch.ops.quantized.linear_prepack(weight, None)
    finally:
        torch.backends.quantized.engine = before
    return packed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # Quantised tensors are to leave PyTorch some day; all use of them is in this file.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
