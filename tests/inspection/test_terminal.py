"""Attention as text: columns that stay straight, widths kept, colour only where it is wanted."""

import io
import re

import numpy as np
import pytest
from rich.cells import cell_len

from trasluz.inspection.attention_map import AttentionMap
from trasluz.inspection.terminal import Screen, draw, show

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def diagonal(source: list[str], target: list[str], strength: float = 0.8) -> AttentionMap:
    weights = np.full((len(target), len(source)), (1 - strength) / max(1, len(source) - 1), dtype=np.float32)
    for row in range(len(target)):
        weights[row, row * len(source) // len(target)] = strength
    return AttentionMap(weights, source, target, kind="cross", layer=2, head=1)


SHORT = diagonal(["The", "lamp", "glows", "</s>"], ["La", "lámpara", "brilla", "</s>"])
WIDE = diagonal(
    ["提灯", "🏮", "👩\u200d🔬", "e\u0301t", "paper", "نور", "</s>"],
    ["紙を通して", "🇪🇸", "光る", "אור", ".", "é", "</s>"],
)
LONG = diagonal([f"word{i}" for i in range(60)], [f"palabra{i}" for i in range(50)])


def test_the_grid_is_this_drawing() -> None:
    assert SHORT.terminal(80) == "\n".join(
        [
            "cross attention · layer 2 · head 1",
            "        The",
            "        │ lamp",
            "        │ │ glows",
            "        │ │ │ </s>",
            "     La ██░░░░░░",
            "lámpara ░░██░░░░",
            " brilla ░░░░██░░",
            "   </s> ░░░░░░██",
            "· under 5%  ░░ 5–20  ▒▒ 20–45  ▓▓ 45–70  ██ 70–100",
        ]
    )


def test_arrows_name_the_strongest_sources() -> None:
    weights = np.array([[0.7, 0.25, 0.05], [0.2, 0.3, 0.5], [0, 0, 0], [0.02, 0.09, 0.01]], dtype=np.float32)
    one = AttentionMap(weights, ["a", "b", "c"], ["uno", "dos", "tres", "x"], layer=0, head="mean")
    assert draw(one, style="arrows").splitlines()[1:] == [
        " uno ← a 70% b 25%",
        " dos ← c 50% b 30% a 20%",
        "tres ← nothing",
        "   x ← b 9%",
    ]


def test_columns_are_straight_whatever_the_characters() -> None:
    lines = draw(WIDE, style="grid").splitlines()
    staircase, rows = lines[1:8], lines[8:15]
    margin = cell_len("紙を通して") + 1
    for step, line in enumerate(staircase):
        label = line.split("│ ")[-1].strip()
        assert cell_len(line) - cell_len(label) == margin + 2 * step
    for row, line in enumerate(rows):
        before = line[: line.index("██")]
        assert cell_len(before) == margin + 2 * row


def test_a_right_to_left_word_does_not_turn_its_line_around() -> None:
    lines = draw(WIDE, style="grid").splitlines()
    assert any("\u200eנ" in line or "\u200eא" in line for line in lines)
    assert any(line.endswith("\u200eنور\u200e") for line in lines)


@pytest.mark.parametrize("width", [24, 40, 80, 132])
@pytest.mark.parametrize("style", ["auto", "grid", "arrows"])
@pytest.mark.parametrize("colour", [False, True])
def test_no_line_is_wider_than_the_screen(width: int, style: str, colour: bool) -> None:
    giant = diagonal(["x" * 300, "紙" * 90, "b"], ["y" * 300, "🏮" * 80, "c"])
    for one in (SHORT, WIDE, LONG, giant):
        for line in draw(one, Screen(width=width, colour=colour), style).splitlines():  # type: ignore[arg-type]
            assert cell_len(ESCAPE.sub("", line)) <= width


def test_long_sentences_are_split_into_blocks_that_hold_every_word() -> None:
    text = draw(LONG, Screen(width=80), "grid")
    places = re.findall(r"columns (\d+)–(\d+) of 60", text)
    assert [int(first) for first, _ in places] == [1, *(int(last) + 1 for _, last in places[:-1])]
    assert places[-1][1] == "60"
    for token in LONG.source_tokens:
        assert re.search(rf"(│ | ){token}$", text, re.MULTILINE)


def test_what_is_too_wide_for_a_grid_becomes_a_list_and_says_so() -> None:
    text = LONG.terminal(60)
    assert "As a list: 60 columns are too many for a grid here." in text
    assert "palabra49 ← word58" in text
    assert "█" not in text


def test_cut_words_are_explained() -> None:
    text = draw(diagonal(["extraordinarily-long-word", "b"], ["a", "b"]))
    assert "extraordinarily…" in text
    assert "… a longer word, cut to fit" in text
    assert "cut to fit" not in draw(SHORT)
    # What a text itself says is no sign of a cut.
    assert "cut to fit" not in draw(diagonal(["wait…", "b"], ["…", "b"]))
    plain = Screen(encoding="ascii")
    assert "cut to fit" not in draw(diagonal(["home~", "b"], ["a", "~"]), plain)
    assert "~ a longer word, cut to fit" in draw(diagonal(["extraordinarily-long-word", "b"], ["a", "b"]), plain)


def test_colour_changes_nothing_but_colour() -> None:
    for one in (SHORT, WIDE, LONG):
        assert ESCAPE.sub("", draw(one, Screen(colour=True))).replace(" ", "") == draw(one).replace(" ", "")
        assert "\x1b" in draw(one, Screen(colour=True))
        assert "\x1b" not in draw(one)


def test_a_terminal_without_blocks_gets_plain_characters() -> None:
    for style in ("grid", "arrows"):
        for one in (SHORT, WIDE, LONG):
            draw(one, Screen(encoding="ascii"), style).encode("ascii")  # type: ignore[arg-type]
    assert "     La ##------" in draw(SHORT, Screen(encoding="ascii"))
    assert "l?mpara" in draw(SHORT, Screen(encoding="ascii"))
    assert "lámpara --##----" in draw(SHORT, Screen(encoding="latin-1"))


def test_tokens_cannot_steer_the_terminal() -> None:
    text = draw(diagonal(["\x1b[2J", "a\rb", "\x07"], ["x\ny", "\x9b0m", "\x00"]))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert "␛[2J" in text


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def test_the_screen_is_read_from_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert Screen.of(io.StringIO()) == Screen(width=80, colour=False, encoding="utf-8")
    assert Screen.of(Terminal()).colour
    monkeypatch.setenv("COLUMNS", "132")
    assert Screen.of(Terminal()).width == 132
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Screen.of(Terminal()).colour
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not Screen.of(Terminal()).colour
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert Screen.of(io.StringIO()).colour


def test_show_writes_to_the_stream(capsys: pytest.CaptureFixture[str]) -> None:
    show(SHORT)
    assert capsys.readouterr().out == draw(SHORT) + "\n"
    assert str(SHORT) == draw(SHORT)
