"""The linear layer of ours is PyTorch's."""

import pytest
import torch
from torch.nn.functional import linear as plain

from trasluz.layers.linear import Linear


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
