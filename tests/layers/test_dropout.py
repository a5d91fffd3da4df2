"""Cheap dropout keeps the right share, the right mean, and the right gradient."""

import pytest
import torch

from trasluz.layers.dropout import Dropout, dropout, keep_mask


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5, 0.9])
def test_drops_the_share_it_is_told(probability: float) -> None:
    kept = keep_mask(torch.empty(1000, 1000), probability).float().mean()
    # One million draws: four standard deviations.
    assert abs(float(kept) - (1 - probability)) < 4 * (probability * (1 - probability) / 1e6) ** 0.5


def test_neighbours_drawn_from_one_word_are_independent() -> None:
    kept = keep_mask(torch.empty(1 << 20), 0.5).float() - 0.5
    for distance in (1, 2, 3, 4):
        assert abs(float((kept[:-distance] * kept[distance:]).mean())) < 0.25 * 4 / 2**10


def test_expectation_and_gradient() -> None:
    x = torch.ones(500, 500, requires_grad=True)
    y = dropout(x, 0.25, training=True)
    assert y.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert float(y.detach().mean()) == pytest.approx(1.0, abs=0.01)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_does_nothing_outside_training() -> None:
    x = torch.randn(3, 5)
    assert dropout(x, 0.5, training=False) is x
    assert Dropout(0.5).eval()(x) is x
    assert dropout(x, 0.0, training=True) is x


def test_sizes_that_are_no_multiple_of_a_word() -> None:
    assert keep_mask(torch.empty(3, 7), 0.5).shape == (3, 7)
