"""Weights in eight bits for decoding on a CPU, in place of the layers they were made from.

    x W^T  ~  s_x * s_W * (round(x / s_x) @ round(W / s_W)^T)

Both scales are one number a row: s_W of each output feature, fixed when the model is loaded, and s_x of each position,
so that what stands in one sentence changes nothing in another. Products are of integers, sums exact; layer norms,
softmax and everything else stay in float32. A quarter of the bytes are read, which is what decoding waits for.

Scaling by the largest value a row follows Wu et al. 2016 (section 6) and Bhandare et al. 2019 (arXiv 1906.00532).
"""

import contextlib
import warnings
from collections.abc import Iterator

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


def _input_levels() -> int:
    # Without VNNI the processor adds two products in 16 bits: 2 * 127 * 127 still fits, 2 * 254 * 127 does not.
    return 127 if {"avx512_vnni", "avx_vnni", "amx_int8"} & cpu_flags() else 63


class FbgemmProduct(nn.Module):
    """x W^T + b by PyTorch's eight-bit kernels, with what they lack around them."""

    def __init__(
        self,
        rounded: Int8[Tensor, "outputs inputs"],
        scale: Float[Tensor, " outputs"],
        bias: Float[Tensor, " outputs"] | None,
    ) -> None:
        super().__init__()
        self.levels = _input_levels()
        self.packed = _packed(rounded, scale)
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


def _product(
    weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, " outputs"] | None
) -> CompiledProduct | FbgemmProduct:
    scale = weight.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / _WEIGHT_LEVELS
    rounded = (weight / scale[:, None]).round().to(torch.int8)
    return (FbgemmProduct if load_kernels() is None else CompiledProduct)(rounded, scale, bias)


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


class Int8Embedding(nn.Module):
    """A table of vectors of which each row has eight bits and a scale."""

    def __init__(self, embedding: TokenEmbedding) -> None:
        super().__init__()
        weight = embedding.weight.detach()
        scale = weight.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / _WEIGHT_LEVELS
        self.register_buffer("table", (weight / scale).round().to(torch.int8), persistent=False)
        self.register_buffer("scale", scale * embedding.scale, persistent=False)

    def forward(self, ids: Int[Tensor, "batch positions"]) -> Float[Tensor, "batch positions dim"]:
        """Return the tokens' vectors."""
        table, scale = self.get_buffer("table"), self.get_buffer("scale")
        return nn.functional.embedding(ids, table).float().mul_(nn.functional.embedding(ids, scale))


class Int8OutputHead(nn.Module):
    """One score a token of the vocabulary, by an eight-bit matrix."""

    def __init__(self, head: OutputHead) -> None:
        super().__init__()
        self.product = _product(head.weight.detach(), head.bias)

    def forward(self, x: Float[Tensor, "*positions inputs"]) -> Float[Tensor, "*positions outputs"]:
        """Return the logits."""
        return self.product(x)


_REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    Linear: Int8Linear,
    nn.Linear: Int8Linear,
    TokenEmbedding: Int8Embedding,
    OutputHead: Int8OutputHead,
}


def to_int8(model: nn.Module) -> None:
    """Put eight-bit layers in the place of a model's linear layers, embeddings and output head.

    Raises RequestError where PyTorch has no such kernels: anywhere but on x86 processors.
    """
    if _ENGINE not in torch.backends.quantized.supported_engines:
        raise RequestError("int8 needs an x86 processor; use fp32 (or bf16) here.")
    model.requires_grad_(False)
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if type(part) in _REPLACEMENTS:
                setattr(parent, name, _REPLACEMENTS[type(part)](part))


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
