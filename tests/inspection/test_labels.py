"""Tokens as people see them."""

import pytest
from rich.cells import cell_len

from trasluz.inspection.labels import clusters, cut, is_right_to_left, shown, word_of


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("light", "light"),
        ("", "∅"),
        (" ", "␣"),
        (" luz", "␣luz"),
        ("luz  ", "luz␣␣"),
        ("two words", "two words"),
        ("a\u00a0b", "a b"),
        ("\n", "␊"),
        ("a\tb\x00", "a␉b␀"),
        ("\x7f", "␡"),
        ("\x9b31m", "\ufffd31m"),
        ("\x1b[31mred", "␛[31mred"),
        ("\u2028", "␤"),
        ("\ud800", "\ufffd"),
        ("abc\u202edef", "abcdef"),
        ("\u200e", "∅"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("می\u200cروم", "می\u200cروم"),
    ],
)
def test_shown_is_one_visible_line(token: str, expected: str) -> None:
    assert shown(token) == expected
    assert cell_len(expected) > 0


@pytest.mark.parametrize(
    ("pieces", "word"),
    [
        (["▁tras", "luz"], "trasluz"),
        (["through"], "through"),
        (["can", "##dle"], "candle"),
        (["can@@", "dle"], "candle"),
        (["can", "dle</w>"], "candle"),
        (["▁", "<0xC3>", "<0xB1>", "u"], "ñu"),
        (["<0xF0>", "<0x9F>"], "\ufffd"),
        (["##"], "##"),
        (["@@"], "@@"),
        (["▁"], "▁"),
        (["</s>"], "</s>"),
        (["C", "##"], "C##"),
    ],
)
def test_word_of_pieces(pieces: list[str], word: str) -> None:
    assert word_of(pieces) == word


def test_clusters_keep_what_a_reader_sees_as_one_letter() -> None:
    family = "👩\u200d👧"
    assert list(clusters("e\u0301" + family + "👍🏽" + "🇪🇸🇲🇽" + "❤\ufe0f日")) == [
        "e\u0301",
        family,
        "👍🏽",
        "🇪🇸",
        "🇲🇽",
        "❤\ufe0f",
        "日",
    ]


@pytest.mark.parametrize("text", ["short", "a rather long token", "紙を通して光が見える", "😀😀😀😀😀😀😀", "é" * 30])
@pytest.mark.parametrize("cells", [3, 8, 11])
def test_cut_measures_terminal_cells(text: str, cells: int) -> None:
    shortened = cut(text, cells)
    assert cell_len(shortened) <= cells
    assert shortened == text or shortened.endswith("…")


def test_direction_is_that_of_the_first_letter() -> None:
    assert is_right_to_left("نور")
    assert is_right_to_left("12 אור")
    assert not is_right_to_left("light نور")
    assert not is_right_to_left("12 …")
