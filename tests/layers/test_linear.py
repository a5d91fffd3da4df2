"""The linear layer of ours is PyTorch's."""

import pytest
import torch
from torch.nn.functional import linear as plain

from trasluz.layers.activated_linear import ActivationName, activated_linear
from trasluz.layers.kernels.int8_training import int8_rows, rounds_rows
from trasluz.layers.linear import Linear, linears
from trasluz.layers.products import eight_bit_products


@pytest.mark.parametrize("rows", [1, 3, 65, 130])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
@torch.no_grad()
def test_product(rows: int, has_bias: bool, dtype: torch.dtype, error: float) -> None:
    layer = Linear(40, 24, has_bias).to(dtype)
    x = torch.randn(1, rows, 40).to(dtype)
    bias = None if layer.bias is None else layer.bias.float()
    expected = plain(x.float(), layer.weight.float(), bias)
    torch.testing.assert_close(layer(x).float(), expected, rtol=error, atol=error)
    torch.testing.assert_close(layer(x[0, :, :]).float(), expected[0], rtol=error, atol=error)


def test_gradients_in_bfloat16() -> None:
    layer = Linear(8, 8).bfloat16()
    layer(torch.randn(100, 8).bfloat16()).sum().backward()
    assert layer.weight.grad is not None


def _learn(
    layers: list[Linear], x: torch.Tensor, eight_bits: bool, activation: str | None = None
) -> list[torch.Tensor]:
    """Return what layers make of x, its gradient, and those of all their parameters."""
    x = x.clone().requires_grad_()
    parameters = [one for layer in layers for one in layer.parameters()]
    with eight_bit_products(eight_bits):
        found = (activated_linear(layers[0], x, activation),) if activation else linears(x, layers)
        given = [torch.linspace(-1, 1, one.numel()).view(one.shape).to(one.dtype) for one in found]
        gradients = torch.autograd.grad(found, [x, *parameters], given)
    return [*(one.detach() for one in found), *gradients]


@pytest.mark.skipif(not rounds_rows(), reason="the compiled kernels, or VNNI, are not there")
@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
@pytest.mark.parametrize("narrow", [False, True])
def test_training_in_eight_bits(activation: ActivationName | None, narrow: bool) -> None:
    layers = [Linear(96, 80), Linear(96, 64)][: 1 if activation else 2]
    x = torch.randn(3, 50, 96)
    with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
        plain, rounded = (_learn(layers, x, eight, activation) for eight in (False, True))
    for found, expected in zip(rounded, plain, strict=True):
        assert found.dtype == expected.dtype
        # Beside a ReLU, what was nearly zero may be on the other side of it.
        assert float((found - expected).norm() / expected.norm()) < (0.1 if activation == "relu" else 0.03)
    # What layers make, and the gradient of what they read.
    states = len(layers) + 1
    assert not any(map(torch.equal, rounded[:states], plain[:states]))
    if not activation:
        # Gradients of weights and biases are sums of what came in and what goes back, which nobody rounded.
        assert all(map(torch.equal, rounded[states:], plain[states:]))


@pytest.mark.skipif(not rounds_rows(), reason="the compiled kernels, or VNNI, are not there")
def test_on_the_way_back_the_gradient_is_rounded() -> None:
    layer, x, given = Linear(96, 80), torch.randn(50, 96, requires_grad=True), torch.randn(50, 80)
    with eight_bit_products():
        (of_x,) = torch.autograd.grad(layer(x), x, given)
    assert torch.equal(of_x, int8_rows(given, layer.weight.detach().t()))


def test_few_outputs_are_not_rounded() -> None:
    layer, x = Linear(96, 5), torch.randn(50, 96)
    plain, rounded = (_learn([layer], x, eight) for eight in (False, True))
    assert all(map(torch.equal, rounded, plain))
