"""Packing: every text once, rows full and never too full, and batches that say where each text begins."""

import numpy as np
import pytest

from trasluz.errors import RequestError
from trasluz.text.packing import PackedOrder, cut_rows, make_packed_batch, plan_rows


def some_lengths(count: int = 3000, longest: int = 64) -> np.ndarray:
    """Return lengths as texts have them: most short, some long."""
    drawn = np.random.default_rng(3).lognormal(2.8, 0.6, count)
    return np.clip(drawn, 3, longest).astype(np.int32)


def test_plans_hold_every_text_and_leave_little_room() -> None:
    counts = np.bincount(some_lengths())
    plans = plan_rows(counts, 64)
    planned = np.zeros_like(counts)
    for lengths, number in plans:
        assert sum(lengths) <= 64 and number > 0
        for length in lengths:
            planned[length] += number
    assert (planned == counts).all()
    rows = sum(number for _, number in plans)
    assert int(counts @ np.arange(len(counts))) / (rows * 64) > 0.99


def test_rows_are_filled_in_the_way_that_is_obvious() -> None:
    assert plan_rows(np.array([0, 0, 0, 0, 1, 0, 1]), 10) == [((6, 4), 1)]
    assert sorted(plan_rows(np.array([0, 0, 0, 7]), 10)) == [((3,), 1), ((3, 3, 3), 2)]
    assert plan_rows(np.array([0]), 10) == []


def test_an_epoch_has_every_text_once_in_batches_of_so_many_rows() -> None:
    lengths = some_lengths()
    order = PackedOrder(lengths, 64, 8, 1, 0)
    batches = [order[index] for index in range(len(order))]
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        rows = cut_rows(lengths[batch], 64)
        assert len(rows) <= 8
        assert all(lengths[batch[row]].sum() <= 64 for row in rows)
    again, later = PackedOrder(lengths, 64, 8, 1, 0), PackedOrder(lengths, 64, 8, 1, 1)
    assert all((again[index] == batch).all() for index, batch in enumerate(batches))
    assert not np.array_equal(later[0], batches[0])
    with pytest.raises(IndexError):
        order[len(order)]


def test_a_batch_mixes_lengths() -> None:
    lengths = some_lengths()
    first = lengths[PackedOrder(lengths, 64, 32, 1, 0)[0]]
    assert abs(first.mean() - lengths.mean()) < 0.25 * lengths.mean() and first.max() > 2 * first.min()


def test_a_text_longer_than_a_row_is_refused() -> None:
    with pytest.raises(RequestError, match=r"a text has 9 tokens, but a row holds 8: cut it, or lengthen rows\."):
        PackedOrder(np.array([3, 9]), 8, 2, 1, 0)


def test_rows_are_cut_as_late_as_possible() -> None:
    assert cut_rows([3, 4, 2, 9, 1], 9) == [range(0, 3), range(3, 4), range(4, 5)]
    assert cut_rows([], 9) == []


def test_a_batch_knows_where_each_text_begins() -> None:
    pieces = [([2, 11, 12, 3], [1], [21]), ([2, 13, 3], [1], [22]), ([2, 14, 15, 16, 3], [2, 3], [23, 24])]
    batch = make_packed_batch(pieces, row_length=8, pad_id=0)
    texts = batch.texts
    assert texts.ids.tolist() == [[2, 11, 12, 3, 2, 13, 3], [2, 14, 15, 16, 3, 0, 0]]
    assert texts.lengths.tolist() == [7, 5] and texts.segments.sum() == 0
    assert texts.positions is not None and texts.text_numbers is not None
    assert texts.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 3, 4, 0, 0]]
    assert texts.text_numbers.tolist() == [[1, 1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 1, 2, 3]]
    assert batch.rows.tolist() == [0, 0, 1, 1] and batch.columns.tolist() == [1, 5, 2, 3]
    assert batch.targets.tolist() == [21, 22, 23, 24]
    assert batch.to("cpu").texts.positions is not None and batch.num_target_tokens == 12
