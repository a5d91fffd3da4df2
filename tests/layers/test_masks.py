"""Masks: one meaning, aligned with the end of the keys."""

import torch

from trasluz.layers.masks import CAUSAL, EVERYTHING, Mask


def drawn(mask: Mask, num_queries: int, num_keys: int) -> list[str]:
    return ["".join("x" if seen else "." for seen in row) for row in mask.dense(num_queries, num_keys)[0].tolist()]


def test_causal_queries_stand_at_the_end_of_the_keys() -> None:
    assert drawn(CAUSAL, 3, 3) == ["x..", "xx.", "xxx"]
    assert drawn(CAUSAL, 3, 5) == ["xxx..", "xxxx.", "xxxxx"]
    assert drawn(CAUSAL, 1, 4) == ["xxxx"]


def test_key_lengths_hide_the_padding_of_each_sentence() -> None:
    dense = Mask(torch.tensor([2, 3])).dense(1, 3)
    assert dense.tolist() == [[[True, True, False]], [[True, True, True]]]


def test_both_together() -> None:
    assert drawn(Mask(torch.tensor([2]), causal=True), 3, 3) == ["x..", "xx.", "xx."]


def test_a_band_hides_what_lies_further_back() -> None:
    banded = CAUSAL.narrowed(2)
    assert drawn(banded, 4, 4) == ["x...", "xx..", ".xx.", "..xx"]
    assert drawn(banded, 2, 5) == ["..xx.", "...xx"]
    assert drawn(EVERYTHING.narrowed(2), 3, 3) == ["xxx", "xxx", ".xx"]
    assert drawn(Mask(torch.tensor([3]), causal=True, band=2), 4, 4) == ["x...", "xx..", ".xx.", "..x."]
    assert banded.sees_everything(1, 2) and not banded.sees_everything(1, 3)
    assert CAUSAL.narrowed(2) is banded


def test_part_of_the_keys_has_the_same_texts() -> None:
    mask = Mask(texts=torch.tensor([[1, 1, 2, 2, 2]]), causal=True, band=2)
    assert drawn(mask, 5, 5) == ["x....", "xx...", "..x..", "..xx.", "...xx"]
    assert drawn(mask.of_keys(1, 4), 2, 3) == [".x.", ".xx"]
    assert mask.of_keys(1, 4) is mask.of_keys(1, 4) and CAUSAL.of_keys(1, 4) is CAUSAL


def test_only_a_mask_that_hides_nothing_sees_everything() -> None:
    assert EVERYTHING.sees_everything(5, 5)
    assert CAUSAL.sees_everything(1, 5)
    assert not CAUSAL.sees_everything(2, 5)
    assert not Mask(torch.tensor([1, 5])).sees_everything(1, 5)
    # Sentences of equal length have no padding to hide.
    assert Mask(torch.tensor([5, 5])).sees_everything(2, 5)
    assert not Mask(torch.tensor([5, 5]), causal=True).sees_everything(2, 5)


def test_what_was_written_out_once_is_not_written_again() -> None:
    mask = Mask(torch.tensor([2, 3]))
    assert mask.dense(1, 3) is mask.dense(1, 3)
    assert mask.dense(2, 3).shape == (2, 2, 3)
    assert mask.dense(1, 4).shape == (2, 1, 4)


def test_texts_in_one_row_see_nothing_of_each_other() -> None:
    mask = Mask(texts=torch.tensor([[1, 1, 2, 2, 2, 3]]))
    assert drawn(mask, 6, 6) == ["xx....", "xx....", "..xxx.", "..xxx.", "..xxx.", ".....x"]
    assert not mask.sees_everything(6, 6) and not mask.hides_everything_somewhere()
    assert mask.dense(6, 6) is mask.dense(6, 6)
    assert drawn(Mask(texts=torch.tensor([[1, 1, 2]]), causal=True), 3, 3) == ["x..", "xx.", "..x"]
    assert drawn(Mask(torch.tensor([2]), texts=torch.tensor([[1, 1, 1]])), 3, 3) == ["xx.", "xx.", "xx."]


def test_where_texts_begin_and_how_long_they_are() -> None:
    row = Mask(texts=torch.tensor([[1, 1, 2, 3], [1, 1, 1, 1]])).stretches(2, 4, 4)
    assert [[part.tolist() for part in side] for side in row] == [[[0, 2, 3, 4], [2, 1, 1, 4]]] * 2
    queries, keys = Mask(torch.tensor([3, 1])).stretches(2, 2, 5)
    assert [part.tolist() for part in (*queries, *keys)] == [[0, 2], [2, 2], [0, 5], [3, 1]]
    assert [part.tolist() for part in EVERYTHING.stretches(2, 2, 5)[1]] == [[0, 5], [5, 5]]


def test_a_mask_of_no_sentences_remembers_none() -> None:
    mask = Mask(causal=True)
    for length in range(1, 9):
        mask.stretches(2, length, length)
        mask.dense(length, length)
        mask.sees_everything(length, length)
    assert not mask._answers
    sentences = Mask(torch.tensor([3, 1]))
    assert sentences.stretches(2, 2, 5) is sentences.stretches(2, 2, 5)


def test_lengths_for_kernels_are_whole_and_end_with_the_keys() -> None:
    mask = Mask(torch.tensor([3, 9], dtype=torch.int32))
    for _, counts in (mask.stretches(2, 5, 5)[1], mask.spans(5, 2)):
        assert counts.dtype == torch.int64
        assert counts.tolist() == [3, 5]
    assert Mask(torch.tensor([2])).stretches(3, 5, 5)[1][1].tolist() == [2, 2, 2]
