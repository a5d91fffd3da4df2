"""Texts of like length go together, within the budget, and none is lost."""

import random

import pytest

from trasluz.tasks.grouping import groups_by_length, windows


def test_groups_keep_the_budget_and_lose_nothing() -> None:
    lengths = [random.Random(1).randint(1, 40) for _ in range(200)]
    groups = list(groups_by_length(lengths, 90))
    assert sorted(position for group in groups for position in group) == list(range(200))
    for group in groups:
        assert len(group) == 1 or max(lengths[position] for position in group) * len(group) <= 90
    assert len(groups) < 80
    assert list(groups_by_length([500, 3, 3], 10)) == [[1, 2], [0]]
    assert list(groups_by_length([], 10)) == []


def test_groups_without_padding_are_fuller() -> None:
    lengths = [random.Random(1).randint(1, 40) for _ in range(200)]
    groups = list(groups_by_length(lengths, 90, padded=False))
    assert sorted(position for group in groups for position in group) == list(range(200))
    sums = [sum(lengths[position] for position in group) for group in groups]
    assert max(sums) <= 90 and min(sums[:-1]) > 90 - 40
    assert list(groups_by_length([500, 3, 4], 10, padded=False)) == [[1, 2], [0]]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_windows(size: int) -> None:
    found = list(windows(iter(range(7)), size))
    assert [item for window in found for item in window] == list(range(7))
    assert all(len(window) == size for window in found[:-1])
