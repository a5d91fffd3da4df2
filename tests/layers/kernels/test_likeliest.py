"""The likeliest entries and the normalizer against PyTorch's own, with the compiled kernels and without."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trasluz.layers.kernels.likeliest import best_of_rows, log_sum_exp


@pytest.fixture(params=[True, False], autouse=True, scope="module")
def compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if not request.param:
            patch.setattr("trasluz.layers.kernels.likeliest.kernels_for", lambda logits: None)
        yield


@given(count=st.integers(1, 12), more=st.one_of(st.integers(0, 300), st.just(32_001)))
@settings(max_examples=40)
@torch.no_grad()
def test_best_as_topk(count: int, more: int) -> None:
    size = count + more
    torch.manual_seed(size)
    values = torch.randn(5, size)
    # The best in the last places, and hardly any that is possible at all.
    values[1, size - count :] += 100.0
    values[2, count:] = float("-inf")
    best, places = best_of_rows(values, count)
    assert torch.equal(best, values.topk(count, dim=-1).values)
    assert torch.equal(values.gather(1, places), best)
    assert all(len(set(row)) == count for row in places.tolist())


@pytest.mark.parametrize("size", [9, 40])
@torch.no_grad()
def test_fewer_possible_than_wanted(size: int) -> None:
    values = torch.full((2, size), float("-inf"))
    values[0, 5], values[1, 7], values[1, 2] = 1.0, 2.0, -3.0
    best, places = best_of_rows(values, 4)
    assert torch.equal(best, values.topk(4, dim=-1).values)
    assert torch.equal(values.gather(1, places), best)
    assert all(len(set(row)) == 4 for row in places.tolist())


@torch.no_grad()
def test_more_than_there_are_or_none() -> None:
    logits = torch.randn(2, 10)
    assert best_of_rows(logits, 0)[1].shape == (2, 0)
    with pytest.raises(RuntimeError, match="out of range"):
        best_of_rows(logits, 11)


@given(size=st.one_of(st.integers(1, 600), st.just(32_001)))
@settings(max_examples=40)
@torch.no_grad()
def test_log_sum_exp(size: int) -> None:
    torch.manual_seed(size)
    logits = torch.randn(6, size) * torch.logspace(-2, 2, 6)[:, None]
    logits[3] += 1000.0
    logits[4, 1:] = float("-inf")
    logits[5] = float("-inf")
    expected = logits.double().logsumexp(-1).float()
    torch.testing.assert_close(log_sum_exp(logits), expected, rtol=2e-7, atol=2e-6)


@torch.no_grad()
def test_what_is_no_number_stays_so() -> None:
    logits = torch.zeros(2, 40)
    logits[0, 3] = float("nan")
    assert log_sum_exp(logits).isnan().tolist() == [True, False]
    logits[:, [0, 11, 39]] = float("inf")
    assert log_sum_exp(logits).isnan().tolist() == [True, False]
    assert log_sum_exp(logits)[1] == float("inf")
