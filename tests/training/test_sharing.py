"""Several processes against one: gradients and losses, checkpoints at other numbers of processes, loss of a process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_run import free_port, run, small_recipe, together, write_pairs
from torch import Tensor, nn, optim

from trasluz.checkpoints.model_folder import load_model
from trasluz.errors import RequestError, TrainingError, WriteError
from trasluz.models.registry import build_model
from trasluz.text.batching import make_text_batch
from trasluz.training.checkpoint import CheckpointFolder
from trasluz.training.processes import ALONE, Processes, joined
from trasluz.training.recipe import Recipe
from trasluz.training.reports import Ended, Update
from trasluz.training.sharing import SlicedModel
from trasluz.training.slices import whole_tensor

STEPS = 20
# No dropout: each process draws its own. The last update of an epoch has fewer examples than there are processes.
SAME_WORK = (f"training.max_steps={STEPS}", "training.log_every=1", "model.dropout=0", "evaluation.average=null")
RNNSEARCH = "model={preset: rnnsearch, embedding_dim: 16, hidden_dim: 12, readout_dim: 16, attention_dim: 8}"


def recipe_for(folder: Path, parallel: str, *overrides: str, name: str) -> Recipe:
    return small_recipe(folder, f"training.parallel={parallel}", *overrides, name=name)


def losses(run_folder: Path) -> list[float]:
    """Return the losses of all updates and evaluations, and of what was chosen."""
    rows = map(json.loads, (run_folder / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


class Watched(optim.SGD):
    """Plain gradient descent that keeps every gradient, put together."""

    seen: list[Tensor]

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        parts = [whole_tensor(p.grad).flatten() for group in self.param_groups for p in group["params"]]
        self.seen.append(torch.cat(parts))
        super().step()


def train_watched(recipe: Recipe, patch: pytest.MonkeyPatch, file: Path) -> None:
    """Train by plain gradient descent and write all gradients to a file."""

    def build(model: nn.Module, training: object, *, bf16: bool) -> Watched:
        built = Watched(model.parameters(), lr=0.1)
        built.seen = seen
        return built

    seen: list[Tensor] = []
    patch.setattr("trasluz.training.trainer.build_optimizer", build)
    run(recipe)
    save_file({"gradients": torch.stack(seen)}, file)


@pytest.mark.parametrize(
    ("parallel", "size", "extra"),
    [
        ("ddp", 2, ()),
        ("ddp", 3, ("training.micro_batch_tokens=60",)),
        ("ddp", 2, (RNNSEARCH,)),
        ("fsdp", 2, ("training.micro_batch_tokens=60",)),
        ("fsdp", 3, ("model.num_layers=2",)),
        ("fsdp", 2, ("training.recompute_activations=true",)),
    ],
)
def test_gradients_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parallel: str, size: int, extra: tuple[str, ...]
) -> None:
    options = [*SAME_WORK[: 2 if extra == (RNNSEARCH,) else 4], *extra]
    train_watched(recipe_for(tmp_path, "none", *options, name="one"), monkeypatch, tmp_path / "one.safetensors")

    def work(rank: int) -> None:
        several = recipe_for(tmp_path, parallel, *options, name="several")
        train_watched(several, monkeypatch, tmp_path / f"{rank}.safetensors")

    assert together(size, work) == [0] * size
    expected = load_file(tmp_path / "one.safetensors")["gradients"]
    assert expected.shape[0] == STEPS
    for rank in range(size):
        gradients = load_file(tmp_path / f"{rank}.safetensors")["gradients"]
        assert (gradients - expected).abs().max() < 1e-6 * expected.abs().max()
    assert losses(tmp_path / "several") == pytest.approx(losses(tmp_path / "one"), rel=1e-6)


def test_layers_are_whole_only_while_they_work(tmp_path: Path) -> None:
    """What a plan counts as whole under FSDP: layers in turn, the rest from the forward pass on, and all in fp32."""

    def work(rank: int) -> None:
        with joined("fsdp", "cpu") as processes:
            torch.manual_seed(1)
            model = build_model({"preset": "bert-tiny", "num_layers": 2, "model_dim": 16}, vocab_size=50)
            seen: list[tuple[int, set[torch.dtype]]] = []

            def look(module: nn.Module, *_: object) -> None:
                whole = [one for one in model.encoder if not hasattr(next(one.parameters()), "full_tensor")]
                seen.append((len(whole), {one.dtype for layer in whole for one in layer.parameters()}))

            ids = torch.tensor([[5, 6, 7, 8]])
            batch = make_text_batch([ids[0].numpy()], [np.zeros(4, np.int64)], pad_id=0)
            shared = SlicedModel(model, lambda one, given: one(given).sum(), processes, torch.device("cpu"))
            for layer in model.encoder:
                for part in layer.children():
                    part.register_forward_hook(look)
            with shared.accumulating(last=True) as loss_of, torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(batch)
            assert len(seen) > 2 and all(one == (1, {torch.float32}) for one in seen)
            after = {name: hasattr(one, "full_tensor") for name, one in model.named_parameters()}
            assert all(sliced == name.startswith("encoder.") for name, sliced in after.items())
            loss.backward()
            assert all(hasattr(one, "full_tensor") for one in model.parameters())

    assert together(2, work) == [0, 0]


@pytest.mark.parametrize(("parallel", "optimizer"), [("ddp", "adamw"), ("fsdp", "adamw"), ("fsdp", "muon")])
def test_losses_and_checkpoints_at_other_numbers_of_processes(tmp_path: Path, parallel: str, optimizer: str) -> None:
    # Stopped half way by a budget, then resumed: by as many processes, by more, by one alone, and the other way round.
    fixed = ("training.schedule=constant", f"training.optimizer={optimizer}")
    short = ("training.max_steps=10", "evaluation.every=5 steps", *SAME_WORK[1:], *fixed)
    long = ("training.max_steps=20", *short[1:])

    def go(size: int, kind: str, name: str, options: tuple[str, ...], resume: bool) -> None:
        recipe = recipe_for(tmp_path, kind, *options, name=name)
        if size == 1:
            run(recipe, resume)
        else:
            assert together(size, lambda rank: run(recipe, resume)) == [0] * size

    go(1, "none", "one", long, resume=False)
    expected = losses(tmp_path / "one")
    assert len(expected) == 20 + 4 + 1
    other = {"ddp": "fsdp", "fsdp": "ddp"}[parallel]
    for first, second in (((2, parallel), (2, parallel)), ((2, parallel), (3, other)), ((2, parallel), (1, "none"))):
        name = f"run-{first}-{second}"
        go(*first, name, short, resume=False)
        step = tmp_path / name / "checkpoints" / "step-10"
        stored = {path.name for path in step.iterdir()}
        assert stored >= ({"model-00002-of-00002.safetensors"} if parallel == "fsdp" else {"model.safetensors"})
        go(*second, name, long, resume=True)
        assert losses(tmp_path / name) == pytest.approx(expected, rel=1e-5)
        assert load_model(tmp_path / name).languages == ("en", "es")
    go(1, "none", "whole", short, resume=False)
    go(3, parallel, "whole", long, resume=True)
    assert losses(tmp_path / "whole") == pytest.approx(expected, rel=1e-5)


def test_all_leave_together_when_one_is_asked(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, "ddp", "training.max_steps=100000", "evaluation.every=100000 steps", name="run")
    pairs = write_pairs(tmp_path / "pairs.tsv")
    assert pairs.exists()

    def work(rank: int) -> None:
        from trasluz.training.run import run_recipe

        for report in run_recipe(recipe):
            if isinstance(report, Ended):
                (tmp_path / f"ended-{rank}.json").write_text(json.dumps([report.step, report.reason]))
            elif rank == 0 and isinstance(report, Update) and report.step == 1:
                # The signal reaches the first alone, and this one in the middle of its work: it listens since it began.
                signal.setitimer(signal.ITIMER_REAL, 1.0)

    def on_alarm(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        assert together(2, work) == [0, 0]
    finally:
        signal.signal(signal.SIGALRM, before)
    ends = [json.loads((tmp_path / f"ended-{rank}.json").read_text()) for rank in range(2)]
    assert ends[0] == ends[1] and ends[0][1] == "interrupted" and ends[0][0] > 0
    assert CheckpointFolder(tmp_path / "run" / "checkpoints").steps()[-1] == ends[0][0]


def start_by_hand(recipe: Path, rank: int, size: int, port: int, *overrides: str) -> "subprocess.Popen[str]":
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "-m", "trasluz", "train", str(recipe), *overrides],
        env=os.environ | {name: str(value) for name, value in variables.items()} | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_killed_process_ends_the_others_with_a_sentence(tmp_path: Path, parallel: str) -> None:
    from trasluz.training.recipe_file import dump_recipe

    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe_for(tmp_path, parallel, "training.max_steps=1000000", name="run")))
    port = free_port()
    processes = [start_by_hand(path, rank, 3, port) for rank in range(3)]
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and '"evaluation"' in metrics.read_text()):
        assert time.monotonic() < deadline and all(process.poll() is None for process in processes)
        time.sleep(0.1)
    processes[1].kill()
    deadline = time.monotonic() + 30
    for rank in (0, 2):
        _, errors = processes[rank].communicate(timeout=max(deadline - time.monotonic(), 1))
        assert processes[rank].returncode == 1
        assert "another process of this run is gone" in errors and "--resume" in errors
        assert "Traceback" not in errors


def test_torchrun_starts_a_run(tmp_path: Path) -> None:
    from trasluz.training.recipe_file import dump_recipe

    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe_for(tmp_path, "fsdp", *SAME_WORK, name="run")))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "-m", "trasluz", "train", str(path)], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "on cpu in fp32 by 2 processes (fsdp)." in done.stderr
    assert done.stderr.count("The model is in") == 1
    assert load_model(tmp_path / "run").languages == ("en", "es")


def test_an_error_of_one_is_told_by_all(tmp_path: Path) -> None:
    def work(rank: int) -> None:
        with joined("ddp", "cpu") as processes:
            error = WriteError("the disk of this one is full") if rank == 1 else None
            with pytest.raises(WriteError if rank == 1 else TrainingError, match="the disk of this one is full"):
                processes.all_well(error)
            assert processes.gather({"rank": rank}) == [{"rank": 0}, {"rank": 1}]
            assert processes.agree(f"word of {rank}") == "word of 0"
            assert processes.sum([rank + 1.0, 0.5]) == [3.0, 1.0]
            done = processes.first_does(lambda: "done")
            assert done == ("done" if rank == 0 else None)

    assert together(2, work) == [0, 0]


def test_alone_everything_is_agreed_on() -> None:
    assert ALONE.gather(3) == [3] and ALONE.agree("x") == "x" and ALONE.sum([1.0]) == [1.0]
    assert ALONE.first_does(lambda: 5) == 5
    with pytest.raises(WriteError, match="full"):
        ALONE.all_well(WriteError("full"))


def test_several_processes_need_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(
            RequestError, match=r"2 processes were started, but training\.parallel is none: set it to ddp or fsdp"
        ),
        joined("none", "cpu"),
    ):
        pass


def test_recurrent_layers_are_not_sliced() -> None:
    with pytest.raises(RequestError, match="recurrent layers cannot be sliced"):
        SlicedModel(nn.GRU(2, 2), lambda model, batch: None, Processes(0, 2), torch.device("cpu"))


def test_without_torchrun_a_shared_recipe_runs_alone(tmp_path: Path) -> None:
    reports = run(recipe_for(tmp_path, "ddp", "training.max_steps=5", name="run"))
    assert isinstance(reports[-1], Ended) and reports[-1].step == 5
