"""Attention as a picture: one matrix, or several heads as small multiples, with labels that never collide.

The picture grows with its sentence. Only where it would grow beyond what can be looked at, words are named sparsely,
and a note says so. Importing this file needs matplotlib.
"""

import math
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from jaxtyping import Float

from trasluz.errors import RequestError
from trasluz.inspection.attention_map import AttentionMap

try:
    import matplotlib.style
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm
    from matplotlib.figure import Figure

    from trasluz.inspection.heatmap_layout import (
        LABEL_POINTS,
        MARGIN,
        NOTE_POINTS,
        PAD,
        Layout,
        PlacedPanel,
        Ruler,
        all_texts,
        is_long,
        lay_out,
    )
except ImportError as error:
    raise RequestError('pictures need matplotlib, which is not installed: pip install "trasluz[plot]".') from error

# From paper to ink through amber; lightness falls steadily, so it reads the same in grey.
LIGHT = LinearSegmentedColormap.from_list("trasluz", ["#fbf7ee", "#f6dfae", "#e9a94a", "#b3621b", "#6b2f12", "#2a120a"])
_INK = "#2b2622"
_SOFT_INK = "#756b61"
_PAPER = "#ffffff"

_DPI = 200
_MOST_PIXELS = 6000
_NUMBER_POINTS = 6.5
# Numbers inside the cells of one small matrix: more of them would be read by nobody.
_NUMBERS_UP_TO = 16
_SMALLEST_NUMBER = 0.05
# Up to here each cell is its own rectangle with a thin gap; beyond, one image.
_CELLS_UP_TO = 100


def draw_maps(maps: Sequence[AttentionMap]) -> Figure:
    """Draw maps as one figure; layers become rows and heads columns where every pair of them is there."""
    with matplotlib.style.context("default"):
        figure = Figure(dpi=_DPI, facecolor=_PAPER)
        canvas = FigureCanvasAgg(figure)
        ruler = Ruler(canvas, all_texts(maps))
        layout = lay_out(maps, ruler)
        figure.set_size_inches(layout.width, layout.height)
        figure.set_dpi(min(_DPI, _MOST_PIXELS / max(layout.width, layout.height)))
        scale = _scale(maps)
        for placed in layout.panels:
            _draw_panel(figure, layout, placed, ruler, scale, numbers=len(maps) == 1)
        _draw_bar(_axes(figure, layout, *layout.bar), ruler, scale)
        for number, note in enumerate(layout.notes):
            _write(figure, layout, ruler, note, MARGIN, layout.notes_top + number * layout.note_height, _SOFT_INK)
        return figure


def save_figure(figure: Figure, file: IO[Any], form: str) -> None:
    """Write a figure as png, svg or pdf; the same figure gives the same bytes."""
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Software": "trasluz"},
        "svg": {"Date": None, "Creator": "trasluz"},
        "pdf": {"CreationDate": None, "Creator": "trasluz"},
    }
    # Half of the time for a long text's picture would go into the last tenth of its bytes.
    settings: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if form == "png" else {}
    with matplotlib.style.context(["default", {"svg.hashsalt": "trasluz"}]):
        figure.savefig(file, format=form, dpi=figure.dpi, metadata=metadata[form], **settings)


def _top_weight(maps: Sequence[AttentionMap]) -> float:
    """Return the weight drawn darkest: 1, or where all are small, their largest rounded up to one digit."""
    largest = max(float(one.weights.max()) for one in maps)
    if largest >= 0.5 or largest == 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(largest))
    # float32 weights are a little off the decimals they stand for.
    return math.ceil(largest / unit - 1e-4) * unit


def _scale(maps: Sequence[AttentionMap]) -> Normalize:
    """Return how dark a weight is: as it is, or by its cube root where so many words share that all are faint."""
    return PowerNorm(1 / 3, 0.0, _top_weight(maps)) if is_long(maps) else Normalize(0.0, _top_weight(maps))


def _axes(figure: Figure, layout: Layout, left: float, top: float, width: float, height: float) -> Axes:
    return figure.add_axes(
        (
            left / layout.width,
            1 - (top + height) / layout.height,
            width / layout.width,
            height / layout.height,
        )
    )


def _write(figure: Figure, layout: Layout, ruler: Ruler, text: str, left: float, top: float, colour: str) -> None:
    figure.text(
        left / layout.width,
        1 - top / layout.height,
        text,
        va="top",
        color=colour,
        fontproperties=ruler.font(NOTE_POINTS),
        parse_math=False,
    )


def _draw_panel(
    figure: Figure, layout: Layout, placed: PlacedPanel, ruler: Ruler, scale: Normalize, *, numbers: bool
) -> None:
    panel = placed.panel
    weights = panel.attention.weights
    num_rows, num_columns = weights.shape
    axes = _axes(figure, layout, placed.left, placed.top, panel.width, panel.height)
    if max(weights.shape) <= _CELLS_UP_TO:
        edges = np.arange(num_columns + 1) - 0.5, np.arange(num_rows + 1) - 0.5
        axes.pcolormesh(*edges, weights, cmap=LIGHT, norm=scale, edgecolors=_PAPER, linewidth=0.5)
    else:
        # One fewer: the edges of a panel lie between pixels.
        pooled = _pooled(weights, int(panel.height * figure.dpi) - 1, int(panel.width * figure.dpi) - 1)
        colours = LIGHT(scale(pooled), bytes=True)
        if isinstance(scale, PowerNorm):
            # What is not looked at at all, as in block-sparse attention, is told from what gets little.
            colours[pooled == 0] = 255
        extent = (-0.5, num_columns - 0.5, num_rows - 0.5, -0.5)
        axes.imshow(colours, aspect="auto", interpolation="nearest", extent=extent)
    axes.set_xlim(-0.5, num_columns - 0.5)
    axes.set_ylim(num_rows - 0.5, -0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(
        length=0, pad=PAD * 72 / 2, labelcolor=_INK, top=True, labeltop=True, bottom=False, labelbottom=False
    )
    font = ruler.font(LABEL_POINTS)
    axes.set_xticks(
        range(0, num_columns, panel.column_step) if placed.names_columns else [],
        panel.columns[:: panel.column_step] if placed.names_columns else [],
        rotation=0 if panel.level else 90,
        fontproperties=font,
        parse_math=False,
    )
    axes.set_yticks(
        range(0, num_rows, panel.row_step) if placed.names_rows else [],
        panel.rows[:: panel.row_step] if placed.names_rows else [],
        fontproperties=font,
        parse_math=False,
    )
    if numbers and max(weights.shape) <= _NUMBERS_UP_TO:
        for row, column in np.argwhere(weights >= _SMALLEST_NUMBER).tolist():
            weight = float(weights[row, column])
            axes.text(
                column,
                row,
                f"{100 * weight:.0f}",
                ha="center",
                va="center_baseline",
                color=_PAPER if scale(weight) > 0.45 else _INK,
                fontproperties=ruler.font(_NUMBER_POINTS),
            )
    _write(figure, layout, ruler, panel.caption, placed.left, placed.top + panel.height + 1.5 * PAD, _INK)


def _pooled(weights: Float[np.ndarray, "query key"], num_rows: int, num_columns: int) -> Float[np.ndarray, "_ _"]:
    """Return the largest weights of at most so many parts on a side: a pixel for several words hides none of them."""
    for axis, number in enumerate((num_rows, num_columns)):
        length = weights.shape[axis]
        if length > number >= 1:
            starts = np.arange(number) * length // number
            weights = np.maximum.reduceat(weights, starts, axis=axis)
    return weights


def _draw_bar(axes: Axes, ruler: Ruler, scale: Normalize) -> None:
    top = float(scale.vmax or 1.0)
    axes.imshow(LIGHT(scale(np.linspace(top, 0, 256)[:, None])), aspect="auto", extent=(0, 1, 0, top))
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.tick_params(length=0, pad=PAD * 72 / 2, labelcolor=_SOFT_INK)
    for position, anchor in ((0.0, "bottom"), (top, "top")):
        axes.text(
            1.6,
            position,
            f"{100 * position:.3g}%",
            va=anchor,
            color=_SOFT_INK,
            fontproperties=ruler.font(NOTE_POINTS),
        )
    axes.set_yticks([])
