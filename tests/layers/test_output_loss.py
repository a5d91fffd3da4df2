"""Head and loss in chunks equal the plain way, values and gradients, in float32 and under autocast."""

import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from trasluz.layers import output_loss as module
from trasluz.layers.output_loss import output_loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("with_bias", [True, False])
def test_equals_the_plain_way(smoothing: float, with_bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_POSITIONS", 4)
    monkeypatch.setattr(module, "_FEWEST_POSITIONS", 4)
    hidden = torch.randn(11, 6, requires_grad=True)
    weight = torch.randn(9, 6, requires_grad=True)
    bias = torch.randn(9, requires_grad=True) if with_bias else None
    targets = torch.randint(9, (11,))
    wanted = [tensor for tensor in (hidden, weight, bias) if tensor is not None]
    total, likelihood = output_loss(hidden, weight, bias, targets, smoothing)
    logits = linear(hidden, weight, bias)
    plain = cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(total, plain)
    torch.testing.assert_close(likelihood, cross_entropy(logits, targets, reduction="sum").detach())
    for ours, theirs in zip(
        torch.autograd.grad(3 * total, wanted), torch.autograd.grad(3 * plain, wanted), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_products_run_in_autocasts_type_and_softmax_in_float32() -> None:
    # So many entries that a chunk is as small as can be.
    hidden, weight, targets = torch.randn(300, 32), torch.randn(70_000, 32), torch.randint(70_000, (300,))
    exact, _ = output_loss(hidden, weight, None, targets)
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = output_loss(hidden, weight, None, targets)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=0.01, atol=0.0)


def test_keeps_no_gradients_when_none_are_wanted() -> None:
    hidden = torch.randn(5, 4, requires_grad=True)
    with torch.no_grad():
        total, _ = output_loss(hidden, torch.randn(7, 4), None, torch.randint(7, (5,)))
    assert not total.requires_grad


def test_of_no_position_gradients_are_zeros() -> None:
    hidden, weight = torch.randn(0, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    total, _ = output_loss(hidden, weight, None, torch.zeros(0, dtype=torch.long))
    assert float(total) == 0.0
    of_hidden, of_weight = torch.autograd.grad(total, [hidden, weight])
    assert of_hidden.shape == (0, 4) and torch.equal(of_weight, torch.zeros(7, 4))
