"""What is compiled for training, beside PyTorch's words for the same: values and gradients, on random shapes."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.threads import threads_of_torch
from torch import Tensor, nn

from trasluz.layers import dropout as dropout_module
from trasluz.layers import linear as linear_module
from trasluz.layers import sum_norm as sum_norm_module
from trasluz.layers.activated_linear import ACTIVATIONS, ActivationName, activated_linear
from trasluz.layers.dropout import dropout, sum_dropout
from trasluz.layers.kernels import load_kernels
from trasluz.layers.kernels.column_sums import column_sums
from trasluz.layers.linear import Linear, linears
from trasluz.layers.rms_norm import RmsNorm
from trasluz.layers.sum_norm import sum_norm

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="the compiled kernels are not there")

DTYPES = [(torch.float32, 1e-5), (torch.bfloat16, 0.03)]


def _close(found: Tensor, expected: Tensor, error: float) -> None:
    assert found.dtype == expected.dtype
    size = float(expected.float().abs().max()) or 1.0
    torch.testing.assert_close(found.float() / size, expected.float() / size, rtol=error, atol=error)


def _gradients(result: Tensor, wanted: list[Tensor]) -> list[Tensor]:
    torch.manual_seed(7)
    weights = torch.randn(result.shape).to(result.dtype)
    return list(torch.autograd.grad((result * weights).sum(), wanted))


@pytest.mark.parametrize(("dtype", "error"), DTYPES)
@pytest.mark.parametrize("kind", [nn.LayerNorm, RmsNorm])
@given(eights=st.integers(1, 20), rows=st.integers(1, 400), has_sum=st.booleans())
@settings(max_examples=25)
def test_gradients_of_a_norm(
    kind: Callable[[int, float], nn.Module], dtype: torch.dtype, error: float, eights: int, rows: int, has_sum: bool
) -> None:
    dim = 8 * eights
    torch.manual_seed(rows)
    norm = kind(dim, 0.01)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    x = (torch.randn(3, rows, dim) * 4 + 2).to(dtype).requires_grad_()
    y = torch.randn(3, rows, dim).to(dtype).requires_grad_()
    wanted = [x, *([y] if has_sum else []), *norm.parameters()]
    found = sum_norm(norm, x, y if has_sum else None)
    exact = norm(x.float() + y.float() if has_sum else x.float())
    _close(found, exact.to(dtype), error)
    for ours, plain in zip(_gradients(found, wanted), _gradients(exact, wanted), strict=True):
        _close(ours, plain, error)


@pytest.mark.parametrize(("dtype", "error"), DTYPES)
def test_a_norm_of_what_was_dropped_out(dtype: torch.dtype, error: float) -> None:
    norm, x = nn.LayerNorm(64), torch.zeros(5, 40, 64, dtype=dtype, requires_grad=True)
    y = torch.full((5, 40, 64), 2.0, dtype=dtype, requires_grad=True)
    torch.manual_seed(3)
    found = sum_norm(norm, x, y, 0.25)
    torch.manual_seed(3)
    dropped = dropout(y.detach(), 0.25, training=True)
    assert 0.2 < (dropped == 0).float().mean() < 0.3
    mask = dropped.float() / 2
    wanted = [x, y, *norm.parameters()]
    exact = norm(x.float() + y.float() * mask)
    _close(found, exact.to(dtype), error)
    for ours, plain in zip(_gradients(found, wanted), _gradients(exact, wanted), strict=True):
        _close(ours, plain, error)


def test_dropout_is_the_same_at_any_number_of_threads_and_in_both_directions() -> None:
    x = torch.randn(70_001, requires_grad=True)
    beside = torch.randn(70_001, requires_grad=True)
    found = []
    for count in (1, 2):
        torch.manual_seed(5)
        with threads_of_torch(count):
            found.append(sum_dropout(beside, x, 0.1, training=True))
    assert torch.equal(*found)
    kept = (found[0] - beside) / x
    of_x, of_beside = torch.autograd.grad(found[0].sum(), [x, beside])
    torch.testing.assert_close(of_x, kept.detach(), rtol=1e-3, atol=1e-3)
    assert torch.equal(of_beside, torch.ones_like(x))
    assert abs(float((of_x == 0).float().mean()) - 0.1) < 0.005
    torch.testing.assert_close(of_x.max(), torch.tensor(1 / 0.9))


def test_neighbours_are_dropped_independently() -> None:
    kept = dropout(torch.ones(1 << 20), 0.5, training=True).view(1024, 1024) / 2
    pairs = [(kept[:, 1:] * kept[:, :-1]), (kept[1:] * kept[:-1]), (kept[:, 16:] * kept[:, :-16])]
    for together in pairs:
        assert abs(float(together.mean()) - 0.25) < 0.003


@pytest.mark.parametrize(("dtype", "error"), DTYPES)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@given(inputs=st.integers(1, 40), eights=st.integers(1, 12), rows=st.integers(1, 300))
@settings(max_examples=25)
def test_gradients_of_an_activated_layer(
    activation: ActivationName, dtype: torch.dtype, error: float, inputs: int, eights: int, rows: int
) -> None:
    torch.manual_seed(rows)
    layer, x = Linear(inputs, 8 * eights), (torch.randn(3, rows, inputs) * 2).requires_grad_()
    nn.init.normal_(layer.bias)
    wanted = [x, layer.weight, layer.bias]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = activated_linear(layer, x, activation)
    assert found.dtype == dtype
    exact = nn.functional.linear(x, layer.weight, layer.bias)
    # What lies so near zero that it is rounded to the other side has the slope of where it is.
    exact = exact * (found.detach() > 0) if activation == "relu" else ACTIVATIONS[activation](exact)
    _close(found.float(), exact, error)
    for ours, plain in zip(_gradients(found, wanted), _gradients(exact, wanted), strict=True):
        _close(ours, plain, error)


def test_every_slope_of_gelu() -> None:
    layer = Linear(1, 8)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    x = torch.cat([torch.linspace(-12, 12, 10_001), torch.tensor([0.0, -1e4, 1e4, -1e-30])])[:, None].requires_grad_()
    (found,) = torch.autograd.grad(activated_linear(layer, x, "gelu").sum(), x)
    exact = x.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(nn.functional.gelu(exact).sum(), exact)
    torch.testing.assert_close(found.double() / 8, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "error"), DTYPES)
@pytest.mark.parametrize("has_bias", [True, False])
@given(
    inputs=st.integers(1, 40), outputs=st.lists(st.integers(1, 50), min_size=1, max_size=4), rows=st.integers(1, 150)
)
@settings(max_examples=25)
def test_products_of_what_is_read_together(
    has_bias: bool, dtype: torch.dtype, error: float, inputs: int, outputs: list[int], rows: int
) -> None:
    torch.manual_seed(rows)
    layers = [Linear(inputs, size, has_bias) for size in outputs]
    x = torch.randn(2, rows, inputs, requires_grad=True)
    wanted = [x, *(parameter for layer in layers for parameter in layer.parameters())]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = linears(x, layers)
    exact = [nn.functional.linear(x, layer.weight, layer.bias) for layer in layers]
    for ours, plain in zip(found, exact, strict=True):
        _close(ours.float(), plain, error)
    gradients = _gradients(torch.cat(found, -1), wanted), _gradients(torch.cat(exact, -1), wanted)
    for ours, plain in zip(*gradients, strict=True):
        _close(ours, plain, error)


def test_gradients_that_lie_side_by_side_are_not_copied() -> None:
    whole = torch.randn(3, 5, 24)
    parts = whole.split([8, 4, 12], dim=-1)
    joined = linear_module._joined(parts)
    assert joined.data_ptr() == whole.data_ptr()
    assert torch.equal(joined, whole)
    assert torch.equal(linear_module._joined(parts[::-1]), torch.cat(parts[::-1], -1))
    other = whole.double().split([8, 4, 12], dim=-1)
    assert torch.equal(linear_module._joined([parts[0].double(), other[1]]), torch.cat(other[:2], -1))


def test_who_waits_for_a_layer_is_called() -> None:
    layers, x, seen = [Linear(16, 8), Linear(16, 8)], torch.randn(3, 16), list[nn.Module]()
    for layer in layers:
        layer.register_forward_hook(lambda layer, *_: seen.append(layer))
    linears(x, layers)
    activated_linear(layers[0], x, "gelu")
    assert seen == [*layers, layers[0]]


def test_a_single_position_and_a_single_layer() -> None:
    layer, x = Linear(16, 8), torch.randn(16, requires_grad=True)
    wanted = [x, layer.weight, layer.bias]
    (alone,) = linears(x, [layer])
    exact = [nn.functional.linear(x, layer.weight, layer.bias) for _ in range(3)]
    exact[2] = nn.functional.gelu(exact[2])
    for found, expected in zip((alone, layer(x), activated_linear(layer, x, "gelu")), exact, strict=True):
        assert found.shape == (8,)
        _close(found, expected, 1e-5)
        for ours, plain in zip(_gradients(found, wanted), _gradients(expected, wanted), strict=True):
            _close(ours, plain, 1e-5)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_autocast_to_a_type_that_the_kernel_does_not_know(activation: ActivationName) -> None:
    layer, x = Linear(16, 8), torch.randn(3, 16)
    with torch.autocast("cpu", torch.float16):
        found = activated_linear(layer, x, activation)
    assert found.dtype == torch.float16
    found.sum().backward()
    assert layer.weight.grad is not None
    _close(found.float(), ACTIVATIONS[activation](nn.functional.linear(x, layer.weight, layer.bias)), 0.01)


def test_what_is_frozen_gets_no_gradient() -> None:
    layers = [Linear(8, 8), Linear(8, 16)]
    layers[0].weight.requires_grad_(False)
    x = torch.randn(4, 8)
    sum(one.sum() for one in linears(x, layers)).backward()
    assert layers[0].weight.grad is None
    assert layers[0].bias.grad is not None
    assert layers[1].weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(rows=st.integers(0, 900), dim=st.integers(1, 70))
@settings(max_examples=40)
def test_column_sums(dtype: torch.dtype, rows: int, dim: int) -> None:
    torch.manual_seed(rows)
    x = torch.randn(rows, dim).to(dtype)
    torch.testing.assert_close(column_sums(x), x.float().sum(0), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_torchs_default_type_changes_nothing(default: torch.dtype) -> None:
    norm, layer = nn.LayerNorm(16), Linear(16, 8)
    x = torch.randn(300, 16, requires_grad=True)
    wanted = [x, *norm.parameters(), *layer.parameters()]

    def found() -> list[Tensor]:
        result = activated_linear(layer, sum_norm(norm, x), "gelu")
        return [result, column_sums(x.detach()), *torch.autograd.grad(result.sum(), wanted)]

    expected, before = found(), torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        others = found()
    finally:
        torch.set_default_dtype(before)
    for one, other in zip(expected, others, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_without_kernels_the_same_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    norm, x, y = nn.LayerNorm(16), torch.randn(4, 16), torch.randn(4, 16)
    compiled = sum_norm(norm, x, y)
    monkeypatch.setattr(sum_norm_module, "training_kernels_for", lambda x: None)
    monkeypatch.setattr(dropout_module, "drops_out", lambda x: False)
    torch.testing.assert_close(sum_norm(norm, x, y), compiled)
    dropped = sum_dropout(x, torch.ones(4, 16), 0.5, training=True) - x
    assert set(dropped.round(decimals=3).unique().tolist()) <= {0.0, 2.0}
