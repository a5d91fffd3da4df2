"""Documents as examples: nothing is lost or moved, no stretch is too long, and each can be parted."""

from pathlib import Path

import numpy as np
import pytest
from small_text import document_recipe, prepare

from trasluz.errors import RecipeError
from trasluz.training.document_examples import stretches_of


def sentences(*lengths: int) -> list[np.ndarray]:
    ends = np.cumsum(lengths)
    return [np.arange(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def ends_of(*lengths: int, room: int = 10) -> list[list[int]]:
    return [ends.tolist() for _, ends in stretches_of(sentences(*lengths), room)]


def test_stretches_are_filled_sentence_by_sentence() -> None:
    assert ends_of(3, 4, 2, 5, 1) == [[3, 7, 9], [5, 6]]
    assert ends_of(5, 5, 5) == [[5, 10], [2 + 1, 5]]
    assert ends_of(4, 0, 4) == [[4, 8]]


def test_long_sentences_are_cut_into_equal_parts() -> None:
    assert ends_of(7) == [[4, 7]]
    assert ends_of(16) == [[4, 8], [4, 8]]


def test_what_is_too_short_for_a_pair_is_left_out() -> None:
    assert ends_of(1) == ends_of() == []
    assert ends_of(2) == [[1, 2]]
    assert ends_of(5, 5, 1) == [[5, 10]]


@pytest.mark.parametrize("room", [2, 3, 17, 64])
def test_every_stretch_fits_and_can_be_parted(room: int) -> None:
    drawn = np.random.default_rng(0)
    for _ in range(30):
        document = sentences(*drawn.integers(1, 40, drawn.integers(1, 12)).tolist())
        found = list(stretches_of(document, room))
        assert all(len(ids) <= room and len(ends) > 1 and ends[-1] == len(ids) for ids, ends in found)
        whole, total = np.concatenate([ids for ids, _ in found]), sum(map(len, document))
        assert whole.tolist() == list(range(len(whole))) and len(whole) >= total - 1


def test_documents_stay_apart_in_the_cache(tmp_path: Path) -> None:
    _, data = prepare(document_recipe(tmp_path, "data.max_length=24"))
    topics: dict[int, set[str]] = {}
    for ids, ends, place in data.cache:
        text = data.source_tokenizer.decode(ids)
        topics.setdefault(int(place[1]), set()).update(word for word in text.split() if word in _TOPICS)
        assert int(ends[-1]) == len(ids) <= 24 - 3
    assert len(topics) == data.counts.read - data.counts.held_out and all(len(found) == 1 for found in topics.values())
    assert len(data.valid) == 12 and len(data.valid[0].lines) > 1


_TOPICS = {"sea", "kitchen", "garden", "sky"}


def test_no_room_for_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"max_length is 4, which leaves no room for text beside 3 special tokens"):
        prepare(document_recipe(tmp_path, "data.max_length=4"))
