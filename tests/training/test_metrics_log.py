"""metrics.jsonl: windows, evaluations, and what a resume cuts away."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from trasluz.errors import WriteError
from trasluz.training.metrics_log import MetricsLog
from trasluz.training.reports import Chosen, Ended, Evaluated, Notice, Update


def update(step: int, loss: float = 1.0, tokens: int = 100, skipped: bool = False) -> Update:
    return Update(step, 0, loss, 1e-3, 0.5, tokens, step * 100, 0.1, 0.5, step * 0.5, None, skipped)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_updates_are_summed_up_and_the_rest_is_written_as_it_comes(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", every=3)
    for report in (
        update(1, 4.0, 300),
        update(2, math.nan, 100, skipped=True),
        update(3, 2.0, 100),
        update(4),
        Notice("nothing for the log"),
        Evaluated(4, {"loss": math.nan, "bleu": 12.5}, "bleu", True, 1.0),
        Chosen([4], {"bleu": 12.5}),
        Ended(4, "budget", "done", 2.0, 400, 1),
    ):
        log.write(report)
    first, second, evaluation, chosen, end = lines(tmp_path / "metrics.jsonl")
    assert (first["kind"], first["step"], first["updates"], first["skipped"]) == ("update", 3, 3, 1)
    assert first["loss"] == pytest.approx(3.5)
    assert first["tokens_per_second"] == pytest.approx(500 / 1.5, abs=0.1)
    assert (second["step"], second["updates"]) == (4, 1)
    assert evaluation["bleu"] == 12.5 and evaluation["loss"] is None
    assert chosen["steps"] == [4] and end["reason"] == "budget"


def test_a_resume_cuts_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, every=2)
    for step in range(1, 9):
        log.write(update(step))
    log.write(Ended(8, "interrupted", "stopped", 1.0, 800, 0))
    with path.open("a") as file:
        file.write('{"kind": "update", "st')
    again = MetricsLog(path, every=2)
    again.begin(4)
    assert [line["step"] for line in lines(path)] == [2, 4]
    again.write(update(5))
    again.write(update(6))
    assert [line["step"] for line in lines(path)] == [2, 4, 6]


def test_a_new_run_begins_with_an_empty_file(tmp_path: Path) -> None:
    MetricsLog(tmp_path / "run" / "metrics.jsonl", 5).begin(0)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(WriteError, match=r"cannot write .*metrics\.jsonl: Is a directory"):
        MetricsLog(tmp_path / "metrics.jsonl", 1).write(update(1))


def test_tensorboard_gets_the_same_numbers_and_forgets_what_was_done_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begin, losses in ((0, [4.0, 3.0, 9.0]), (2, [2.0])):
        log = MetricsLog(tmp_path / "metrics.jsonl", every=1)
        log.begin(begin)
        for number, loss in enumerate(losses, begin + 1):
            log.write(update(number, loss))
        log.write(Evaluated(begin + len(losses), {"bleu": 10.0 + begin, "loss": math.nan}, "bleu", True, 1.0))
        log.write(Ended(begin + len(losses), "budget", "done", 2.0, 400, 0))
    seen = EventAccumulator(str(tmp_path / "tensorboard"))
    seen.Reload()
    assert [(one.step, one.value) for one in seen.Scalars("training/loss")] == [(1, 4.0), (2, 3.0), (3, 2.0)]
    assert [(one.step, one.value) for one in seen.Scalars("validation/bleu")] == [(3, 12.0)]
    assert "validation/loss" not in seen.Tags()["scalars"]


def test_without_tensorboard_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trasluz.training.tensorboard_log.find_spec", lambda name: None)
    log = MetricsLog(tmp_path / "metrics.jsonl", every=1)
    log.begin(0)
    log.write(update(1))
    assert not (tmp_path / "tensorboard").exists()
