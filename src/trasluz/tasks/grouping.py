"""Which texts are worked on together: those of like length, as many as a budget of tokens allows."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

# Texts that a stream reads ahead, to find some of like length.
TOGETHER = 512


def groups_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield positions of like length, shortest first; a group times its longest fits `budget`, or is a single one."""
    group: list[int] = []
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and lengths[position] * (len(group) + 1) > budget:
            yield group
            group = []
        group.append(position)
    if group:
        yield group


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in order, `size` at a time."""
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window
