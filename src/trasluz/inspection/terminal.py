"""Attention drawn as text: a grid under a staircase of source words, or a list of arrows where the grid is too wide.

           The
           │ lamp
           │ │ glows
        La ██· ·
   lámpara · ██·
    brilla · · ▓▓

Every label is measured in terminal cells, so wide characters and emoji keep the columns straight. Shades carry the
weight; colour only repeats it.
"""

import itertools
import os
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from rich.cells import cell_len

from trasluz.inspection.attention_map import AttentionMap
from trasluz.inspection.labels import cut, shown

Style = Literal["auto", "grid", "arrows"]

# A cell is as dark as the highest of these lower bounds that its weight reaches.
_LEVELS = (0.0, 0.05, 0.20, 0.45, 0.70)

_CELLS_PER_COLUMN = 2
_LONGEST_LABEL = 16
_MOST_BLOCKS = 2
_SMALLEST_WIDTH = 24
_ARROW_SHARE = 0.10
_MOST_ARROWS = 3

_AMBER = "38;5;172"
_DIM = "2"


@runtime_checkable
class Stream(Protocol):
    """A text file to write to, such as standard output."""

    @property
    def encoding(self) -> str: ...

    def isatty(self) -> bool: ...

    def write(self, text: str, /) -> int: ...


@dataclass(frozen=True)
class Marks:
    """The characters a drawing is made of."""

    shades: tuple[str, ...]
    stem: str
    arrow: str
    dot: str
    dash: str
    more: str


BLOCK_MARKS = Marks(("· ", "░░", "▒▒", "▓▓", "██"), "│", "←", "·", "–", "…")
PLAIN_MARKS = Marks((". ", "--", "++", "**", "##"), "|", "<-", "-", "-", "~")


@dataclass(frozen=True)
class Screen:
    """What the text is drawn on: its width in cells, whether it shows colour, the characters it can show."""

    width: int = 80
    colour: bool = False
    encoding: str = "utf-8"

    @classmethod
    def of(cls, stream: Stream) -> "Screen":
        """Describe the place a stream writes to; NO_COLOR, FORCE_COLOR and COLUMNS are honoured."""
        is_terminal = stream.isatty()
        colour = is_terminal and os.environ.get("TERM") != "dumb"
        if os.environ.get("FORCE_COLOR"):
            colour = True
        if os.environ.get("NO_COLOR"):
            colour = False
        width = shutil.get_terminal_size().columns if is_terminal or os.environ.get("COLUMNS") else 80
        return cls(width=width, colour=colour, encoding=stream.encoding or "utf-8")

    @property
    def marks(self) -> Marks:
        """The finest marks that can be written here."""
        try:
            "".join((*BLOCK_MARKS.shades, "│←·–…\u200e")).encode(self.encoding)
        except UnicodeEncodeError:
            return PLAIN_MARKS
        return BLOCK_MARKS

    def label(self, token: str) -> str:
        """Return a token as this screen can show it."""
        return shown(token).encode(self.encoding, errors="replace").decode(self.encoding)

    def painted(self, text: str, colour: str) -> str:
        """Return text in a colour, or as it is where there is none."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour and text else text


def draw(attention: AttentionMap, screen: Screen | None = None, style: Style = "auto") -> str:
    """Draw a map as text. `auto` is the grid, or the list of arrows where the grid would need more than two blocks."""
    screen = screen or Screen()
    blocks = _blocks(attention, screen)
    width = _width(screen)
    lines = [screen.painted(cut(attention.title.replace("·", screen.marks.dot), width, screen.marks.more), _DIM)]
    if style == "arrows":
        lines += _arrows(attention, screen)
    elif style == "grid" or len(blocks) <= _MOST_BLOCKS:
        lines += _grid(attention, screen, blocks)
    else:
        reason = f"As a list: {len(attention.source_tokens)} columns are too many for a grid here."
        lines += [*_arrows(attention, screen), screen.painted(cut(reason, width, screen.marks.more), _DIM)]
    return "\n".join(line.rstrip() for line in lines)


def show(attention: AttentionMap, stream: Stream | None = None, style: Style = "auto") -> None:
    """Draw a map on a stream (standard output by default), in colour where it is a terminal that has it."""
    stream = stream or sys.stdout
    stream.write(draw(attention, Screen.of(stream), style) + "\n")


def _width(screen: Screen) -> int:
    return max(screen.width, _SMALLEST_WIDTH)


def _labels(tokens: Sequence[str], screen: Screen) -> list[str]:
    longest = min(_LONGEST_LABEL, _width(screen) // 3)
    return [cut(screen.label(token), longest, screen.marks.more) for token in tokens]


def _safe(label: str) -> str:
    """Enclose a right-to-left label in marks of no width, so that it does not turn the rest of its line around."""
    if any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in label):
        return f"\u200e{label}\u200e"
    return label


def _margin(attention: AttentionMap, screen: Screen) -> int:
    return max(map(cell_len, _labels(attention.target_tokens, screen))) + 1


def _blocks(attention: AttentionMap, screen: Screen) -> list[range]:
    """Split the source so that each block of columns, and the labels over it, fit the width; evenly where it can be."""
    widths = [cell_len(label) for label in _labels(attention.source_tokens, screen)]
    room = _width(screen) - _margin(attention, screen)
    blocks = _filled(widths, room, most=len(widths))
    even = _filled(widths, room, most=-(-len(widths) // len(blocks)))
    return even if len(even) == len(blocks) else blocks


def _filled(widths: Sequence[int], room: int, most: int) -> list[range]:
    blocks = []
    start = 0
    for index, width in enumerate(widths):
        needed = _CELLS_PER_COLUMN * (index - start) + max(_CELLS_PER_COLUMN, width)
        if index > start and (needed > room or index - start == most):
            blocks.append(range(start, index))
            start = index
    return [*blocks, range(start, len(widths))]


def _grid(attention: AttentionMap, screen: Screen, blocks: Sequence[range]) -> list[str]:
    sources = _labels(attention.source_tokens, screen)
    targets = _labels(attention.target_tokens, screen)
    margin = _margin(attention, screen)
    lines = []
    for number, block in enumerate(blocks):
        if len(blocks) > 1:
            place = f"columns {block.start + 1}{screen.marks.dash}{block.stop} of {len(sources)}"
            lines += [""] * (number > 0) + [screen.painted(place, _DIM)]
        for step, index in enumerate(block):
            stems = screen.painted(f"{screen.marks.stem} " * step, _DIM)
            lines.append(" " * margin + stems + _safe(sources[index]))
        for row, target in enumerate(targets):
            blanks = " " * (margin - 1 - cell_len(target))
            cells = _cells(attention.weights[row, block.start : block.stop], screen)
            lines.append(f"{blanks}{_safe(target)} {cells}")
    return [*lines, *_legend(attention, screen)]


def _cells(weights: np.ndarray, screen: Screen) -> str:
    levels = (np.searchsorted(_LEVELS, weights, side="right") - 1).tolist()
    text = ""
    for lit, run in itertools.groupby(levels, key=bool):
        text += screen.painted("".join(screen.marks.shades[level] for level in run), _AMBER if lit else _DIM)
    return text


def _legend(attention: AttentionMap, screen: Screen) -> list[str]:
    marks, tokens = screen.marks, [*attention.source_tokens, *attention.target_tokens]
    bounds = [f"{100 * bound:.0f}" for bound in (*_LEVELS, 1.0)]
    parts = [f"{marks.shades[0].strip()} under {bounds[1]}%"]
    parts += [f"{marks.shades[i]} {bounds[i]}{marks.dash}{bounds[i + 1]}" for i in range(1, len(_LEVELS))]
    lines = ["  ".join(parts)]
    if _labels(tokens, screen) != [screen.label(token) for token in tokens]:
        lines.append(f"{marks.more} a longer word, cut to fit")
    return [screen.painted(cut(line, _width(screen), marks.more), _DIM) for line in lines]


def _arrows(attention: AttentionMap, screen: Screen) -> list[str]:
    sources = _labels(attention.source_tokens, screen)
    targets = _labels(attention.target_tokens, screen)
    margin = _margin(attention, screen)
    lines = []
    for target, row in zip(targets, attention.weights, strict=True):
        blanks = " " * (margin - 1 - cell_len(target))
        line = f"{blanks}{_safe(target)} {screen.marks.arrow}"
        used = margin + cell_len(screen.marks.arrow)
        seen = _strongest(row)
        for position, index in enumerate(seen):
            share = f"{100 * row[index]:.0f}%"
            used += cell_len(sources[index]) + len(share) + 2
            if position and used > _width(screen):
                break
            line += f" {screen.painted(_safe(sources[index]), _AMBER)} {screen.painted(share, _DIM)}"
        lines.append(line if seen else f"{line} {screen.painted('nothing', _DIM)}")
    return lines


def _strongest(row: np.ndarray) -> list[int]:
    """Return the source positions worth an arrow, strongest first: at least one, unless the row is all zeros."""
    order = np.argsort(-row, kind="stable")[:_MOST_ARROWS].tolist()
    return [index for rank, index in enumerate(order) if row[index] >= _ARROW_SHARE or (rank == 0 and row[index] > 0)]
