"""What is seen while a file is translated: on a terminal, in a log file, and where nobody looks."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from trasluz.cli import file_progress
from trasluz.cli.file_progress import Pace, watch
from trasluz.tasks.file_translation import Progress
from trasluz.text.parts import Part

PART = Part("text.en", size=2000, begin=1000, end=2000, number=2, count=2)


def reports(first: Progress) -> Iterator[Progress]:
    """Grow one report, as a translation does."""
    yield first
    for _ in range(2):
        first.lines += 50
        first.position += 250
        first.skipped = {"NUL character": first.skipped.get("NUL character", 0) + 1}
        yield first


@pytest.fixture
def clockwork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock takes ten seconds."""
    seconds = iter(range(0, 10_000, 10))
    monkeypatch.setattr(file_progress.time, "monotonic", lambda: float(next(seconds)))


@pytest.mark.usefixtures("clockwork")
def test_the_pace_is_that_of_this_process() -> None:
    pace = Pace.of(Progress(lines=100, position=1500), PART)
    assert str(pace) == "100 lines"
    pace.follow(Progress(lines=150, position=1750, skipped={"NUL character": 2, "invalid UTF-8": 1}))
    assert pace.share == 0.5
    assert str(pace) == "150 lines · 2.5 sentences/s · 0:20 left · 3 skipped"
    pace.follow(Progress(lines=160, position=2010))
    assert pace.share == 1.0


def test_the_pace_of_an_empty_part() -> None:
    assert str(Pace.of(Progress(), Part("text.en", 0, 0, 0))) == "0 lines"


@pytest.mark.usefixtures("clockwork")
@pytest.mark.parametrize("on_terminal", [False, True])
def test_progress_is_shown(on_terminal: bool) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=on_terminal, width=120)
    last = watch(reports(Progress(lines=100, position=1500)), PART, "text.es.2-of-2", console=console)
    assert last.lines == 200
    assert "text.es.2-of-2: " in shown.getvalue()
    if not on_terminal:
        first, *_, end = shown.getvalue().splitlines()
        assert first == "text.es.2-of-2: going on after 100 lines"
        assert "sentences/s" in end and "left" in end and "skipped" in end


def test_nothing_is_shown_where_nobody_looks() -> None:
    assert watch(reports(Progress()), PART, "text.es", console=None).lines == 100
