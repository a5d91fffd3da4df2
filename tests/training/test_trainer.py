"""The trainer on a stand-in model: exact gradients, budgets, choice of weights, guard, resuming to the bit."""

import itertools
import math
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from stand_in import Numbers, Predictor, Stream, Sum, evaluate, make_batch, objective
from torch import nn

from trasluz.checkpoints.weights import model_tensors
from trasluz.errors import TrainingError
from trasluz.training.checkpoint import CheckpointFolder
from trasluz.training.processes import ALONE, Processes
from trasluz.training.recipe import EvaluationSection, TrainingSection
from trasluz.training.reports import Chosen, Ended, Evaluated, Notice, Report, Saved, Update
from trasluz.training.trainer import Trainer


def make_trainer(
    folder: Path,
    *,
    stream=None,
    evaluate=evaluate,
    objective=objective,
    judge=None,
    dropout=0.1,
    keep=3,
    processes=ALONE,
    **options,
):
    torch.manual_seed(0)
    names = EvaluationSection.model_fields
    evaluation = {"metric": "loss", "every": "5 steps", "keep": keep, "patience": None}
    evaluation |= {name: options.pop(name) for name in list(options) if name in names}
    training = {"learning_rate": 0.01, "schedule": "constant", "warmup_steps": 0} | options
    return Trainer(
        Predictor(dropout),
        objective,
        stream or Stream(),
        evaluate,
        judge=judge,
        training=TrainingSection(**training),
        evaluation=EvaluationSection(**evaluation),
        checkpoints=CheckpointFolder(folder / "checkpoints"),
        device=torch.device("cpu"),
        precision="fp32",
        processes=processes,
    )


def of(kind: type, reports: list[Report]) -> list:
    return [report for report in reports if isinstance(report, kind)]


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model_tensors(trainer.model).items()}


def assert_same_bits(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_steps=150, learning_rate=0.03)
    reports = list(trainer.run())
    losses = [report.loss for report in of(Update, reports)]
    assert losses[0] > 2 and sum(losses[-5:]) / 5 < 0.8
    assert of(Ended, reports)[0].reason == "budget"
    assert evaluate(trainer.model.eval())["loss"] == of(Chosen, reports)[0].metrics["loss"]


def test_accumulated_gradients_are_those_of_the_joined_batch(tmp_path: Path) -> None:
    # Pieces with unequal numbers of tokens: a mean of means would differ.
    joined = [make_batch(10 * index + piece) for index in range(4) for piece in range(3)]

    @dataclass
    class Joined(Stream):
        def updates(self, epoch, start):
            for index in range(start, self.size):
                yield [Numbers(torch.cat([batch.ids for batch in joined[3 * index : 3 * index + 3]]))]

    pieces = make_trainer(tmp_path / "a", stream=Stream(4, pieces=3), dropout=0.0, max_steps=4)
    whole = make_trainer(tmp_path / "b", stream=Joined(4), dropout=0.0, max_steps=4)
    first, second = of(Update, list(pieces.run())), of(Update, list(whole.run()))
    for one, other in zip(first, second, strict=True):
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-5)
        assert one.loss == pytest.approx(other.loss, rel=1e-6)
        assert one.tokens == other.tokens
    for name, tensor in weights(pieces).items():
        torch.testing.assert_close(tensor, weights(whole)[name], atol=1e-5, rtol=0)


def test_the_gradient_is_clipped_after_the_division(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_steps=1, clip_norm=0.05, dropout=0.0)
    seen = []
    step = trainer.optimizer.step

    def spy() -> None:
        seen.extend(p.grad.clone() for p in trainer.model.parameters() if p.grad is not None)
        step()

    trainer.optimizer.step = spy  # type: ignore[method-assign]
    report = of(Update, list(trainer.run()))[0]
    assert report.gradient_norm > 0.05
    assert float(torch.nn.utils.get_total_norm(seen)) == pytest.approx(0.05, rel=1e-5)


@pytest.mark.parametrize(
    ("budget", "steps"),
    [({"max_steps": 7}, 7), ({"max_epochs": 2}, 20), ({"max_steps": 30, "max_epochs": 1}, 10), ({"max_tokens": 50}, 3)],
)
def test_the_first_budget_reached_ends(tmp_path: Path, budget: dict[str, int], steps: int) -> None:
    reports = list(make_trainer(tmp_path, **budget).run())
    ended = of(Ended, reports)[0]
    assert (ended.step, ended.reason) == (steps, "budget")
    if "max_tokens" in budget:
        assert ended.tokens >= 50 > ended.tokens - of(Update, reports)[-1].tokens


def test_a_rhythm_of_epochs(tmp_path: Path) -> None:
    reports = list(make_trainer(tmp_path, max_steps=25, stream=Stream(4), every="2 epochs").run())
    assert [report.step for report in of(Evaluated, reports)] == [8, 16, 24, 25]


def test_time_is_a_budget_that_survives_a_resume(tmp_path: Path) -> None:
    first = make_trainer(tmp_path, max_time="0.4s", evaluate=lambda model: {"loss": 1.0})
    assert list(first.run())[-1].reason == "budget"
    again = make_trainer(tmp_path, max_time="0.4s", evaluate=lambda model: {"loss": 1.0})
    again.resume()
    reports = list(again.run())
    assert not of(Update, reports) and reports[-1].reason == "budget"


def test_patience_ends_and_the_best_checkpoint_is_chosen(tmp_path: Path) -> None:
    scores = iter([3.0, 2.0, 2.5, 2.6, 2.7, 9.0])
    trainer = make_trainer(tmp_path, patience=3, keep=1, evaluate=lambda model: {"loss": next(scores)})
    reports = list(trainer.run())
    ended = reports[-1]
    assert (ended.step, ended.reason) == (25, "patience")
    assert "3 evaluations in a row" in ended.text
    assert of(Chosen, reports)[0].steps == [10]
    assert_same_bits(weights(trainer), trainer.checkpoints.read_model(10))
    assert trainer.checkpoints.steps() == [10, 25]
    assert [report.better for report in of(Evaluated, reports)] == [True, True, False, False, False]


@pytest.mark.parametrize("keep", [1, 3])
@pytest.mark.parametrize(("average", "steps"), [("last-3", [20, 25, 30]), ("best-2", [10, 20])])
def test_checkpoints_are_averaged(tmp_path: Path, average: str, steps: list[int], keep: int) -> None:
    # The seventh look is at the average, and it is the best.
    scores = iter([9.0, 1.0, 5.0, 2.0, 6.0, 7.0, 0.5])
    trainer = make_trainer(
        tmp_path, max_steps=30, average=average, keep=keep, evaluate=lambda model: {"loss": next(scores)}
    )
    chosen = of(Chosen, list(trainer.run()))[0]
    assert sorted(chosen.steps) == steps and chosen.metrics == {"loss": 0.5}
    saved = [trainer.checkpoints.read_model(step) for step in steps]
    for name, tensor in weights(trainer).items():
        torch.testing.assert_close(tensor, sum(one[name] for one in saved) / len(saved), atol=1e-6, rtol=0)


def test_an_average_asked_for_later_takes_the_checkpoints_there_are(tmp_path: Path) -> None:
    list(make_trainer(tmp_path, max_steps=30, average=None, keep=2).run())
    again = make_trainer(tmp_path, max_steps=35, average="last-5", keep=2)
    again.resume()
    reports = list(again.run())
    (notice,) = of(Notice, reports)
    assert notice.text == "evaluation.average is last-5; the checkpoints of updates 15, 20 were not kept."
    assert set(of(Chosen, reports)[0].steps) <= set(again.checkpoints.steps())


def test_an_average_that_is_worse_is_not_taken(tmp_path: Path) -> None:
    scores = iter([2.0, 1.0, 5.0, 8.0])
    trainer = make_trainer(tmp_path, max_steps=15, average="last-3", evaluate=lambda model: {"loss": next(scores)})
    assert of(Chosen, list(trainer.run()))[0] == Chosen([10], {"loss": 1.0})


@pytest.mark.parametrize(
    # The judge sees the three best, 10, 20 and 15, then the average of the last two.
    ("judged", "chosen"),
    [([4.0, 3.0, 5.0, 3.5], [20]), ([4.0, 3.0, 5.0, 2.0], [20, 25]), ([1.0, 3.0, 5.0, 1.0], [20, 25])],
)
def test_a_judge_has_the_last_word(tmp_path: Path, judged: list[float], chosen: list[int]) -> None:
    scores, verdicts = iter([9.0, 1.0, 3.0, 2.0, 6.0]), iter(judged)
    trainer = make_trainer(
        tmp_path,
        max_steps=25,
        average="last-2",
        keep=1,
        evaluate=lambda model: {"loss": next(scores)},
        judge=lambda model: {"loss": next(verdicts)},
    )
    last = of(Chosen, list(trainer.run()))[0]
    assert last == Chosen(chosen, {"loss": min(judged)})
    assert_same_bits(
        weights(trainer),
        trainer.checkpoints.read_model(chosen[0]) if len(chosen) == 1 else trainer.checkpoints.average(chosen),
    )


def test_a_bad_update_is_skipped_and_counted(tmp_path: Path) -> None:
    calls = iter(range(1000))

    def sometimes_nan(model: nn.Module, batch: Numbers) -> Sum:
        total, count = objective(model, batch)
        return Sum(total * math.nan if next(calls) % 3 == 1 else total, count)

    trainer = make_trainer(tmp_path, max_steps=10, objective=sometimes_nan)
    reports = list(trainer.run())
    assert [report.step for report in of(Update, reports) if report.skipped] == [2, 5, 8]
    assert reports[-1].skipped == 3
    assert all(bool(tensor.isfinite().all()) for tensor in weights(trainer).values())


def test_several_bad_updates_in_a_row_end_the_run_with_the_place(tmp_path: Path) -> None:
    def infinite_gradient(model: nn.Module, batch: Numbers) -> Sum:
        total, count = objective(model, batch)
        return Sum(total + (model.hidden.bias.sum() * 0).sqrt(), count)  # type: ignore[operator, union-attr]

    trainer = make_trainer(tmp_path, max_steps=10, objective=infinite_gradient, max_skipped=3)
    before = weights(trainer)
    with pytest.raises(
        TrainingError,
        match=r"the gradient's length is nan at update 3, learning rate 0\.01, after 2 such updates right before it; "
        r"its batch held numbers\.txt:13, .*Lower training\.learning_rate",
    ):
        list(trainer.run())
    assert_same_bits(before, weights(trainer))


@pytest.mark.parametrize("schedule", ["noam", "linear", "plateau"])
@pytest.mark.parametrize("stopped_at", [4, 5, 13, 20])
def test_stopped_and_resumed_is_equal_to_the_bit(tmp_path: Path, schedule: str, stopped_at: int) -> None:
    options = {"max_steps": 23, "schedule": schedule, "warmup_steps": 3, "average": "last-3", "stream": Stream(9, 2)}
    undisturbed = make_trainer(tmp_path / "a", **options)
    wanted = list(undisturbed.run())
    first = make_trainer(tmp_path / "b", **options)
    for report in (running := first.run()):
        if isinstance(report, Update) and report.step == stopped_at:
            os.kill(os.getpid(), signal.SIGTERM)
            *_, ended = running
            assert ended.reason == "interrupted"
    again = make_trainer(tmp_path / "b", **options)
    torch.manual_seed(12345)
    notices = again.resume()
    assert f"step-{stopped_at}" in notices[0].text
    got = list(again.run())
    assert_same_bits(weights(undisturbed), weights(again))
    assert of(Chosen, got) == of(Chosen, wanted)
    assert [r.loss for r in of(Update, got)] == [r.loss for r in of(Update, wanted)][stopped_at:]


def test_a_signal_that_comes_while_processes_agree_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(tmp_path, max_steps=20)
    agree = trainer.processes.sum

    def interrupted(values: Sequence[float]) -> list[float]:
        told = agree(values)
        if trainer.state.step == 4 and len(values) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return told

    monkeypatch.setattr(trainer.processes, "sum", interrupted)
    *_, ended = trainer.run()
    assert (ended.reason, ended.step) == ("interrupted", 5)


def test_the_time_in_a_checkpoint_is_the_one_agreed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path, max_steps=5)
    own = trainer.processes.sum

    def agreed(values: Sequence[float]) -> list[float]:
        # The first process's clock, which stands last, is a thousand seconds ahead.
        *others, seconds = own(values)
        return [*others, seconds + 1000.0]

    monkeypatch.setattr(trainer.processes, "sum", agreed)
    list(trainer.run())
    assert trainer.checkpoints.read_state(5).seconds > 1000.0


class Follower(Processes):
    """A process that is not the first, and is told by that one that another tenth of a second is over."""

    told = 0

    def __init__(self) -> None:
        super().__init__(rank=1)

    def sum(self, values: Sequence[float]) -> list[float]:
        *others, own_seconds = values
        assert own_seconds == 0.0
        self.told += 1
        return [*others, self.told / 10]


def test_processes_with_other_clocks_do_the_same_to_the_bit(tmp_path: Path) -> None:
    options = {"max_time": "15s", "save_every": "1s", "every": "1000 steps", "schedule": "linear"}
    seen = []
    for name in ("a", "b"):
        # Begun later, the second has another time on its own clock.
        running = make_trainer(tmp_path / name, processes=Follower(), **options).run()
        reports = list(itertools.takewhile(lambda report: not isinstance(report, Evaluated), running))
        updates = of(Update, reports)
        seen.append(
            ([(u.learning_rate, u.progress, u.total_seconds) for u in updates], [s.step for s in of(Saved, reports)])
        )
        assert all(update.progress == update.total_seconds / 15 for update in updates)
    assert seen[0] == seen[1]
    assert len(seen[0][0]) > 50 and len(seen[0][1]) > 5


def test_all_resume_from_the_checkpoint_that_the_first_one_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_trainer(tmp_path, max_steps=15)
    list(first.run())
    again = make_trainer(tmp_path, max_steps=15, processes=Follower())
    monkeypatch.setattr(again.processes, "agree", lambda value: [5, 10])
    again.resume()
    assert again.state.step == 10


def test_killed_without_a_word_it_resumes_from_the_last_checkpoint(tmp_path: Path) -> None:
    options = {"max_steps": 18, "average": "best-2"}
    undisturbed = make_trainer(tmp_path / "a", **options)
    list(undisturbed.run())
    running = make_trainer(tmp_path / "b", **options).run()
    next(report for report in running if isinstance(report, Update) and report.step == 13)
    running.close()
    # What a kill inside a save leaves behind.
    (tmp_path / "b" / "checkpoints" / ".step-15.xyz.part").mkdir()
    again = make_trainer(tmp_path / "b", **options)
    again.resume()
    assert again.state.step == 10
    list(again.run())
    assert_same_bits(weights(undisturbed), weights(again))
    assert not list((tmp_path / "b" / "checkpoints").glob(".step*"))


def test_a_stop_inside_an_evaluation_leaves_at_once_and_evaluates_after_resuming(tmp_path: Path) -> None:
    def interrupted(model: nn.Module) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the evaluation went on")

    first = make_trainer(tmp_path, max_steps=10, evaluate=interrupted)
    reports = list(first.run())
    assert reports[-1].reason == "interrupted" and of(Saved, reports)[-1].step == 5
    again = make_trainer(tmp_path, max_steps=10)
    again.resume()
    assert [report.step for report in of(Evaluated, list(again.run()))] == [5, 10]


def test_a_second_interrupt_leaves_at_once(tmp_path: Path) -> None:
    # A shell starts what runs in its background with SIGINT ignored, and then the tests too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        running = make_trainer(tmp_path, max_steps=10).run()
        next(running)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        running.close()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_checkpoint_between_evaluations_changes_nothing(tmp_path: Path) -> None:
    plain = make_trainer(tmp_path / "a", max_steps=20, average="last-2")
    list(plain.run())
    often = make_trainer(tmp_path / "b", max_steps=20, average="last-2", save_every="0.000001s")
    reports = list(often.run())
    assert len(of(Saved, reports)) > 20 - 4
    assert_same_bits(weights(plain), weights(often))
    assert often.checkpoints.steps() == plain.checkpoints.steps()


def test_resuming_with_other_threads_is_said(tmp_path: Path) -> None:
    list(make_trainer(tmp_path, max_steps=5).run())
    again = make_trainer(tmp_path, max_steps=5)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert "last bits" in again.resume()[1].text
    finally:
        torch.set_num_threads(threads)


def test_bf16_trains_near_fp32(tmp_path: Path) -> None:
    plain = of(Update, list(make_trainer(tmp_path / "a", max_steps=10, dropout=0.0).run()))
    trainer = make_trainer(tmp_path / "b", max_steps=10, dropout=0.0)
    trainer.bf16 = True
    half = of(Update, list(trainer.run()))
    assert half[-1].loss != plain[-1].loss
    assert half[-1].loss == pytest.approx(plain[-1].loss, rel=0.02)
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())
