import numpy as np
import pytest
import torch

from trasluz.errors import DataError, RequestError
from trasluz.text.batching import BatchOrder, make_batch, make_text_row

PAD, START, EOS = 0, 1, 2


def random_lengths(number, longest=40, seed=0):
    generator = np.random.default_rng(seed)
    target = generator.integers(1, longest, number)
    source = np.maximum(1, target + generator.integers(-4, 5, number))
    return source, target


def test_targets_are_shifted_and_everything_is_padded():
    batch = make_batch([[5, 6, 7], [8]], [[9], [10, 11]], pad_id=PAD, start_id=START, eos_id=EOS)
    assert batch.source.tolist() == [[5, 6, 7, EOS], [8, EOS, PAD, PAD]]
    assert batch.source_lengths.tolist() == [4, 2]
    assert batch.target_input.tolist() == [[START, 9, PAD], [START, 10, 11]]
    assert batch.target_output.tolist() == [[9, EOS, PAD], [10, 11, EOS]]
    assert batch.target_lengths.tolist() == [2, 3]
    assert batch.num_target_tokens == 5
    assert batch.padding_share == pytest.approx(3 / 14)


def test_an_empty_sequence_is_its_end_alone():
    batch = make_batch([[]], [[]], pad_id=PAD, start_id=START, eos_id=EOS)
    assert batch.source.tolist() == [[EOS]]
    assert batch.target_input.tolist() == [[START]]
    assert batch.target_output.tolist() == [[EOS]]


def test_a_start_that_is_the_padding_id_stays_as_marian_has_it():
    batch = make_batch([[4]], [[5, 6]], pad_id=9, start_id=9, eos_id=0)
    assert batch.target_input.tolist() == [[9, 5, 6]]


def test_arrays_serve_as_well_as_lists_and_are_left_alone():
    ids = np.array([5, 6], dtype=np.uint16)
    batch = make_batch([ids], [ids], pad_id=PAD, start_id=START, eos_id=EOS)
    assert batch.source.dtype == torch.int64
    assert ids.tolist() == [5, 6]


def test_a_batch_moves_whole():
    batch = make_batch([[5]], [[6]], pad_id=PAD, start_id=START, eos_id=EOS).to("meta")
    assert {batch.source.device.type, batch.target_output.device.type, batch.target_lengths.device.type} == {"meta"}


def test_every_sentence_comes_once_an_epoch_and_no_batch_is_over_budget():
    lengths = random_lengths(2000)
    order = BatchOrder(lengths, 400, seed=1, epoch=0)
    assert sorted(np.concatenate(list(order)).tolist()) == list(range(2000))
    for batch in order:
        for column in lengths:
            assert (column[batch].max() + 1) * len(batch) <= 400


def test_little_of_a_batch_is_padding():
    lengths = random_lengths(5000)
    places = used = 0
    for batch in BatchOrder(lengths, 1000, seed=1, epoch=0):
        for column in lengths:
            places += (column[batch].max() + 1) * len(batch)
            used += (column[batch] + 1).sum()
    assert 1 - used / places < 0.06


def test_the_order_depends_on_seed_and_epoch_alone():
    lengths = random_lengths(500)

    def drawn(seed, epoch):
        return [batch.tolist() for batch in BatchOrder(lengths, 300, seed=seed, epoch=epoch)]

    assert drawn(1, 0) == drawn(1, 0)
    assert drawn(1, 0) != drawn(1, 1)
    assert drawn(1, 0) != drawn(2, 0)


def test_sorting_in_stretches_loses_nothing(monkeypatch):
    monkeypatch.setattr("trasluz.text.batching._SORTED_AT_ONCE", 64)
    lengths = random_lengths(1000)
    order = BatchOrder(lengths, 300, seed=1, epoch=0)
    assert sorted(np.concatenate(list(order)).tolist()) == list(range(1000))


def test_a_sentence_over_budget_is_refused_with_its_place_or_skipped():
    lengths = (np.array([3, 50, 4]), np.array([3, 4, 4]))
    with pytest.raises(DataError, match=r"^sentence pair 2 has 51 tokens, more than batch_tokens \(50\): raise"):
        BatchOrder(lengths, 50, seed=1, epoch=0)
    with pytest.raises(DataError, match=r"^corpus\.en:9 has 51 tokens"):
        BatchOrder(lengths, 50, seed=1, epoch=0, place_of=lambda index: f"corpus.en:{index + 8}")
    order = BatchOrder(lengths, 50, seed=1, epoch=0, on_long="skip")
    assert order.num_skipped == 1
    assert sorted(np.concatenate(list(order)).tolist()) == [0, 2]
    assert sorted(batch.tolist() for batch in BatchOrder(lengths, 51, seed=1, epoch=0)) == [[0, 2], [1]]


def test_impossible_budgets_are_explained():
    lengths = (np.array([3]), np.array([3]))
    with pytest.raises(RequestError, match=r"^batch_tokens is 0; it must be at least 1\.$"):
        BatchOrder(lengths, 0, seed=1, epoch=0)
    with pytest.raises(DataError, match=r"^no sentence pair is short enough for batch_tokens \(2\)"):
        BatchOrder(lengths, 2, seed=1, epoch=0, on_long="skip")


def test_no_sentences_make_no_batches():
    assert len(BatchOrder((np.array([], dtype=np.int64),) * 2, 10, seed=1, epoch=0)) == 0


def test_texts_of_a_row_lie_end_to_end():
    row = make_text_row([[5, 6, 7], [8]], [[0, 1, 1], [0]], pad_id=9, multiple=3)
    assert row.ids.tolist() == [[5, 6, 7, 8, 9, 9]] and row.segments.tolist() == [[0, 1, 1, 0, 0, 0]]
    assert row.positions.tolist() == [[0, 1, 2, 0, 0, 0]] and row.lengths.tolist() == [4]
    assert row.text_numbers.tolist() == [[1, 1, 1, 2, 3, 4]]
    assert make_text_row([[5, 6], [8]], [[0, 0], [0]], pad_id=9).ids.tolist() == [[5, 6, 8]]
