"""Products summed over rows by AMX, beside exact ones of the same numbers."""

import pytest
import torch
from tests.threads import threads_of_torch
from torch import Tensor

from trasluz.layers import products
from trasluz.layers.kernels.summed_products import summed_products, sums_products
from trasluz.layers.linear import Linear
from trasluz.layers.output_loss import output_loss
from trasluz.layers.products import add_row_products, row_products

_ONE = torch.ones(1, 1, dtype=torch.bfloat16)
needs_amx = pytest.mark.skipif(not sums_products(_ONE, _ONE), reason="the kernel, or AMX, is not there")


def _drawn(rows: int, width: int, room: int = 0) -> Tensor:
    """Return a matrix, or a slice of a wider one in which everything else is no number."""
    whole = torch.full((rows, width + 2 * room), torch.nan, dtype=torch.bfloat16)
    whole[:, room : room + width] = torch.randn(rows, width)
    return whole[:, room : room + width]


def _assert_exact(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == torch.float32
    error = 2e-6 * float(expected.abs().max())
    torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=error)


@needs_amx
@pytest.mark.parametrize("rows", [1, 31, 33, 700, 4097])
@pytest.mark.parametrize(
    ("inputs", "outputs"), [(1, 1), (8, 256), (16, 24), (40, 16), (24, 1000), (1000, 40), (256, 256), (1, 40)]
)
def test_equals_the_exact_sums(inputs: int, outputs: int, rows: int) -> None:
    for room in (0, 5):
        x, y = _drawn(rows, inputs, room), _drawn(rows, outputs, 3 * room)
        exact = x.double().t() @ y.double()
        _assert_exact(summed_products(x, y), exact)
        into = torch.randn(inputs, outputs)
        expected = into.double() + exact
        assert summed_products(x, y, into) is into
        _assert_exact(into, expected)


@needs_amx
def test_more_than_what_is_packed_at_a_time() -> None:
    x, y = _drawn(1100, 1072), _drawn(1100, 1300)
    _assert_exact(summed_products(x, y), x.double().t() @ y.double())
    _assert_exact(summed_products(y, x), y.double().t() @ x.double())


@needs_amx
def test_the_same_at_any_number_of_threads() -> None:
    found = []
    x, y = _drawn(2077, 104), _drawn(2077, 256)
    for count in (1, 2, 3):
        with threads_of_torch(count):
            found.append((summed_products(x, y), summed_products(y, x)))
    for more in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], more, strict=True))
    assert torch.equal(found[0][0], found[0][1].t())


@needs_amx
def test_no_rows_are_zeros() -> None:
    x, y = _drawn(0, 16), _drawn(0, 40)
    assert torch.equal(summed_products(x, y), torch.zeros(16, 40))
    assert torch.equal(summed_products(x, y, torch.ones(16, 40)), torch.ones(16, 40))


@needs_amx
def test_products_of_others_still_come_out_right() -> None:
    """oneDNN lays its tiles out anew after ours."""
    x, y, weight = _drawn(600, 64), _drawn(600, 96), _drawn(96, 64)
    expected = y @ weight
    summed_products(x, y)
    assert torch.equal(y @ weight, expected)


def test_other_numbers_go_another_way() -> None:
    x = torch.randn(8, 16)
    assert not sums_products(x, x)
    assert not sums_products(x.bfloat16(), x)
    turned = torch.randn(16, 8).bfloat16().t()
    assert not sums_products(turned, x.bfloat16())
    torch.testing.assert_close(row_products(turned, x.bfloat16()).float(), turned.float().t() @ x, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("rows", [40, 700])
def test_with_and_without_the_kernel(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = _drawn(rows, 48), _drawn(rows, 16)
    found, into = row_products(x, y), torch.ones(48, 16)
    add_row_products(x, y, into)
    monkeypatch.setattr(products, "sums_products", lambda x, y: False)
    expected, plain = row_products(x, y), torch.ones(48, 16)
    assert expected.dtype == torch.bfloat16
    add_row_products(x, y, plain)
    for ours, theirs in ((found, expected), (into, plain)):
        torch.testing.assert_close(ours.float(), theirs.float(), rtol=0.01, atol=0.3)


def test_gradients_of_weights_under_autocast() -> None:
    layer, x = Linear(32, 48), torch.randn(700, 32)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, x.bfloat16().float().sum(0).expand(48, 32), rtol=0.01, atol=0.3)


def test_gradients_of_an_output_layer() -> None:
    hidden, targets = torch.randn(300, 32), torch.randint(50, (300,))
    weights = [torch.randn(50, 32, requires_grad=True) for _ in range(2)]
    weights[1].data.copy_(weights[0].data)
    with torch.autocast("cpu", torch.bfloat16):
        output_loss(hidden, weights[0], None, targets)[0].backward()
    torch.nn.functional.cross_entropy(hidden @ weights[1].t(), targets, reduction="sum").backward()
    found, expected = (weight.grad for weight in weights)
    assert found is not None
    assert expected is not None
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0.5)
