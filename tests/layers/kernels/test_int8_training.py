"""Products with weights rounded anew, against the same rounding and sums written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.threads import threads_of_torch
from torch import Tensor

from trasluz.layers.kernels.int8_training import int8_rows, rounds_rows

pytestmark = pytest.mark.skipif(not rounds_rows(), reason="the compiled kernels, or VNNI, are not there")

# A tensor: what a number is divided by, PyTorch makes a reciprocal of, which is rounded once more.
LEVELS = torch.tensor(127.0)


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row in whole numbers, and what one of them is worth."""
    largest = x.float().abs().amax(1, keepdim=True).clamp(min=1e-30)
    return (x.float() * (LEVELS / largest)).round().double(), (largest / LEVELS).double()


def written_out(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    (q, scale), (v, weight_scale) = rounded(x), rounded(weight)
    product = (q @ v.t()) * scale * weight_scale.t()
    return product if bias is None else product + bias.double()


def assert_near(found: Tensor, expected: Tensor) -> None:
    """Nothing but what comes out is rounded, once in bfloat16."""
    error = 1e-6 if found.dtype == torch.float32 else 2**-8
    torch.testing.assert_close(found.double(), expected, rtol=error, atol=1e-5 * float(expected.abs().max()))


@settings(max_examples=60)
@given(
    rows=st.integers(1, 300),
    inputs=st.integers(1, 200),
    outputs=st.integers(1, 150),
    seed=st.integers(0, 2**31),
    narrow=st.booleans(),
    turned=st.booleans(),
    has_bias=st.booleans(),
    threads=st.sampled_from([1, 2, 3]),
)
def test_any_shape(
    rows: int, inputs: int, outputs: int, seed: int, narrow: bool, turned: bool, has_bias: bool, threads: int
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(rows, inputs) * torch.logspace(-3, 3, rows)[:, None]
    x = x.bfloat16() if narrow else x
    weight = torch.randn(inputs, outputs).t() if turned else torch.randn(outputs, inputs)
    bias = torch.randn(outputs) if has_bias else None
    with threads_of_torch(threads):
        found = int8_rows(x, weight, bias)
    assert found.dtype == x.dtype
    for row in range(rows):
        some = slice(row, row + 1)
        assert_near(found[some], written_out(x[some], weight, bias))


def test_thousands_of_rows_and_whole_tiles() -> None:
    x, weight = torch.randn(3_000, 256).bfloat16(), torch.randn(320, 256)
    assert_near(int8_rows(x, weight), written_out(x, weight, None))
    assert torch.equal(int8_rows(x, weight.t().contiguous().t()), int8_rows(x, weight))


def test_sums_at_the_ends_of_the_range() -> None:
    x, weight = torch.ones(9, 4_096), torch.ones(40, 4_096)
    x[4:] = -1.0
    weight[7:] = -1.0
    assert_near(int8_rows(x, weight), written_out(x, weight, None))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_none_and_spoils_no_other_row(dtype: torch.dtype) -> None:
    x, weight = torch.randn(70, 96).to(dtype), torch.randn(64, 96)
    clean = int8_rows(x, weight)
    broken = x.clone()
    broken[3, 0], broken[40, 95], broken[41, 5] = float("nan"), float("nan"), float("inf")
    found = int8_rows(broken, weight)
    assert found[[3, 40]].isnan().all() and not found[41].isfinite().any()
    rest = [row for row in range(70) if row not in (3, 40, 41)]
    assert torch.equal(found[rest], clean[rest])
    for part in (weight, weight.t().contiguous().t()):
        part[5, 7] = float("nan")
        found = int8_rows(x, part)
        assert found[:, 5].isnan().all() and torch.equal(found[:, 6:], clean[:, 6:])


def test_rows_of_zeros_and_no_rows() -> None:
    weight, bias = torch.randn(70, 64), torch.randn(70)
    assert torch.equal(int8_rows(torch.zeros(3, 64), weight, bias), bias.expand(3, 70))
    assert int8_rows(torch.zeros(0, 64), weight).shape == (0, 70)
    assert torch.equal(int8_rows(torch.randn(2, 64), torch.zeros(70, 64)), torch.zeros(2, 70))
