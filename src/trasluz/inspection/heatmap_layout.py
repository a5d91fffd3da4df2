"""Where everything of an attention picture goes, in inches: labels are measured first, cells follow from them.

       ┌────────── over: column labels ───────────┐
beside │ matrix                 │ next panel      │ bar
       └ caption ───────────────┴─────────────────┘
notes
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties

from trasluz.inspection.attention_map import AttentionMap
from trasluz.inspection.label_fonts import LabelFonts
from trasluz.inspection.labels import cut, shown

LABEL_POINTS = 9.0
NOTE_POINTS = 8.0
MARGIN = 0.15
PAD = 0.06
BAR_WIDTH = 0.10

# From so many words on a side, weights are coloured so that faint ones are seen.
_LONG_FROM = 400
_LONGEST_LABEL = 28
_COMFORTABLE_CELL = 0.34
_COMFORTABLE_UP_TO = 24
_WIDEST_LEVEL_LABELS = 7.5
_LARGEST_SIDE = 40.0
_TALLEST_BAR = 1.2
_SIDES = {"cross": ("target", "source"), "encoder": ("source", "source"), "decoder": ("target", "target")}


class Ruler:
    """Measures texts in inches, in the fonts that they need."""

    def __init__(self, canvas: FigureCanvasAgg, texts: Sequence[str]) -> None:
        self._renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
        self._dpi = canvas.figure.dpi
        self._fonts = LabelFonts(texts)
        # Panels mostly have the same words, thousands of them in a long text.
        self._size = functools.cache(self._measure)
        self._drawable = functools.cache(self._fonts.drawable)

    def font(self, points: float) -> FontProperties:
        """Return the fonts at a size."""
        return FontProperties(family=self._fonts.families, size=points)

    def drawable(self, text: str) -> str:
        """Return text without characters that no font shows."""
        return self._drawable(text)

    def width(self, text: str, points: float) -> float:
        """Return how wide a text is drawn."""
        return self._size(text, points)[0] / self._dpi

    def height(self, text: str, points: float) -> float:
        """Return how high a text is set: its own rise and depth, at least those of an ordinary line."""
        sizes = [self._size(one, points) for one in (text, "lp")]
        rise = max(height - depth for _, height, depth in sizes)
        return (rise + max(depth for _, _, depth in sizes)) / self._dpi

    def _measure(self, text: str, points: float) -> tuple[float, float, float]:
        """Return width, height and depth in pixels."""
        width, height, depth = self._renderer.get_text_width_height_descent(text, self.font(points), ismath=False)
        return float(width), float(height), float(depth)


@dataclass(frozen=True)
class Panel:
    """One matrix with its labels as they are drawn; lengths in inches."""

    attention: AttentionMap
    columns: list[str]
    rows: list[str]
    caption: str
    cell_width: float
    cell_height: float
    column_step: int
    row_step: int
    level: bool
    over: float
    beside: float

    @property
    def width(self) -> float:
        """The matrix without its labels."""
        return self.cell_width * len(self.columns)

    @property
    def height(self) -> float:
        """The matrix without its labels."""
        return self.cell_height * len(self.rows)


@dataclass(frozen=True)
class PlacedPanel:
    """A panel with the place of its matrix, from the left and from the top, and which of its labels are drawn."""

    panel: Panel
    left: float
    top: float
    names_columns: bool
    names_rows: bool


@dataclass(frozen=True)
class Layout:
    """The whole picture."""

    width: float
    height: float
    panels: list[PlacedPanel]
    bar: tuple[float, float, float, float]
    notes: list[str]
    notes_top: float
    note_height: float


def is_long(maps: Sequence[AttentionMap]) -> bool:
    """Tell whether the words are so many somewhere that what most of them get would be too faint to see."""
    return max(max(one.weights.shape) for one in maps) >= _LONG_FROM


def lay_out(maps: Sequence[AttentionMap], ruler: Ruler) -> Layout:
    """Measure all labels and give every part its place."""
    num_columns = _num_columns(maps)
    num_rows = math.ceil(len(maps) / num_columns)
    captions = _captions(maps)
    limit = _LARGEST_SIDE / max(num_columns, num_rows)
    panels = [_panel(one, ruler, limit, len(maps) == 1, text) for one, text in zip(maps, captions, strict=True)]
    grid = [panels[start : start + num_columns] for start in range(0, len(panels), num_columns)]

    # Where all panels have the same words, only the outermost are labelled.
    shared = all(_tokens(one) == _tokens(maps[0]) for one in maps)
    line = ruler.height("", NOTE_POINTS)
    placed: list[PlacedPanel] = []
    top = MARGIN
    right = MARGIN
    for row_index, row in enumerate(grid):
        names_columns = row_index == 0 or not shared
        top += max(panel.over for panel in row) if names_columns else 0.0
        left = MARGIN
        for column_index, panel in enumerate(row):
            names_rows = column_index == 0 or not shared
            column = [other[column_index] for other in grid if column_index < len(other)]
            left += max(other.beside for other in column) if names_rows else 3 * PAD
            placed.append(PlacedPanel(panel, left, top, names_columns, names_rows))
            left += max(max(other.width, ruler.width(other.caption, NOTE_POINTS)) for other in column)
        right = max(right, left)
        top += max(panel.height for panel in row) + line + 4 * PAD

    notes = [ruler.drawable(note) for note in _notes(maps, panels)]
    # Its two labels need their room beside a matrix of one row, too.
    bar_height = max(2.2 * line, min(placed[0].panel.height, _TALLEST_BAR))
    bar = (right + 3 * PAD, placed[0].top, BAR_WIDTH, bar_height)
    top = max(top, placed[0].top + bar_height + 2 * PAD)
    note_height = max(ruler.height(note, NOTE_POINTS) for note in notes) * 1.3
    return Layout(
        width=max(
            bar[0] + BAR_WIDTH + PAD + ruler.width("0.05%", NOTE_POINTS) + MARGIN,
            max(ruler.width(note, NOTE_POINTS) for note in notes) + 2 * MARGIN,
        ),
        height=top + note_height * len(notes) + MARGIN,
        panels=placed,
        bar=bar,
        notes=notes,
        notes_top=top,
        note_height=note_height,
    )


def all_texts(maps: Sequence[AttentionMap]) -> list[str]:
    """Return every text that the picture may hold, to choose fonts that show them all."""
    tokens = {shown(token) for one in maps for token in (*one.source_tokens, *one.target_tokens)}
    return ["…·", *sorted(tokens), *sorted({shown(one.model) for one in maps})]


def _tokens(one: AttentionMap) -> tuple[list[str], list[str]]:
    return one.source_tokens, one.target_tokens


def _num_columns(maps: Sequence[AttentionMap]) -> int:
    layers = list(dict.fromkeys(one.layer for one in maps))
    heads = list(dict.fromkeys(one.head for one in maps))
    pairs = [(one.layer, one.head) for one in maps]
    if len(layers) > 1 and len(heads) > 1 and pairs == [(layer, head) for layer in layers for head in heads]:
        return len(heads)
    return len(maps) if len(maps) <= 4 else math.ceil(math.sqrt(len(maps)))


def _captions(maps: Sequence[AttentionMap]) -> list[str]:
    if len({one.kind for one in maps}) > 1 or len(maps) == 1:
        return [one.title for one in maps]
    return [one.title.partition(" · ")[2] for one in maps]


def _panel(one: AttentionMap, ruler: Ruler, limit: float, alone: bool, caption: str) -> Panel:
    columns = [ruler.drawable(cut(shown(token), _LONGEST_LABEL)) for token in one.source_tokens]
    rows = [ruler.drawable(cut(shown(token), _LONGEST_LABEL)) for token in one.target_tokens]
    line = max(ruler.height(label, LABEL_POINTS) for label in {*columns, *rows}) * 1.1
    widest = max(ruler.width(label, LABEL_POINTS) for label in set(columns))
    comfortable = alone and max(len(columns), len(rows)) <= _COMFORTABLE_UP_TO
    side = max(line, _COMFORTABLE_CELL) if comfortable else line
    # A side of few words keeps its cells where the other has too many for its own.
    width, height = (min(side, limit / len(labels)) for labels in (columns, rows))
    # Words side by side are easier to read than upright ones, as long as the picture stays narrow.
    level_width = max(width, widest + 2 * PAD)
    level = alone and level_width * len(columns) <= _WIDEST_LEVEL_LABELS
    return Panel(
        attention=one,
        columns=columns,
        rows=rows,
        caption=caption,
        cell_width=level_width if level else width,
        cell_height=height,
        column_step=math.ceil(line / width - 1e-9),
        row_step=math.ceil(line / height - 1e-9),
        level=level,
        over=(line if level else widest) + 2 * PAD,
        beside=max(ruler.width(label, LABEL_POINTS) for label in set(rows)) + 2 * PAD,
    )


def _notes(maps: Sequence[AttentionMap], panels: Sequence[Panel]) -> list[str]:
    kinds = list(dict.fromkeys(one.kind for one in maps))
    if len(kinds) == 1:
        row, column = _SIDES[kinds[0]]
        notes = [f"Each row: what one {row} word looks at. Columns: {column} words."]
    else:
        notes = ["Each row: what one word looks at."]
    if named := _sparsely_named(panels):
        notes.append(f"Too many words to name them all: {named} is named.")
    if is_long(maps):
        notes.append("Colours by the cube root of a weight; white: not looked at.")
    tokens = {shown(token) for one in maps for token in (*one.source_tokens, *one.target_tokens)}
    if any(cut(token, _LONGEST_LABEL) != token for token in tokens):
        notes.append("… a longer word, cut to fit.")
    models = [shown(model) for model in dict.fromkeys(one.model for one in maps) if model]
    return [*notes, f"Model: {cut(', '.join(models), 80)}"] if models else notes


def _sparsely_named(panels: Sequence[Panel]) -> str:
    """Return which words are named, such as "every 2nd column"; nothing where all are."""
    steps = {
        " column": max(panel.column_step for panel in panels),
        " row": max(panel.row_step for panel in panels),
    }
    if len(set(steps.values())) == 1:
        steps = {"": steps[" row"]}
    return " and ".join(f"every {_ordinal(step)}{side}" for side, step in steps.items() if step > 1)


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
