"""Rules of thumb give sizes that make sense, from ten pairs to ten million."""

from itertools import pairwise

import pytest

from trasluz.cli.sizing import (
    Corpus,
    Machine,
    batch_tokens_for,
    count_corpus,
    dropout_for,
    preset_for,
    training_for,
    vocab_size_for,
)

LAPTOP, SERVER = Machine(num_cores=2), Machine(num_cores=16, gpu_memory=80 * 2**30)


def corpus_of(num_pairs: int) -> Corpus:
    return Corpus(num_pairs, 12 * num_pairs, 12 * num_pairs, distinct_words=min(200_000, 2 * num_pairs), longest=60)


def test_counting_stops_where_it_is_told() -> None:
    pairs = [("a b", "c"), ("a", "d e f"), ("g", "h")]
    assert count_corpus(pairs, most=10) == Corpus(3, 4, 5, 8, 3)
    assert count_corpus(pairs, most=2) == Corpus(2, 3, 4, 6, 3, more=True)


@pytest.mark.parametrize("machine", [LAPTOP, SERVER])
def test_more_text_never_means_a_smaller_vocabulary_or_batch_or_more_dropout(machine: Machine) -> None:
    sizes = [corpus_of(10**power) for power in range(1, 8)]
    for less, more in pairwise(sizes):
        assert vocab_size_for(less) <= vocab_size_for(more)
        assert batch_tokens_for(less, machine) <= batch_tokens_for(more, machine)
        assert dropout_for(less) >= dropout_for(more)


def test_a_machine_without_a_gpu_gets_the_small_model() -> None:
    assert preset_for(corpus_of(10_000_000), LAPTOP) == "transformer-tiny"
    assert preset_for(corpus_of(10_000_000), SERVER) == "transformer-base"


def test_captions_get_what_is_known_to_suit_them() -> None:
    captions = Corpus(29_000, 345_000, 323_000, distinct_words=35_000, longest=40)
    assert (preset_for(captions, LAPTOP), dropout_for(captions), vocab_size_for(captions)) == (
        "transformer-tiny",
        0.3,
        8000,
    )
    assert batch_tokens_for(captions, LAPTOP) == 4096
    assert training_for(captions, LAPTOP)["evaluation"]["every"] == "150 steps"
