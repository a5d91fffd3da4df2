"""Blocks in one call, a step of a decoder's or all of an encoder's; what is computed stands in block_step.cpp."""

import ctypes
from collections.abc import Sequence
from ctypes import Array, c_float, c_int64, c_void_p

import torch
from jaxtyping import BFloat16, Float
from torch import Tensor, nn

from trasluz.layers.kernels import LANES, kernels_for, load_kernels
from trasluz.layers.kernels.int8_product import CompiledProduct
from trasluz.layers.masks import Stretches

ACTIVATION_NUMBERS = {"relu": 0, "gelu_tanh": 1, "swish": 2, "gelu": 3}
"""Those that the kernel knows."""


class Matrix(ctypes.Structure):
    """A matrix and its bias as they lie in memory."""

    _fields_ = (
        *((name, c_void_p) for name in ("weight", "offset", "scale", "bias")),
        *((name, c_int64) for name in ("inputs", "depth", "outputs")),
    )


class Norm(ctypes.Structure):
    """A layer norm."""

    _fields_ = (("weight", c_void_p), ("bias", c_void_p), ("epsilon", c_float))


class Block(ctypes.Structure):
    """A block, what it remembers, and which of the pasts it looks back to."""

    _fields_ = (
        ("attention_norm", Norm),
        *((name, Matrix) for name in ("query", "key", "value", "output")),
        ("cross_norm", Norm),
        *((name, Matrix) for name in ("cross_query", "cross_output")),
        ("feed_forward_norm", Norm),
        *((name, Matrix) for name in ("expand", "contract")),
        *((name, c_int64) for name in ("heads", "activation", "norm_first", "remembers_bfloat", "past")),
        *((name, c_void_p) for name in ("keys", "values")),
    )


class Past(ctypes.Structure):
    """Where each row's past lies; see attention_step.cpp. `written` is the slot of the first row's new position."""

    _fields_ = (
        ("written", c_int64),
        ("table", c_void_p),
        ("table_width", c_int64),
        ("first", c_void_p),
        ("step", c_int64),
        ("count", c_void_p),
    )


class Memory(ctypes.Structure):
    """What the encoder left: keys and values, where each row's source begins among them, and how long it is."""

    _fields_ = tuple((name, c_void_p) for name in ("keys", "values", "first", "count"))


def matrix_of(weight: Tensor, bias: Tensor | None) -> Matrix:
    """Describe a matrix of floats, (outputs, inputs); whoever uses this keeps the tensors."""
    assert weight.dtype == torch.float32 and weight.is_contiguous()
    outputs, inputs = weight.shape
    return Matrix(weight.data_ptr(), None, None, None if bias is None else bias.data_ptr(), inputs, inputs, outputs)


def matrix_of_int8(product: CompiledProduct) -> Matrix:
    """Describe a matrix of eight bits; whoever uses this keeps the product."""
    return Matrix(*(part.data_ptr() for part in product.parts), product.inputs, product.depth, product.outputs)


def norm_of(norm: nn.LayerNorm) -> Norm:
    """Describe a layer norm; whoever uses this keeps it."""
    assert norm.weight.dtype == torch.float32
    return Norm(norm.weight.data_ptr(), norm.bias.data_ptr(), norm.eps)


def blocks_step(
    blocks: Array[Block], pasts: Array[Past], memories: Array[Memory] | None, x: Float[Tensor, "rows 1 dim"]
) -> Float[Tensor, "rows 1 dim"]:
    """Return the last block's next state of one new position a row; every block writes its key and value to its slot.

    A block has its memory at its own place, and its past at the one that it names.
    """
    kernels = load_kernels()
    assert kernels is not None and x.dtype == torch.float32
    x = x.contiguous()
    y = torch.empty_like(x)
    kernels.trasluz_blocks_step(
        *(blocks, len(blocks), pasts, memories),
        *(x.data_ptr(), len(x), y.data_ptr(), torch.get_num_threads()),
    )
    return y


def blocks_read(
    blocks: Array[Block], texts: Stretches, x: Float[Tensor, "batch positions dim"]
) -> Float[Tensor, "batch positions dim"]:
    """Return the last block's states of all positions, each over its own text; those outside of texts mean nothing.

    `texts`, one at least, stand in the order of their positions, which are counted over all rows.
    """
    kernels = load_kernels()
    assert kernels is not None and kernels_for(x) is not None
    x = x.contiguous()
    y = torch.empty_like(x)
    first, counts = texts
    kernels.trasluz_blocks_read(
        *(blocks, len(blocks), first.data_ptr(), counts.data_ptr(), len(first)),
        *(x.data_ptr(), x.shape[0] * x.shape[1], y.data_ptr(), torch.get_num_threads()),
    )
    return y


def remember(
    products: Sequence[CompiledProduct], x: Float[Tensor, "batch positions inputs"]
) -> BFloat16[Tensor, "products batch positions outputs"]:
    """Return what products of eight bits, all of one shape, make of `x`; outputs are a multiple of eight."""
    kernels = load_kernels()
    assert kernels is not None and kernels_for(x) is not None
    x, outputs = x.contiguous(), products[0].outputs
    matrices = (Matrix * len(products))(*map(matrix_of_int8, products))
    assert outputs % LANES == 0 and all(m.outputs == outputs and m.inputs == x.shape[-1] for m in matrices)
    y = torch.empty((len(products), *x.shape[:-1], outputs), dtype=torch.bfloat16, device="cpu")
    kernels.trasluz_remember(
        *(matrices, len(matrices), x.data_ptr(), x.shape[0] * x.shape[1], y.data_ptr(), torch.get_num_threads())
    )
    return y
