"""Which texts are worked on together: those of like length, as many as a budget of tokens allows."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

# Texts that a stream reads ahead, to find some of like length.
TOGETHER = 512


def groups_by_length(lengths: Sequence[int], budget: int, *, padded: bool = True) -> Iterator[list[int]]:
    """Yield positions of like length, shortest first; a group times its longest fits `budget`, or is a single one.

    Where groups need no padding, what fits is the sum of their lengths.
    """
    group: list[int] = []
    total = 0
    for position in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[position]
        if group and (length * (len(group) + 1) if padded else total + length) > budget:
            yield group
            group, total = [], 0
        group.append(position)
        total += length
    if group:
        yield group


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in order, `size` at a time."""
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window
