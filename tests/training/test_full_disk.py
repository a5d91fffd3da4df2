"""A whole run on a real disk that fills up, and on one that may not be written to: said in a sentence, nothing lost."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.training.small_run import run, small_recipe

from trasluz.errors import WriteError
from trasluz.training.checkpoint import CheckpointFolder
from trasluz.training.reports import Ended

WIDE = "model={preset: transformer-tiny, num_layers: 1, model_dim: 64, num_heads: 2, feed_forward_dim: 128}"


def mount(folder: Path, *options: str) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("only who may mount can make a small disk")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=3m")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_costs_nothing_but_the_last_save(tmp_path: Path, disk: Path) -> None:
    recipe = small_recipe(tmp_path, WIDE, f"output={disk / 'run'}")
    with pytest.raises(WriteError, match=r"cannot write .*/checkpoints/step-\d+: No space left on device\. Free some"):
        run(recipe)
    checkpoints = CheckpointFolder(disk / "run/checkpoints")
    assert checkpoints.steps(), "some saves went through before"
    for step in checkpoints.steps():
        assert checkpoints.read_state(step).step == step
        assert checkpoints.read_model(step)
    assert [entry.name for entry in checkpoints.path.iterdir() if entry.name.endswith((".part", ".old"))] == []
    mount(disk, "remount", "size=40m")
    ended = run(recipe, resume=True)[-1]
    assert isinstance(ended, Ended) and ended.step == 24
    whole = small_recipe(tmp_path, WIDE, name="whole")
    run(whole)
    assert (disk / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_a_disk_that_may_not_be_written_to_is_refused_at_once(tmp_path: Path, disk: Path) -> None:
    mount(disk, "remount", "ro")
    with pytest.raises(WriteError, match=r"cannot write .*/run: Read-only file system\."):
        run(small_recipe(tmp_path, f"output={disk / 'run'}"))
