"""A linear layer and GELU, compiled, as PyTorch's."""

import pytest
import torch
from torch.nn.functional import gelu

from trasluz.layers.activated_linear import activated_linear
from trasluz.layers.feed_forward import FeedForward
from trasluz.layers.kernels import load_kernels
from trasluz.layers.linear import Linear


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("outputs", [8, 20, 24, 176])
@torch.no_grad()
def test_linear_and_gelu(outputs: int, dtype: torch.dtype, error: float) -> None:
    linear = Linear(16, outputs).to(dtype)
    x = (torch.randn(3, 5, 16) * 3).to(dtype)
    expected = gelu(linear(x).float())
    torch.testing.assert_close(activated_linear(linear, x, "gelu").float(), expected, rtol=error, atol=error)
    turned = activated_linear(linear, x.transpose(0, 1), "gelu")
    torch.testing.assert_close(turned.float(), expected.transpose(0, 1), rtol=error, atol=error)
    assert activated_linear(linear, x[:0], "gelu").shape == (0, 5, outputs)


@pytest.mark.skipif(load_kernels() is None, reason="the kernels were not compiled")
@torch.no_grad()
def test_every_number() -> None:
    linear = Linear(1, 8)
    linear.weight.fill_(1.0)
    linear.bias.zero_()
    x = torch.cat([torch.linspace(-12, 12, 10_001), torch.tensor([0.0, -1e4, 1e4, torch.inf, -1e-30])])
    found = activated_linear(linear, x[:, None], "gelu")
    torch.testing.assert_close(found[:, 3].double(), gelu(x.double()), rtol=1e-6, atol=4e-7)
    assert activated_linear(linear, torch.tensor([[torch.nan]]), "gelu").isnan().all()


def test_gradients_go_the_usual_way() -> None:
    layer = FeedForward(8, 16, "gelu")
    layer(torch.randn(1, 2, 8)).sum().backward()
    assert layer.expand.weight.grad is not None


@torch.no_grad()
def test_a_layer_without_a_bias() -> None:
    linear, x = Linear(8, 16, bias=False), torch.randn(3, 8)
    assert torch.equal(activated_linear(linear, x, "gelu"), gelu(linear(x)))


@pytest.mark.parametrize("gradients", [False, True])
def test_relu_is_as_it_is_written(gradients: bool) -> None:
    linear, x = Linear(8, 16), torch.randn(3, 8)
    before = x.clone()
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(activated_linear(linear, x, "relu"), linear(x).relu())
    assert torch.equal(x, before)
