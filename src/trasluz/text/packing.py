"""Packing: short texts lie one behind the other in rows of one length, so that a batch is nearly without padding.

    [CLS] a b [SEP] [CLS] c [SEP] [CLS] d e f [SEP] .        positions   0 1 2 3 0 1 2 0 1 2 3 4 .

Each text has its own positions and sees nothing of its neighbours (`Mask.texts`). Which texts share a row is decided by
their lengths alone, as in Krell et al. 2021 (arXiv 2107.02027): the longest first, each into the fullest row that still
has room for it. All texts of one length are placed at once, so that the work hardly grows with their number.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer

from trasluz.errors import RequestError
from trasluz.text.batching import MaskedBatch, make_masked_batch, pad_sequences, positions_within

RowPlan = tuple[tuple[int, ...], int]
"""The lengths of the texts in a row, and how many rows are filled in this way."""


def plan_rows(counts: Integer[np.ndarray, " lengths"], row_length: int) -> list[RowPlan]:
    """Return how rows are filled, given how many texts there are of each length, from 0 on."""
    # By the room that is left: rows that may still take something.
    left: defaultdict[int, list[RowPlan]] = defaultdict(list)
    for length in range(len(counts) - 1, 0, -1):
        waiting = int(counts[length])
        while waiting:
            room = min((room for room in left if room >= length), default=None)
            if room is None:
                # New rows, of as many of this length as fit; what then remains gets one more.
                texts = min(row_length // length, waiting)
                left[row_length - texts * length].append(((length,) * texts, waiting // texts))
                waiting %= texts
                continue
            lengths, number = left[room].pop()
            taken = min(number, waiting)
            if number > taken:
                left[room].append((lengths, number - taken))
            elif not left[room]:
                del left[room]
            left[room - length].append(((*lengths, length), taken))
            waiting -= taken
    return [plan for room in sorted(left) for plan in left[room]]


class PackedOrder:
    """The batches of one epoch, as arrays of texts of which neighbours share a row; equal arguments, equal order.

    Unlike batches of texts of like length, each holds texts of all lengths.
    """

    def __init__(
        self, lengths: Integer[np.ndarray, " texts"], row_length: int, rows_a_batch: int, seed: int, epoch: int
    ) -> None:
        """Draw the order from the texts' lengths, special tokens included.

        Raises RequestError where a text is longer than a row.
        """
        longest = int(lengths.max(initial=0))
        if longest > row_length:
            raise RequestError(f"a text has {longest} tokens, but a row holds {row_length}: cut it, or lengthen rows.")
        generator = np.random.default_rng([seed, epoch])
        order = generator.permutation(len(lengths))
        # Stable, so that within one length every epoch has another order.
        by_length = order[np.argsort(lengths[order], kind="stable")]
        counts = np.bincount(lengths, minlength=1)
        taken = np.cumsum(counts) - counts
        texts, sizes = [], []
        for row, number in plan_rows(counts, row_length):
            columns = []
            for length in row:
                columns.append(by_length[taken[length] : taken[length] + number])
                taken[length] += number
            texts.append(np.stack(columns, axis=1).ravel())
            sizes.append(np.full(number, len(row)))
        self._texts = np.concatenate(texts) if texts else order
        ends = np.cumsum(np.concatenate(sizes)) if sizes else order
        self._ends, self._begins = ends, np.append(0, ends)[:-1]
        self._rows = generator.permutation(len(ends))
        self._rows_a_batch = rows_a_batch

    def __len__(self) -> int:
        return -(-len(self._rows) // self._rows_a_batch)

    def __getitem__(self, index: int) -> Integer[np.ndarray, "_"]:
        begin = range(len(self))[index] * self._rows_a_batch
        rows = self._rows[begin : begin + self._rows_a_batch]
        return np.concatenate([self._texts[self._begins[row] : self._ends[row]] for row in rows])


def cut_rows(lengths: Sequence[int] | Any, row_length: int) -> list[range]:
    """Return which of the texts, in their order, share a row: as many as fit, and so no more rows than need be."""
    rows: list[range] = []
    begin = filled = 0
    for number, length in enumerate(lengths):
        if filled + length > row_length and number > begin:
            rows.append(range(begin, number))
            begin, filled = number, 0
        filled += length
    if len(lengths) > begin:
        rows.append(range(begin, len(lengths)))
    return rows


def make_packed_batch(pieces: Sequence[tuple[Any, Any, Any]], *, row_length: int, pad_id: int) -> MaskedBatch:
    """Return the batch of pieces of text, each with its positions to guess and what stood there, several in a row."""
    rows, positions = [], []
    for numbers in cut_rows([len(ids) for ids, _, _ in pieces], row_length):
        some = [pieces[number] for number in numbers]
        sizes = [len(ids) for ids, _, _ in some]
        begins = np.cumsum(sizes) - sizes
        places = [np.asarray(places) + begin for (_, places, _), begin in zip(some, begins, strict=True)]
        ids, found = ([np.asarray(piece[part]) for piece in some] for part in (0, 2))
        rows.append((np.concatenate(ids), np.concatenate(places), np.concatenate(found)))
        positions.append(positions_within(sizes))
    batch = make_masked_batch(rows, pad_id=pad_id)
    placed: torch.Tensor = pad_sequences(positions, pad_id=0)[0]
    return dataclasses.replace(batch, texts=dataclasses.replace(batch.texts, positions=placed))
