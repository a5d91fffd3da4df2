"""The norm of a sum, compiled, as PyTorch's."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from trasluz.layers.rms_norm import RmsNorm
from trasluz.layers.sum_norm import sum_norm


@pytest.mark.parametrize("kind", [nn.LayerNorm, RmsNorm])
@pytest.mark.parametrize("dim", [8, 12, 64, 520])
@torch.no_grad()
def test_norm(dim: int, kind: Callable[[int, float], nn.Module]) -> None:
    norm = kind(dim, 0.01)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x, y = torch.randn(3, 5, dim) * 4 + 2, torch.randn(3, 5, dim)
    torch.testing.assert_close(sum_norm(norm, x, y), norm(x + y))
    torch.testing.assert_close(sum_norm(norm, x), norm(x))
    torch.testing.assert_close(sum_norm(norm, x.transpose(0, 1), y.transpose(0, 1)), norm(x + y).transpose(0, 1))
    assert sum_norm(norm, x[:0], y[:0]).shape == (0, 5, dim)


@pytest.mark.parametrize("kind", [nn.LayerNorm, RmsNorm])
@torch.no_grad()
def test_norm_in_bfloat16(kind: Callable[[int, float], nn.Module]) -> None:
    norm = kind(64, 0.01).bfloat16()
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x, y = (torch.randn(3, 5, 64) * 4 + 2).bfloat16(), torch.randn(3, 5, 64).bfloat16()
    exact = kind(64, 0.01)
    exact.load_state_dict(norm.state_dict())
    torch.testing.assert_close(sum_norm(norm, x, y).float(), exact(x.float() + y.float()), rtol=0.01, atol=0.01)
    torch.testing.assert_close(sum_norm(norm, x).float(), exact(x.float()), rtol=0.01, atol=0.01)


def test_gradients_go_the_usual_way() -> None:
    norm = nn.LayerNorm(16)
    sum_norm(norm, torch.randn(2, 16), torch.randn(2, 16)).sum().backward()
    assert norm.weight.grad is not None
