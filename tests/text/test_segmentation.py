import time

import pytest

from trasluz.text.segmentation import (
    ESCAPE,
    MARK,
    build_decoder,
    build_normalizer,
    build_splitter,
    group_pieces,
    piece_bytes,
    readable,
    unescape,
    words_of_pieces,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t\n b\u00a0\u2003c\u2028d ", "a b c d"),
        ("a\0b\x07\x1fc\x85d", "a b c d"),
        ("e\u0301", "\u00e9"),
        ("\u200b\ufeff\u200d", "\u200b\ufeff\u200d"),
        (" \0\t ", ""),
        ("\ufb01 \u00bd", "\ufb01 \u00bd"),
    ],
)
def test_the_stated_normalisation(text, expected):
    assert build_normalizer("nfc").normalize_str(text) == expected


@pytest.mark.parametrize(
    "text", [MARK, ESCAPE, ESCAPE + "0", ESCAPE + "1", MARK + "1", ESCAPE + MARK + "01" + ESCAPE * 2]
)
def test_marks_and_escapes_are_told_apart(text):
    escaped = build_normalizer("nfc").normalize_str(text)
    assert MARK not in escaped
    assert unescape(escaped) == text


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("bpe", "Don't stop, (now)!", ["▁Don't", "▁stop", ",", "▁(", "now", ")", "!"]),
        ("bpe", "--- 2026 a1", ["▁---", "▁2", "0", "2", "6", "▁a", "1"]),
        ("bpe", "日本語", ["▁日本語"]),
        ("word", "日本語 año", ["▁日", "本", "語", "▁año"]),
        ("character", "a b", ["a", "▁", "b"]),
        ("bpe", "x" * 250, ["▁" + "x" * 100, "x" * 100, "x" * 50]),
    ],
)
def test_what_the_model_sees_at_a_time(kind, text, expected):
    stretches = [stretch for stretch, _ in build_splitter(kind).pre_tokenize_str(text)]
    assert stretches == expected
    assert build_decoder(kind).decode(stretches) == text


def test_bytes_of_pieces():
    assert piece_bytes("<0xE2>") == b"\xe2"
    assert piece_bytes("▁a") == "▁a".encode()
    # These only look like it.
    assert piece_bytes("<0xZZ>") == b"<0xZZ>"
    assert piece_bytes("<0xe2>") == b"<0xe2>"


def test_bytes_become_characters_before_words_are_told():
    pieces = ["▁", "<0xF0>", "<0x9F>", "<0x91>", "<0x8D>", "<0xF0>", "<0x9F>", "<0x8F>", "<0xBD>", "▁ok", "<0xC3>"]
    assert group_pieces(pieces) == [("👍🏽", list(range(9))), ("ok", [9]), ("\ufffd", [10])]


def test_a_piece_over_two_words_belongs_to_the_first():
    assert group_pieces(["▁one,▁t", "wo", "."]) == [("one,", [0]), ("two", [1]), (".", [2])]


def test_empty_pieces_are_no_harm():
    assert group_pieces(["", ""]) == [("", [0, 1])]
    assert group_pieces(["▁a", ""]) == [("a", [0, 1])]
    assert words_of_pieces([], []) == []


def test_special_tokens_part_stretches():
    assert words_of_pieces(["<2es>", "▁a", "b", "</s>", "<pad>"], [True, False, False, True, True]) == [
        ("<2es>", [0]),
        ("ab", [1, 2]),
        ("</s>", [3]),
        ("<pad>", [4]),
    ]


def test_half_a_surrogate_pair_becomes_readable():
    assert readable("a\ud800\udc00b") == "a\ufffd\ufffdb"
    assert readable("año") == "año"


@pytest.mark.parametrize(
    "text", [" " * 200_000, "\t " * 100_000, "\u0301" * 50_000, "👍\u200d" * 30_000, "a'" * 50_000]
)
def test_no_text_is_slow(text):
    begin = time.process_time()
    tidy = build_normalizer("nfc").normalize_str(text)
    build_splitter("bpe").pre_tokenize_str(tidy)
    group_pieces([tidy])
    assert time.process_time() - begin < 5
