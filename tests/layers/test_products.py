"""Products of many rows are the same by either library."""

import pytest
import torch

from trasluz.devices import multiplies_bf16
from trasluz.layers import products, row_room
from trasluz.layers.products import add_row_products, product_in_room, product_with, row_products

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch comes without oneDNN"
)


@pytest.fixture(params=[True, False], autouse=True)
def _leader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a CPU without instructions for them, oneDNN makes no products in bfloat16 at all.
    leads = {torch.float32: request.param, torch.bfloat16: request.param and multiplies_bf16(torch.device("cpu"))}
    for module in (products, row_room):
        monkeypatch.setattr(module, "onednn_leads", leads.__getitem__)


@pytest.mark.parametrize("rows", [3, 700, 1_024])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
@torch.no_grad()
def test_products(rows: int, dtype: torch.dtype, error: float) -> None:
    x, y, weight, bias = (torch.randn(*shape).to(dtype) for shape in ((rows, 16), (rows, 24), (24, 16), (24,)))
    expected = torch.nn.functional.linear(x.float(), weight.float(), bias.float())
    for product in (product_with, product_in_room):
        torch.testing.assert_close(product(x, weight, bias).float(), expected, rtol=error, atol=5 * error)
        torch.testing.assert_close(
            product(x, weight, bias, "relu").float(), expected.relu(), rtol=error, atol=5 * error
        )
    back = product_in_room(y.view(1, rows, 24), weight.t())
    torch.testing.assert_close(back[0].float(), y.float() @ weight.float(), rtol=error, atol=5 * error)


@pytest.mark.parametrize("rows", [3, 700, 1_024])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_sums_over_rows(rows: int, dtype: torch.dtype, error: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "sums_products", lambda x, y: False)
    x, y, into = torch.randn(rows, 16).to(dtype), torch.randn(rows, 24).to(dtype), torch.ones(16, 24)
    expected = x.float().t() @ y.float()
    torch.testing.assert_close(row_products(x, y).float(), expected, rtol=error, atol=2 * error * rows**0.5)
    add_row_products(x, y, into)
    torch.testing.assert_close(into, expected + 1, rtol=error, atol=2 * error * rows**0.5)


@pytest.mark.parametrize("rows", [3, 700])
@torch.no_grad()
def test_a_bias_whose_numbers_lie_apart(rows: int) -> None:
    x, weight, bias = torch.randn(rows, 16), torch.randn(24, 16), torch.randn(48)[::2]
    torch.testing.assert_close(product_with(x, weight, bias), torch.nn.functional.linear(x, weight, bias))
