"""SIGKILL at any moment, also inside a save: the resumed run ends with the same weights, to the bit.

TRASLUZ_KILLS=20 tries as many random moments; benchmarks/kill_test.py does it with the command line.
"""

import json
import os
import random
import signal
import threading
from pathlib import Path

import pytest
from small_run import in_child, kill_at_call, run, small_recipe

from trasluz.training.recipe import Recipe
from trasluz.training.run import run_recipe

KILLS = int(os.environ.get("TRASLUZ_KILLS", "3"))


def recipe(folder: Path) -> Recipe:
    return small_recipe(folder, f"training.max_steps={8 * max(KILLS, 3)}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(recipe(folder))
    return folder


def assert_equal_runs(one: Path, other: Path) -> None:
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (one / "run" / name).read_bytes() == (other / "run" / name).read_bytes(), name
    assert losses(one) == losses(other)
    left = sorted(entry.name for entry in (other / "run" / "checkpoints").iterdir())
    assert left == sorted(entry.name for entry in (one / "run" / "checkpoints").iterdir())


def losses(folder: Path) -> list[tuple[str, int, float]]:
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [(line["kind"], line["step"], line["loss"]) for line in lines if line["kind"] in ("update", "evaluation")]


def killed(status: int) -> bool:
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def test_killed_at_random_moments(undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_bytes((undisturbed / "pairs.tsv").read_bytes())
    draw = random.Random(os.urandom(4).hex())
    for _ in range(KILLS):
        # So few reports a life that the run cannot end before all kills are done.
        reports, delay = draw.randint(1, 10), draw.uniform(0.0, 0.02)

        def live(reports: int = reports, delay: float = delay) -> None:
            for number, _ in enumerate(run_recipe(recipe(tmp_path), resume=True), 1):
                if number == reports:
                    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

        assert killed(in_child(live))
    assert in_child(lambda: run(recipe(tmp_path), resume=True)) == 0
    assert_equal_runs(undisturbed, tmp_path)


def test_killed_inside_every_kind_of_save(undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_bytes((undisturbed / "pairs.tsv").read_bytes())
    # Each life ends some file-system calls later than the one before: inside the making of the token cache, then inside
    # checkpoints, prunings and the writing of the model.
    lives = 0
    call = 1
    while True:

        def live(call: int = call) -> None:
            kill_at_call(call)
            run(recipe(tmp_path), resume=True)

        status = in_child(live)
        if status == 0:
            break
        assert killed(status)
        lives += 1
        call += 9 if KILLS < 20 else 3
        assert lives < 200
    assert lives > 5
    assert_equal_runs(undisturbed, tmp_path)
