"""What a person sees while a file is translated: a live bar on a terminal, now and then a line elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from trasluz.cli.progress import clock

if TYPE_CHECKING:
    from trasluz.tasks.file_translation import Progress
    from trasluz.text.parts import Part

_SECONDS_BETWEEN_LINES = 15.0


@dataclass
class Pace:
    """How fast this process translates, and how long its part will take."""

    begin: int
    end: int
    lines_before: int
    began: float = field(default_factory=lambda: time.monotonic())
    lines: int = 0
    position: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, start: "Progress", part: "Part") -> "Pace":
        """Return the pace of a process that starts here; what others did before it does not make it faster."""
        pace = cls(begin=start.position, end=part.end, lines_before=start.lines)
        pace.follow(start)
        return pace

    def follow(self, progress: "Progress") -> None:
        """Take note of how far the work has come."""
        self.lines, self.position = progress.lines, progress.position
        self.skipped = sum(progress.skipped.values())

    @property
    def share(self) -> float:
        """How much of what this process began with is done, by bytes."""
        return min(1.0, (self.position - self.begin) / max(1, self.end - self.begin))

    def __str__(self) -> str:
        """Say it in one line."""
        parts = [f"{self.lines:,} lines"]
        seconds = time.monotonic() - self.began
        if self.share and seconds:
            parts.append(f"{(self.lines - self.lines_before) / seconds:,.1f} sentences/s")
            parts.append(f"{clock(seconds * (1 - self.share) / self.share)} left")
        if self.skipped:
            parts.append(f"{self.skipped:,} skipped")
        return " · ".join(parts)


def watch(reports: Iterator["Progress"], part: "Part", name: str, *, console: Console | None) -> "Progress":
    """Work to the end, showing it on a console where one is given, and return the last report."""
    last = next(reports)
    pace = Pace.of(last, part)
    if console is not None and last.lines and pace.position < pace.end:
        _say(console, f"{name}: going on after {pace}")
    with _shown(console, name) as show:
        for last in reports:
            pace.follow(last)
            show(str(pace), pace.share)
    return last


@contextlib.contextmanager
def _shown(console: Console | None, name: str) -> Iterator[Callable[[str, float], None]]:
    """Give a function that shows a line of words and a share that is done."""
    if console is None:
        yield lambda words, share: None
    elif console.is_terminal:
        columns = (BarColumn(bar_width=24), TextColumn("{task.description}", markup=False))
        with Bar(*columns, console=console, transient=True, refresh_per_second=4) as bar:
            task = bar.add_task(name, total=1.0)
            yield lambda words, share: bar.update(task, completed=share, description=f"{name}: {words}")
    else:
        last = time.monotonic()

        def show(words: str, share: float) -> None:
            nonlocal last
            if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                _say(console, f"{name}: {words}")

        yield show


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
