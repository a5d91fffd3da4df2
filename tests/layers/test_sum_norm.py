"""The norm of a sum, compiled, as PyTorch's."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from trasluz.layers import sum_norm as module
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


@pytest.mark.parametrize("has_gradients", [True, False])
def test_layer_norms_that_the_kernel_does_not_know(has_gradients: bool) -> None:
    x, y = torch.randn(3, 16) * 4 + 2, torch.randn(3, 16)
    norms = [nn.LayerNorm(16, bias=False), nn.LayerNorm(16, elementwise_affine=False), nn.LayerNorm((3, 16))]
    nn.init.normal_(norms[2].weight)
    with torch.set_grad_enabled(has_gradients):
        for norm in norms:
            torch.testing.assert_close(sum_norm(norm, x), norm(x))
            torch.testing.assert_close(sum_norm(norm, x, y), norm(x + y))
        with pytest.raises(RuntimeError, match="normalized_shape"):
            sum_norm(nn.LayerNorm(8), x)


def test_what_is_of_another_shape_is_not_for_the_kernel() -> None:
    x = torch.randn(3, 16)
    assert module._is_known(nn.LayerNorm(16), x, x)
    assert not module._is_known(nn.LayerNorm(16), x, x[:1])
    assert not module._is_known(RmsNorm(8), x, x)


class _Doubled(nn.LayerNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def test_an_heir_computes_what_it_says() -> None:
    norm, x = _Doubled(16), torch.randn(3, 16)
    torch.testing.assert_close(sum_norm(norm, x), norm(x))
