"""The compiled kernel against the same sums written out, on random shapes."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.threads import threads_of_torch

from trasluz.layers.kernels import load_kernels
from trasluz.layers.kernels.int8_product import CompiledProduct

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="the compiled kernels are not there")

# Inputs of whole 64s and six rows or more: by the matrix unit, where there is one.
WHOLE_TILES = st.integers(1, 8).map(lambda tiles: 64 * tiles)


def product_of(rounded: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> CompiledProduct:
    """Return a product that was given its rows a few at a time."""
    outputs, inputs = rounded.shape
    return CompiledProduct((outputs, inputs), zip(rounded.split(64), scale.split(64), strict=True), bias)


def some_product(outputs: int, inputs: int) -> CompiledProduct:
    rounded = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
    return product_of(rounded, torch.rand(outputs), torch.randn(outputs))


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_torchs_default_type_changes_nothing(default: torch.dtype) -> None:
    rounded, scale, bias = torch.randint(-127, 128, (40, 24), dtype=torch.int8), torch.rand(40), torch.randn(40)
    x, before = torch.randn(3, 24), torch.get_default_dtype()
    expected = product_of(rounded, scale, bias)(x)
    torch.set_default_dtype(default)
    try:
        assert torch.equal(product_of(rounded, scale, bias)(x), expected)
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("threads", [1, 3])
@given(rows=st.integers(1, 80), inputs=st.one_of(st.integers(1, 300), WHOLE_TILES), outputs=st.integers(1, 530))
@settings(max_examples=60)
def test_the_product_is_the_sum_of_rounded_products(threads: int, rows: int, inputs: int, outputs: int) -> None:
    torch.manual_seed(inputs)
    rounded = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
    scale, bias = torch.rand(outputs) + 0.1, torch.randn(outputs)
    x = torch.randn(rows, inputs) * torch.logspace(-3, 3, rows)[:, None]
    # The largest of a row on the ends of the range, with the largest weights: what could overflow.
    x[0], rounded[0] = 1.0, 127
    x[-1], rounded[-1] = -1.0, -127
    product = product_of(rounded, scale, bias)
    with threads_of_torch(threads):
        found = product(x)
    # As the kernel rounds: of a number half way between two, a division says another one now and then.
    levels, largest = torch.tensor(float(product.levels)), x.abs().amax(1, keepdim=True)
    row_scale = largest / levels
    whole = (x * (levels / largest)).round().double() @ rounded.double().T
    scaled = whole * row_scale.double() * scale.double()
    # Whole sums are exact; scaling and adding the bias round a few times, as much as the larger of the two does.
    rounding = 4 * torch.finfo(torch.float32).eps * (scaled.abs() + bias.abs())
    assert ((found.double() - (scaled + bias.double())).abs() <= rounding).all()
    assert torch.equal(product.rows(), rounded * scale[:, None])


@pytest.mark.parametrize("inputs", [64, 100])
def test_a_row_is_the_same_whatever_stands_beside_it(inputs: int) -> None:
    product = some_product(50, inputs)
    x = torch.randn(40, inputs)
    together = product(x)
    for count in (1, 3, 7, 16, 33):
        assert torch.equal(product(x[:count]), together[:count])


def test_views_rows_of_zeros_and_no_rows() -> None:
    product = product_of(torch.randint(-127, 128, (5, 6), dtype=torch.int8), torch.ones(5), None)
    x = torch.randn(6, 4, 3)
    assert torch.equal(product(x.transpose(0, 2)), product(x.transpose(0, 2).contiguous()))
    assert torch.equal(product(torch.zeros(2, 6)), torch.zeros(2, 5))
    assert product(torch.zeros(0, 6)).shape == (0, 5)


@pytest.mark.parametrize(("outputs", "inputs"), [(5, 6), (100, 64), (130, 33)])
def test_rows_are_looked_up_where_they_are_multiplied(outputs: int, inputs: int) -> None:
    rounded, scale = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8), torch.rand(outputs)
    product = product_of(rounded, scale, None)
    ids = torch.tensor([[0, outputs - 1, 3], [4, 4, outputs // 2]])
    assert torch.equal(product.looked_up(ids), rounded[ids] * scale[ids][..., None])
    assert torch.equal(product.looked_up(ids, 8.0), rounded[ids] * (scale[ids] * 8)[..., None])
    assert torch.equal(product.looked_up(ids.int().T), product.looked_up(ids.T))
    assert product.looked_up(ids[:0]).shape == (0, 3, inputs)
    for wrong in (-1, outputs):
        with pytest.raises(IndexError, match=f"from 0 to {outputs - 1}"):
            product.looked_up(torch.tensor([0, wrong]))


def test_a_copy_stands_by_itself() -> None:
    product = some_product(5, 6)
    x = torch.randn(2, 6)
    expected = product(x)
    copied = copy.deepcopy(product)
    product._packed.zero_()
    assert torch.equal(copied(x), expected)
