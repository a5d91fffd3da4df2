"""The gated feed-forward network against its formula."""

import math

import pytest
import torch

from trasluz.layers.feed_forward import ActivationName
from trasluz.layers.gated_feed_forward import GatedFeedForward


def swish(x: float) -> float:
    return x / (1 + math.exp(-x))


def gelu(x: float) -> float:
    return x * (1 + math.erf(x / math.sqrt(2))) / 2


@pytest.mark.parametrize(("activation", "by_hand"), [("swish", swish), ("gelu", gelu)])
def test_is_the_formula(activation: ActivationName, by_hand: object) -> None:
    network = GatedFeedForward(4, 7, activation)
    assert [name for name, _ in network.named_parameters()] == ["gate.weight", "expand.weight", "contract.weight"]
    x = torch.randn(2, 3, 4)
    found = network(x)
    for row in range(2):
        for place in range(3):
            gates, values = (
                [sum(w * v for w, v in zip(line, x[row, place].tolist(), strict=True)) for line in part.weight.tolist()]
                for part in (network.gate, network.expand)
            )
            assert callable(by_hand)
            inner = [by_hand(gate) * value for gate, value in zip(gates, values, strict=True)]
            expected = [
                sum(w * v for w, v in zip(line, inner, strict=True)) for line in network.contract.weight.tolist()
            ]
            torch.testing.assert_close(found[row, place], torch.tensor(expected))


def test_dropout_falls_between_the_layers() -> None:
    network = GatedFeedForward(4, 64, dropout=0.5)
    x = torch.randn(1, 2, 4)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
