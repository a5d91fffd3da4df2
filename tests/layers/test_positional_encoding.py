"""Positions against the paper's formula, under the permutation that puts sines before cosines."""

import math

import pytest
import torch

from trasluz.errors import RequestError
from trasluz.layers.positional_encoding import SinusoidalPositions, TrainablePositions, sinusoids


@pytest.mark.parametrize("dim", [8, 12])
def test_is_the_papers_formula_with_sines_first(dim: int) -> None:
    table = sinusoids(0, 50, dim)
    for position in (0, 1, 7, 49):
        for i in range(dim // 2):
            angle = position / 10000 ** (2 * i / dim)
            # The paper's column 2i stands at i, its column 2i + 1 at dim / 2 + i.
            assert float(table[position, i]) == pytest.approx(math.sin(angle), abs=1e-6)
            assert float(table[position, dim // 2 + i]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_far_positions_are_exact_and_equal_the_table() -> None:
    positions = SinusoidalPositions(8, num_cached=10)
    assert torch.equal(positions(5, start=8), sinusoids(8, 13, 8))
    assert float(positions(1, start=100_000)[0, 0]) == pytest.approx(math.sin(100_000), abs=1e-6)
    assert not positions.state_dict()


def test_trained_positions_have_an_end() -> None:
    positions = TrainablePositions(4, max_positions=6)
    assert positions(2, start=4).shape == (2, 4)
    with pytest.raises(RequestError, match="7 tokens does not fit: this model has 6 trained positions"):
        positions(3, start=4)


def test_trained_positions_of_rows_with_several_texts() -> None:
    positions = TrainablePositions(4, max_positions=3)
    torch.nn.init.normal_(positions.weight)
    found = positions.at(torch.tensor([[0, 1, 0, 1, 2]]))
    assert torch.equal(found[0], positions.weight[[0, 1, 0, 1, 2]])
    with pytest.raises(RequestError, match="4 tokens does not fit: this model has 3 trained positions"):
        positions.at(torch.tensor([[0, 3]]))


def test_rows_for_padding_are_no_positions_of_a_text() -> None:
    positions = TrainablePositions(4, max_positions=6, first=2)
    torch.nn.init.normal_(positions.weight)
    assert torch.equal(positions(3, start=1), positions.weight[3:])
    assert torch.equal(positions.at(torch.tensor([[0, 3]]))[0], positions.weight[[2, 5]])
    for too_long in (lambda: positions(5), lambda: positions.at(torch.tensor([[0, 4]]))):
        with pytest.raises(RequestError, match="5 tokens does not fit: this model has 4 trained positions"):
            too_long()
