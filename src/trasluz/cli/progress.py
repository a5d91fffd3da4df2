"""What a person sees of a training run: a live bar on a terminal, now and then a line elsewhere, on standard error."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from trasluz.training.reports import Chosen, Ended, Evaluated, Notice, Report, Update

# Figures shown are those of the last updates, so that they follow the run without jumping about.
_WINDOW = 50
_SECONDS_BETWEEN_LINES = 15.0


@dataclass
class Pace:
    """Loss, speed and padding over the last updates, and how long the rest will take."""

    updates: deque[Update] = field(default_factory=lambda: deque(maxlen=_WINDOW))

    def add(self, update: Update) -> None:
        self.updates.append(update)

    @property
    def loss(self) -> float:
        counted = [update for update in self.updates if not update.skipped] or list(self.updates)
        return sum(update.loss * update.tokens for update in counted) / sum(update.tokens for update in counted)

    @property
    def tokens_per_second(self) -> float:
        return sum(update.tokens for update in self.updates) / sum(update.seconds for update in self.updates)

    @property
    def padding(self) -> float:
        return sum(update.padding for update in self.updates) / len(self.updates)

    @property
    def seconds_left(self) -> float | None:
        last = self.updates[-1]
        if not last.progress:
            return None
        return last.total_seconds * (1 - last.progress) / last.progress

    def __str__(self) -> str:
        """Say where the run stands in one line."""
        last = self.updates[-1]
        parts = [
            f"update {last.step:,}",
            f"epoch {last.epoch + 1}",
            f"loss {self.loss:.3f}",
            f"{self.tokens_per_second:,.0f} tokens/s",
            f"{self.padding:.0%} padding",
        ]
        if (left := self.seconds_left) is not None:
            parts.append(f"{clock(left)} left")
        return " · ".join(parts)


def clock(seconds: float) -> str:
    """Return seconds as 1:02:03, or 2:03 below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def watch(reports: Iterable[Report], *, quiet: bool = False, console: Console | None = None) -> Ended | None:
    """Run to the end of the reports, showing them, and return the last one."""
    console = console or Console(stderr=True)
    if quiet:
        shown = iter(reports)
    elif console.is_terminal:
        shown = _with_bar(reports, console)
    else:
        shown = _with_lines(reports, console)
    ended = None
    for report in shown:
        if isinstance(report, Ended):
            ended = report
    return ended


def sentence(report: Report) -> str | None:
    """Return the line that a report is worth, None for those that only the bar shows."""
    match report:
        case Notice():
            return report.text
        case Evaluated():
            figures = ", ".join(f"{name} {value:.2f}" for name, value in report.metrics.items())
            best = "  best so far" if report.better else ""
            return f"update {report.step:,}: {figures}{best}"
        case Chosen():
            figures = ", ".join(f"{name} {value:.2f}" for name, value in report.metrics.items())
            steps = ", ".join(f"{step:,}" for step in report.steps)
            which = f"the mean of updates {steps}" if len(report.steps) > 1 else f"update {steps}"
            return f"chosen weights: {which} ({figures})"
        case Ended():
            skipped = f", {report.skipped} updates skipped" if report.skipped else ""
            return f"{report.text}: {report.step:,} updates, {report.tokens:,} tokens, {clock(report.seconds)}{skipped}"
        case _:
            return None


class _Known(ProgressColumn):
    """The bar's own column, drawn only where the end is known."""

    def __init__(self) -> None:
        self.bar = BarColumn(bar_width=24)
        super().__init__()

    def render(self, task: Task) -> RenderableType:
        return self.bar.render(task) if task.total else Text("")


def _with_bar(reports: Iterable[Report], console: Console) -> Iterator[Report]:
    pace = Pace()
    columns = (_Known(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as progress:
        bar = progress.add_task("reading", total=None)
        for report in reports:
            if isinstance(report, Update):
                pace.add(report)
                total = None if report.progress is None else 1.0
                progress.update(bar, total=total, completed=report.progress or 0.0, description=str(pace))
            elif line := sentence(report):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            yield report


def _with_lines(reports: Iterable[Report], console: Console) -> Iterator[Report]:
    pace = Pace()
    last = time.monotonic()
    for report in reports:
        line = sentence(report)
        if isinstance(report, Update):
            pace.add(report)
            if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
                line = str(pace)
        if line:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            last = time.monotonic()
        yield report
