"""Softmax, loss and gradient in one pass, beside PyTorch's words for the same, on random shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trasluz.layers.kernels import load_kernels
from trasluz.layers.kernels import softmax_loss as module
from trasluz.layers.kernels.softmax_loss import softmax_loss

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="the compiled kernels are not there")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(vocab_size=st.integers(1, 1100), rows=st.integers(1, 90), with_bias=st.booleans())
@settings(max_examples=40)
def test_equals_the_plain_way(dtype: torch.dtype, vocab_size: int, rows: int, with_bias: bool) -> None:
    torch.manual_seed(vocab_size)
    logits = (torch.randn(rows, vocab_size) * 5).to(dtype)
    bias = torch.randn(vocab_size).to(dtype) if with_bias else None
    targets = torch.randint(vocab_size, (rows,))
    gradient, expected_gradient = logits.clone(), logits.clone()
    found = softmax_loss(gradient, bias, targets, 0.1, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "training_kernels_for", lambda x: None)
        expected = softmax_loss(expected_gradient, bias, targets, 0.1, True)
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-5)
    error = 1e-5 if dtype == torch.float32 else 0.01
    torch.testing.assert_close(gradient, expected_gradient, rtol=error, atol=1e-6)


def test_nothing_is_written_where_no_gradient_is_wanted() -> None:
    logits = torch.randn(3, 20)
    kept = logits.clone()
    softmax_loss(logits, None, torch.tensor([0, 5, 19]), 0.0, False)
    assert torch.equal(logits, kept)


def test_far_apart_logits_and_numbers_that_are_none() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [torch.nan, 0.0, 0.0], [torch.inf, 0.0, 0.0]])
    gradient = logits[:1].clone()
    likelihood, _ = softmax_loss(gradient, None, torch.tensor([1]), 0.0, True)
    assert likelihood.item() == pytest.approx(2e4)
    torch.testing.assert_close(gradient, torch.tensor([[1.0, -1.0, 0.0]]))
    for row in (1, 2):
        assert not softmax_loss(logits[row : row + 1].clone(), None, torch.tensor([1]), 0.0, True)[0].isfinite()


def test_targets_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(IndexError, match="below the vocabulary's 20"):
        softmax_loss(torch.randn(2, 20), None, torch.tensor([3, 20]), 0.0, True)


def test_targets_of_fewer_bits() -> None:
    logits, targets = torch.randn(3, 20), torch.tensor([0, 5, 19])
    found, expected = (softmax_loss(logits, None, one, 0.0, False)[0] for one in (targets.int(), targets))
    assert torch.equal(found, expected)


def test_an_impossible_word_costs_nothing_without_smoothing() -> None:
    logits, bias = torch.randn(1, 20), torch.zeros(20)
    bias[7] = -torch.inf
    gradient = logits.clone()
    likelihood, total = softmax_loss(gradient, bias, torch.tensor([3]), 0.0, True)
    assert total == likelihood
    assert likelihood.isfinite()
    assert gradient.isfinite().all()
    assert softmax_loss(logits, bias, torch.tensor([3]), 0.1, False)[1] == torch.inf
