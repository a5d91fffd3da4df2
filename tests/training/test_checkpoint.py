"""Checkpoints: whole or absent, equal to the bit, refused with a sentence where they do not fit."""

import contextlib
import os
from pathlib import Path

import pytest
import torch
from stand_in import Predictor, make_batch, objective
from torch import nn

from trasluz.checkpoints.weights import model_tensors
from trasluz.errors import ModelError, WriteError
from trasluz.training.checkpoint import CheckpointFolder, Evaluation, RunState, restore_model
from trasluz.training.optimizer import build_optimizer, optimizer_state, restore_optimizer
from trasluz.training.recipe import TrainingSection


def trained(steps: int = 3) -> tuple[Predictor, torch.optim.Optimizer]:
    model = Predictor()
    optimizer = build_optimizer(model, TrainingSection(weight_decay=0.1))
    for step in range(steps):
        objective(model, make_batch(step)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def test_all_state_comes_back(tmp_path: Path) -> None:
    model, optimizer = trained()
    state = RunState(step=3, tokens=77, evaluations=[Evaluation(2, {"bleu": 1.5})], schedule={"reductions": 1})
    folder = CheckpointFolder(tmp_path)
    folder.save(state, model_tensors(model), optimizer_state(optimizer, model))
    assert folder.read_state(3) == state
    torch.manual_seed(9)
    other = Predictor()
    restore_model(other, folder.read_model(3), "there")
    again = build_optimizer(other, TrainingSection(weight_decay=0.1))
    restore_optimizer(again, other, folder.read_optimizer(3), "there")
    for one, two in ((model, optimizer), (other, again)):
        objective(one.eval(), make_batch(50)).total.backward()
        two.step()
    for name, tensor in model_tensors(model).items():
        assert torch.equal(tensor, model_tensors(other)[name])
    assert other.output.weight is other.embedding.weight


def test_no_decay_on_norms_and_biases() -> None:
    optimizer = build_optimizer(Predictor(), TrainingSection(weight_decay=0.1))
    decayed, spared = optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert [p.dim() for p in decayed["params"]] == [2, 2] and [p.dim() for p in spared["params"]] == [1, 1, 1]
    assert build_optimizer(Predictor(), TrainingSection(optimizer="adam")).defaults["fused"]


def test_a_tied_weight_is_stored_once() -> None:
    assert "output.weight" not in model_tensors(Predictor())


def test_another_models_checkpoint_is_refused() -> None:
    model, optimizer = trained()
    tensors = model_tensors(model)
    missing = {name: tensor for name, tensor in tensors.items() if name != "hidden.bias"}
    with pytest.raises(ModelError, match=r"there is a checkpoint of another model: it lacks weight hidden\.bias"):
        restore_model(model, missing, "there")
    with pytest.raises(ModelError, match="has an unknown weight more"):
        restore_model(model, tensors | {"more": torch.zeros(1)}, "there")
    with pytest.raises(ModelError, match=r"hidden\.bias has shape \[3\] there and \[8\] here"):
        restore_model(model, tensors | {"hidden.bias": torch.zeros(3)}, "there")
    state = optimizer_state(optimizer, model)
    with pytest.raises(ModelError, match=r"optimizer's state of another model: it knows step\.more"):
        restore_optimizer(optimizer, model, state | {"step.more": torch.zeros(())}, "there")
    del state["exp_avg.hidden.bias"]
    with pytest.raises(ModelError, match=r"optimizer's state of another model: hidden\.bias does not fit"):
        restore_optimizer(optimizer, model, state, "there")


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("harm", ["truncate", "garble", "remove"])
def test_a_broken_checkpoint_is_refused_with_the_way_out(tmp_path: Path, name: str, harm: str) -> None:
    model, optimizer = trained(1)
    folder = CheckpointFolder(tmp_path)
    folder.save(RunState(step=1), model_tensors(model), optimizer_state(optimizer, model))
    path = tmp_path / "step-1" / name
    content = path.read_bytes()
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if harm == "truncate" else b"\xff" * len(content))
    with pytest.raises(ModelError, match=r"step-1 cannot be read \(.*Delete that folder, and --resume goes on"):
        folder.read_state(1)
        folder.read_model(1)
        folder.read_optimizer(1)


def test_a_missing_checkpoint_is_not_called_broken(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no checkpoint .*step-7; --resume goes on from the newest that is"):
        CheckpointFolder(tmp_path).read_model(7)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(RunState(step=1), model_tensors(nn.Linear(2, 2)), {})
    path = tmp_path / "step-1" / "state.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ModelError, match="written by another version of trasluz"):
        folder.read_state(1)


def test_pruning_and_sweeping(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    assert folder.steps() == []
    folder.sweep()
    for step in (5, 10, 100):
        folder.save(RunState(step=step), model_tensors(nn.Linear(2, 2)), {})
    folder.prune([10, 100])
    (folder.path / ".step-200.abc.part").mkdir()
    (folder.path / "notes.txt").write_text("not ours")
    assert folder.steps() == [10, 100]
    folder.sweep()
    assert sorted(entry.name for entry in folder.path.iterdir()) == ["notes.txt", "step-10", "step-100"]


@pytest.mark.parametrize("moves", [0, 1, 2, 3])
def test_a_kill_inside_a_second_save_of_a_step_loses_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    folder = CheckpointFolder(tmp_path / "checkpoints")
    model = model_tensors(nn.Linear(2, 2))
    folder.save(RunState(step=5, tokens=1), model, {})
    replace, done = os.replace, iter(range(10))

    def killed(source: Path, target: Path) -> None:
        if next(done) == moves:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr("trasluz.files.os.replace", killed)
        # A kill clears nothing up.
        patch.setattr("trasluz.files.shutil.rmtree", lambda *_, **__: None)
        folder.save(RunState(step=5, tokens=2), model, {})
    folder.sweep()
    assert [entry.name for entry in folder.path.iterdir()] == ["step-5"]
    assert folder.read_state(5).tokens == (1 if moves < 2 else 2)
    assert folder.read_model(5).keys() == model.keys()


def test_the_average_is_the_mean(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    models = [nn.Linear(3, 3) for _ in range(3)]
    for step, model in enumerate(models):
        folder.save(RunState(step=step), model_tensors(model), {})
    mean = folder.average([0, 1, 2])
    expected = sum(model.weight.detach().double() for model in models) / 3
    assert mean["weight"].dtype == torch.float32
    torch.testing.assert_close(mean["weight"], expected.float(), atol=0, rtol=0)


def test_a_folder_that_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="cannot write"):
        CheckpointFolder(tmp_path / "file").save(RunState(), model_tensors(nn.Linear(2, 2)), {})
