"""A training run as people see it: on a terminal, in a log file, and with --quiet."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from trasluz.cli.progress import Pace, clock, sentence, watch
from trasluz.training.reports import Chosen, Ended, Evaluated, Notice, Report, Saved, Update


def update(
    step: int, *, loss: float = 2.0, tokens: int = 300, progress: float | None = None, skipped: bool = False
) -> Update:
    return Update(
        step=step,
        epoch=0,
        loss=loss,
        learning_rate=1e-3,
        gradient_norm=1.0,
        tokens=tokens,
        total_tokens=tokens * step,
        padding=0.1,
        seconds=0.5,
        total_seconds=0.5 * step,
        progress=progress,
        skipped=skipped,
    )


def a_run() -> Iterator[Report]:
    yield Notice("29 pairs were left out.")
    for step in range(1, 5):
        yield update(step, progress=step / 8)
    yield Evaluated(4, {"bleu": 12.345, "loss": 2.5}, "bleu", True, 1.0)
    yield Saved(4, "run/checkpoints/step-4")
    yield Chosen([2, 4], {"bleu": 13.0})
    yield Ended(4, "budget", "training.max_steps, 4, is reached", 3.0, 1200, 0)


def test_the_pace_is_that_of_the_last_updates() -> None:
    pace = Pace()
    pace.add(update(1, loss=4.0, tokens=100, progress=0.25))
    pace.add(update(2, loss=1.0, tokens=300, progress=0.5))
    assert pace.loss == pytest.approx((4.0 * 100 + 1.0 * 300) / 400)
    assert pace.tokens_per_second == 400
    assert pace.seconds_left == pytest.approx(1.0)
    assert str(pace) == "update 2 · epoch 1 · loss 1.750 · 400 tokens/s · 10% padding · 0:01 left"


def test_a_skipped_update_does_not_spoil_the_loss_shown() -> None:
    pace = Pace()
    pace.add(update(1, loss=3.0))
    pace.add(update(2, loss=float("nan"), skipped=True))
    assert pace.loss == 3.0


def test_without_a_budget_no_time_left_is_claimed() -> None:
    pace = Pace()
    pace.add(update(1))
    assert "left" not in str(pace)


def test_hours_minutes_seconds() -> None:
    assert [clock(seconds) for seconds in (0.4, 61.0, 3600.0)] == ["0:00", "1:01", "1:00:00"]


@pytest.mark.parametrize("on_terminal", [False, True])
def test_what_is_worth_a_line_is_told_once(on_terminal: bool) -> None:
    shown = io.StringIO()
    ended = watch(a_run(), console=Console(file=shown, force_terminal=on_terminal, width=120))
    assert isinstance(ended, Ended)
    for line in (
        "29 pairs were left out.",
        "update 4: bleu 12.35, loss 2.50  best so far",
        "chosen weights: the mean of updates 2, 4 (bleu 13.00)",
        "training.max_steps, 4, is reached: 4 updates, 1,200 tokens, 0:03",
    ):
        assert shown.getvalue().count(line) == 1


def test_quiet_shows_nothing() -> None:
    shown = io.StringIO()
    assert watch(a_run(), quiet=True, console=Console(file=shown, force_terminal=True)) is not None
    assert shown.getvalue() == ""


def test_what_is_no_news_has_no_sentence() -> None:
    assert sentence(update(1)) is None
    assert sentence(Saved(1, "somewhere")) is None
    assert sentence(Chosen([3], {"loss": 1.0})) == "chosen weights: update 3 (loss 1.00)"
    assert (
        sentence(Ended(3, "patience", "no better", 61.0, 5, 2))
        == "no better: 3 updates, 5 tokens, 1:01, 2 updates skipped"
    )
