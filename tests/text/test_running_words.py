"""Stretches that a tokenizer cut are put together as in files of tagged words, and no further."""

import re

import pytest

from trasluz.text.running_words import group_by_word


def words_of(text: str, cut: str = r"\w+|[^\w\s]") -> list[str]:
    """Return the words of a text whose stretches are cut as in BERT, or as `cut` says."""
    stretches = [found.span() for found in re.finditer(cut, text)]
    groups = group_by_word(text, stretches)
    assert [number for group in groups for number in group] == list(range(len(stretches)))
    return [text[stretches[group[0]][0] : stretches[group[-1]][1]] for group in groups]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Dr. J.-P. O'Neill-Smith, of the U.S. Navy.", "Dr . J.-P. O'Neill-Smith , of the U.S. Navy ."),
        ("(Castilla-La Mancha)", "( Castilla-La Mancha )"),
        ("the U.S.-led AT&T at 10:30: 1,000.5", "the U.S.-led AT&T at 10:30 : 1,000.5"),
        ("Ana's and Peru’s, e.g. O'Brien's", "Ana 's and Peru ’s , e.g. O'Brien 's"),
        # What is written together by mistake, and elisions.
        ("Lima,Peru and Lima.Then l'Italia", "Lima , Peru and Lima . Then l ' Italia"),
        ("Lima\u2014the “old” one...", "Lima \u2014 the “ old ” one . . ."),
        ("Ana", "Ana"),
        ("", ""),
    ],
)
def test_words_are_those_of_tagged_files(text: str, words: str) -> None:
    assert words_of(text) == words.split()


def test_letters_and_digits_are_one_word() -> None:
    assert words_of("the A1b road", r"[a-z]+|[A-Z]+|\d+") == ["the", "A1b", "road"]


def test_scripts_without_blanks_stay_as_they_are_cut() -> None:
    assert words_of("東京に行く。", r"[東京行]|\w|。") == list("東京に行く。")


def test_a_stretch_that_reaches_over_the_end_of_a_word_stays_alone() -> None:
    assert words_of("U.S.)", r"\w|[^\w\s]+") == ["U.S", ".)"]
