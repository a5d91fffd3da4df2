"""A few rows through the compiled kernel, as through PyTorch's own product, on random shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.threads import threads_of_torch

from trasluz.layers.kernels import load_kernels
from trasluz.layers.kernels.few_rows import few_rows, takes_few_rows
from trasluz.layers.linear import Linear

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="the compiled kernels are not there")


@pytest.mark.parametrize("threads", [1, 3])
@given(rows=st.integers(1, 20), inputs=st.integers(1, 600), outputs=st.integers(1, 300))
@settings(max_examples=50)
@torch.no_grad()
def test_product(threads: int, rows: int, inputs: int, outputs: int) -> None:
    torch.manual_seed(inputs)
    x, weight, bias = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    with threads_of_torch(threads):
        found, plain = few_rows(x, weight, bias), few_rows(x, weight, None)
        alone = torch.stack([few_rows(row, weight, bias) for row in x])
    expected = x.double() @ weight.double().T
    torch.testing.assert_close(found.double(), expected + bias.double(), rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(plain.double(), expected, rtol=1e-5, atol=2e-5)
    assert torch.equal(alone, found)


@torch.no_grad()
def test_views_and_no_rows() -> None:
    weight = torch.randn(5, 6)
    x = torch.randn(6, 4, 3)
    assert torch.equal(
        few_rows(x.transpose(0, 2), weight, None), few_rows(x.transpose(0, 2).contiguous(), weight, None)
    )
    assert few_rows(torch.zeros(0, 6), weight, None).shape == (0, 5)


@torch.no_grad()
def test_a_bias_whose_numbers_lie_apart() -> None:
    x, weight, bias = torch.randn(2, 6), torch.randn(5, 6), torch.randn(10)[::2]
    torch.testing.assert_close(few_rows(x, weight, bias), x @ weight.T + bias)


def test_gradients_and_many_rows_are_for_the_library() -> None:
    layer = Linear(16, 8)
    assert not takes_few_rows(torch.randn(2, 16), layer.weight)
    assert layer(torch.randn(2, 16)).requires_grad
    with torch.no_grad():
        assert takes_few_rows(torch.randn(2, 1, 16), layer.weight)
        assert not takes_few_rows(torch.randn(65, 16), layer.weight)
        assert not takes_few_rows(torch.randn(2, 16, dtype=torch.bfloat16), layer.weight.bfloat16())


@torch.no_grad()
def test_rows_of_another_width_are_for_the_library_to_refuse() -> None:
    assert not takes_few_rows(torch.randn(1, 32), Linear(16, 8).weight)
    assert not takes_few_rows(torch.randn(4, 8), Linear(16, 8).weight)
