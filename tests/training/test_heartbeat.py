"""Processes that are killed or frozen, wherever they are, end the others with their name; slow ones do not."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_run import run, small_recipe, started

from trasluz.errors import TrasluzError
from trasluz.training import heartbeat
from trasluz.training.checkpoint import CheckpointFolder
from trasluz.training.evaluation import TranslationEvaluator
from trasluz.training.processes import joined

SILENCE = 5.0
# Long after it, and long before the minutes and days that exchanges are given.
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SILENCE", SILENCE)


def start(size: int, work: Callable[[int], object], folder: Path) -> list[int]:
    """Start some work in processes; what each of them says is kept in a file."""

    def aloud(rank: int) -> None:
        os.dup2(os.open(folder / f"said-{rank}", os.O_CREAT | os.O_WRONLY), 2)
        try:
            work(rank)
        except TrasluzError as error:
            os.write(2, f"trasluz: {error}\n".encode())
            os._exit(error.exit_code)

    return started(size, aloud)


def end_of(child: int) -> int:
    """Return the exit status of a process that must end soon."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("a process waited for one that is gone")


def ended_by(loss: int, lost: int, work: Callable[[int], object], folder: Path) -> str:
    """Return what the other of two processes says when one is killed or frozen by its work."""
    children = start(2, work, folder)
    try:
        assert end_of(children[1 - lost]) == 1
    finally:
        os.kill(children[lost], signal.SIGKILL)
        _, status = os.waitpid(children[lost], 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    said = (folder / f"said-{1 - lost}").read_text()
    assert f"process {lost} of 2" in said and "start them all again with --resume" in said
    assert ("no sign of life" in said) == (loss == signal.SIGSTOP)
    return said


@pytest.mark.parametrize("loss", [signal.SIGSTOP, signal.SIGKILL])
@pytest.mark.parametrize(("owner", "name"), [(TranslationEvaluator, "__call__"), (CheckpointFolder, "save")])
def test_a_process_lost_while_evaluating_or_saving_ends_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: int, owner: type, name: str
) -> None:
    recipe = small_recipe(tmp_path, "training.parallel=ddp", "training.max_steps=1000000", "evaluation.every=3 steps")
    done = getattr(owner, name)

    def work(rank: int) -> None:
        calls = 0

        def lost_in_the_second(*arguments: object, **keywords: object) -> object:
            nonlocal calls
            calls += 1
            if rank == 1 and calls == 2:
                os.kill(os.getpid(), loss)
            return done(*arguments, **keywords)

        monkeypatch.setattr(owner, name, lost_in_the_second)
        run(recipe)

    ended_by(loss, 1, work, tmp_path)
    assert CheckpointFolder(tmp_path / "run" / "checkpoints").steps() == [3]


@pytest.mark.parametrize("lost", [0, 1])
def test_who_is_frozen_ends_another_that_waits_for_nobody(tmp_path: Path, lost: int) -> None:
    def work(rank: int) -> None:
        with joined("ddp", "cpu") as processes:
            processes.wait()
            if rank == lost:
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(10 * PATIENCE)

    said = ended_by(signal.SIGSTOP, lost, work, tmp_path)
    # The first one holds the place in which they count, and no count is heard without it.
    assert ("or the torchrun that started it" in said) == (lost == 0)
    assert f"for 5s; process {1 - lost} stops too" in said


def test_slow_ones_and_a_job_suspended_as_a_whole_go_on(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        with joined("ddp", "cpu") as processes:
            processes.wait()
            (tmp_path / f"there-{rank}").touch()
            end = time.monotonic() + 2.5 * SILENCE
            # Some of it in one call, some in many small ones.
            processes.first_does(lambda: time.sleep(1.2 * SILENCE))
            while rank == 1 and time.monotonic() < end:
                sum(range(1000))
            assert processes.sum([1.0]) == [2.0]

    children = start(2, work, tmp_path)
    while not all((tmp_path / f"there-{rank}").exists() for rank in range(2)):
        time.sleep(0.05)
    for child in children:
        os.kill(child, signal.SIGSTOP)
    time.sleep(1.2 * SILENCE)
    for child in children:
        os.kill(child, signal.SIGCONT)
    assert [end_of(child) for child in children] == [0, 0]
    assert [(tmp_path / f"said-{rank}").read_text() for rank in range(2)] == ["", ""]
