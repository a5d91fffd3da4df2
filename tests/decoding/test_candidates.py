"""The likeliest of a vocabulary are those that sorting finds."""

import pytest
import torch

from trasluz.decoding.candidates import top_of_rows


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("size", [10, 128, 5000, 8192, 32_001])
def test_as_topk(count: int, size: int) -> None:
    generator = torch.Generator().manual_seed(size + count)
    values = torch.randn(5, size, generator=generator)
    # All of the best in one stretch, in the last one, and hardly any that is possible at all.
    values[1, 3 : 3 + count] += 100.0
    values[2, size - count :] += 100.0
    values[3, count:] = float("-inf")
    best, places = top_of_rows(values, count)
    expected, _ = values.topk(count, dim=-1)
    assert torch.equal(best, expected)
    assert torch.equal(values.gather(1, places), best)
    assert all(len(set(row)) == count for row in places.tolist())
