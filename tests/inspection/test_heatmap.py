"""Attention as a picture: labels never collide, any text can be a label, and files open."""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trasluz.errors import RequestError, WriteError
from trasluz.inspection.attention_file import save_maps
from trasluz.inspection.attention_map import AttentionMap

matplotlib = pytest.importorskip("matplotlib")

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.text import Text  # noqa: E402
from matplotlib.transforms import Bbox  # noqa: E402

from trasluz.inspection import heatmap, heatmap_layout  # noqa: E402
from trasluz.inspection.heatmap import draw_maps  # noqa: E402
from trasluz.inspection.label_fonts import LabelFonts  # noqa: E402

WORDS = "a paper lantern hangs over the quiet river and its unforgettable reflection trembles in the current .".split()
PALABRAS = "un farol de papel cuelga sobre el río callado y su inolvidable reflejo tiembla en la corriente .".split()
ODD = [
    "$x^2$",
    "\\frac{1}{2}",
    "",
    "\n",
    "提灯",
    "한국어",
    "نور",
    "אור",
    "🏮",
    "👩\u200d🔬",
    "y" * 90,
    "紙" * 40,
    "\U000e0fff",
    "_",
]


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def example(source: list[str], target: list[str], layer: int = 0, head: int = 0) -> AttentionMap:
    weights = np.random.default_rng(head).dirichlet([0.2] * len(source), size=len(target)).astype(np.float32)
    return AttentionMap(weights, source, target, kind="cross", layer=layer, head=head, model="modelo-1")


def sentence(words: list[str], length: int) -> list[str]:
    return [words[i % len(words)] for i in range(length - 1)] + ["</s>"]


def drawn(figure: Figure) -> list[tuple[Text, Bbox]]:
    """Every text that is really drawn, with the box that the renderer gives it."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = [one for one in figure.findobj(Text) if isinstance(one, Text) and one.get_visible() and one.get_text()]
    return [(one, one.get_window_extent(renderer)) for one in texts]


def drawn_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    return [(one.get_text(), box) for one, box in drawn(figure)]


def labels(figure: Figure) -> list[str]:
    return [
        tick.get_text()
        for axes in figure.axes[:-1]
        for tick in (*axes.get_xticklabels(), *axes.get_yticklabels())
        if tick.get_text()
    ]


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How many pixels deep each box of one list lies in each of another; boxes are left, bottom, right, top."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return (high - low).min(axis=2)


def assert_nothing_collides(figure: Figure) -> None:
    texts = drawn(figure)
    boxes = np.array([box.extents for _, box in texts])
    between = overlaps(boxes, boxes) * (1 - np.eye(len(boxes)))
    worst, other = np.unravel_index(between.argmax(), between.shape)
    assert between.max() <= 0, f"{texts[worst]} and {texts[other]} overlap"
    assert (boxes[:, :2] >= figure.bbox.p0).all() and (boxes[:, 2:] <= figure.bbox.p1).all(), "a text is cut"
    # All but the numbers in the cells: the names of words, captions, notes and what the bar is labelled with.
    numbers = {number for axes in figure.axes[:-1] for number in axes.texts}
    outside = np.array([box.extents for text, box in texts if text not in numbers])
    matrices = np.array([axes.get_window_extent().extents for axes in figure.axes])
    assert overlaps(outside, matrices).max() <= 0.5, "a text lies on a matrix or on the bar"


@pytest.mark.parametrize("length", [3, 5, 8, 12, 20, 40, 80])
def test_labels_of_a_sentence_never_collide(length: int) -> None:
    figure = draw_maps([example(sentence(WORDS, length), sentence(PALABRAS, length))])
    assert len(labels(figure)) == 2 * length
    assert_nothing_collides(figure)


@pytest.mark.parametrize(("num_source", "num_target"), [(1, 1), (1, 30), (30, 1), (40, 2), (15, 60)])
def test_labels_of_unequal_sides_never_collide(num_source: int, num_target: int) -> None:
    assert_nothing_collides(draw_maps([example(sentence(WORDS, num_source), sentence(PALABRAS, num_target))]))


@pytest.mark.parametrize("length", [len(ODD), 42])
def test_labels_of_any_text_never_collide_nor_complain(length: int) -> None:
    odd = [ODD[i % len(ODD)] for i in range(length)]
    figure = draw_maps([example(odd, odd[::-1])])
    assert len(labels(figure)) == 2 * length
    assert_nothing_collides(figure)
    assert "$x^2$" in labels(figure)
    assert any(text.startswith("… a longer word") for text, _ in drawn_texts(figure))


def test_an_ellipsis_of_the_text_is_no_sign_of_a_cut() -> None:
    figure = draw_maps([example(["wait…", "…"], ["espera…"])])
    assert not any("cut to fit" in text for text, _ in drawn_texts(figure))


@pytest.mark.parametrize("length", [3, 12, 40])
def test_heads_become_small_multiples_labelled_once(length: int) -> None:
    maps = [
        example(sentence(WORDS, length), sentence(PALABRAS, length), layer, head)
        for layer in range(2)
        for head in range(3)
    ]
    figure = draw_maps(maps)
    assert len(figure.axes) == 7
    assert len(labels(figure)) == length * 3 + length * 2
    shown = [text for text, _ in drawn_texts(figure)]
    assert {"layer 0 · head 2", "layer 1 · head 0"} <= set(shown)
    assert_nothing_collides(figure)


def test_maps_of_different_sentences_have_labels_of_their_own() -> None:
    maps = [example(sentence(WORDS, n), sentence(PALABRAS, n + 2), head=n) for n in (3, 9, 5, 12, 4)]
    figure = draw_maps(maps)
    assert len(labels(figure)) == sum(2 * n + 2 for n in (3, 9, 5, 12, 4))
    assert_nothing_collides(figure)


@pytest.mark.parametrize(
    ("num_source", "num_target", "num_named", "named"),
    [
        (60, 60, 30 + 30, "every 2nd"),
        (60, 20, 30 + 20, "every 2nd column"),
        (4, 60, 4 + 30, "every 2nd row"),
        (60, 90, 30 + 30, "every 2nd column and every 3rd row"),
    ],
)
def test_a_text_too_long_to_name_every_word_says_so(
    monkeypatch: pytest.MonkeyPatch, num_source: int, num_target: int, num_named: int, named: str
) -> None:
    monkeypatch.setattr(heatmap_layout, "_LARGEST_SIDE", 5.0)
    figure = draw_maps([example([f"word{i}" for i in range(num_source)], [f"palabra{i}" for i in range(num_target)])])
    assert_nothing_collides(figure)
    note = f"Too many words to name them all: {named} is named."
    assert note in [text for text, _ in drawn_texts(figure)]
    assert len(labels(figure)) == num_named


def test_the_scale_is_whole_unless_all_weights_are_small() -> None:
    def scale(largest: float) -> list[str]:
        weights = np.full((2, 2), largest, dtype=np.float32)
        figure = draw_maps([AttentionMap(weights, ["a", "b"], ["c", "d"])])
        return sorted(text for text, _ in drawn_texts(figure) if text.endswith("%"))

    assert scale(0.5) == ["0%", "100%"]
    assert scale(0.0) == ["0%", "100%"]
    assert scale(0.23) == ["0%", "30%"]
    assert scale(0.004) == ["0%", "0.4%"]


@pytest.mark.parametrize(
    ("ending", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PDF", b"%PDF")]
)
def test_files_open_as_what_they_say(tmp_path: Path, ending: str, start: bytes) -> None:
    path = tmp_path / "new" / f"alpha{ending}"
    example(["</svg><script>", *ODD[:8]], ODD[:6]).save(path)
    data = path.read_bytes()
    assert data.startswith(start)
    assert b"<script>" not in data


def saved(one: AttentionMap, path: Path) -> bytes:
    one.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_the_same_map_gives_the_same_bytes(tmp_path: Path, ending: str) -> None:
    one = example(["a", "提灯"], ["c"])
    assert saved(one, tmp_path / f"one{ending}") == saved(one, tmp_path / f"two{ending}")


def test_the_users_own_settings_change_nothing(tmp_path: Path) -> None:
    one = example(["a", "$b$"], ["c"])
    plain = saved(one, tmp_path / "plain.png")
    with matplotlib.rc_context({"axes.grid": True, "font.size": 30, "xtick.labelsize": 30, "savefig.bbox": "tight"}):
        assert saved(one, tmp_path / "changed.png") == plain


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    with pytest.raises(WriteError, match=r"cannot write .*alpha\.png"):
        save_maps([example(["a"], ["b"])], tmp_path / "file" / "alpha.png")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    monkeypatch.delitem(sys.modules, "trasluz.inspection.heatmap")
    with pytest.raises(RequestError, match=r'pictures need matplotlib.*pip install "trasluz\[plot\]"'):
        example(["a"], ["b"]).save(tmp_path / "alpha.png")
    assert list(tmp_path.iterdir()) == []


def test_letters_that_no_font_shows_become_boxes() -> None:
    fonts = LabelFonts(["luz", "\U000e0fff", "e\u0301", "❤\ufe0f"])
    assert fonts.drawable("luz") == "luz"
    assert fonts.drawable("a\U000e0fffb") == "a□b"
    assert fonts.drawable("e\u0301") == "e\u0301"
    assert fonts.drawable("❤\ufe0f").startswith("❤")
    assert fonts.drawable("\u200d") != ""


def test_a_long_text_shows_faint_weights_and_leaves_what_is_not_looked_at_white() -> None:
    words = sentence(WORDS, 500)
    weights = np.zeros((500, 500), np.float32)
    weights[:, :250] = 1 / 250
    figure = draw_maps([AttentionMap(weights, words, words, kind="encoder", layer=0, head=0)])
    colours = figure.axes[0].images[0].get_array()
    assert (colours[:, 250:, :3] == 255).all()
    assert (colours[:, :250, :3].min(-1) < 200).all()
    assert "cube root" in " ".join(text.get_text() for text in figure.texts)


@pytest.mark.parametrize("upright", [True, False])
def test_a_single_bright_line_is_seen_wherever_it_is(monkeypatch: pytest.MonkeyPatch, upright: bool) -> None:
    """Sixteen panels of fewer pixels than words, each with every sixteenth line bright, at another place."""
    monkeypatch.setattr(heatmap, "_MOST_PIXELS", 1500)
    words = ["a"] * 512
    maps = []
    for head in range(16):
        weights = np.full((512, 512), 1e-5, np.float32)
        weights[:, head::16] = 1.0
        maps.append(AttentionMap(weights if upright else weights.T, words, words, kind="encoder", head=head))
    figure = draw_maps(maps)
    figure.draw_without_rendering()
    figure.canvas.draw()
    seen = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int).sum(-1)  # type: ignore[attr-defined]
    for axes in figure.axes[:16]:
        left, bottom, right, top = axes.get_window_extent().extents
        assert right - left < 400
        assert axes.get_xlim() == (-0.5, 511.5) and axes.get_ylim() == (511.5, -0.5)
        across, down = int((left + right) / 2), len(seen) - int((bottom + top) / 2)
        line = seen[down, round(left) : round(right)] if upright else seen[-round(top) : -round(bottom), across]
        dark = line < 300
        assert dark[0] + (dark[1:] & ~dark[:-1]).sum() == 32
