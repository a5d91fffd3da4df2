"""The root mean square norm against its formula."""

import math

import torch

from trasluz.layers.rms_norm import RmsNorm


def test_is_the_formula() -> None:
    norm = RmsNorm(6, epsilon=0.01)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 6) * 4 + 2
    found = norm(x)
    for row in range(2):
        for place in range(3):
            values = x[row, place].tolist()
            size = math.sqrt(sum(value**2 for value in values) / 6 + 0.01)
            expected = [value / size * weight for value, weight in zip(values, norm.weight.tolist(), strict=True)]
            torch.testing.assert_close(found[row, place], torch.tensor(expected))


def test_sixteen_bits_stay_sixteen_bits() -> None:
    x = torch.randn(3, 8) * 1000
    found = RmsNorm(8).bfloat16()(x.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), RmsNorm(8)(x), rtol=0.02, atol=0.02)
