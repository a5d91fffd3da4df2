"""Checkpoints of a run: `checkpoints/step-N/` with weights, optimizer state and progress, whole or absent.

step-500/
  model.safetensors       every parameter and buffer, tied ones once
  optimizer.safetensors   Adam's moments and step counts by parameter name
  state.json              where the run stood: step, place in the data, evaluations, schedule

Where every process holds a slice of the model, each writes what it holds: model-00001-of-00004.safetensors and so on,
tensors cut along the first axis; what is not cut stands in the first file alone. Either kind is read by any number of
processes, sliced or not.
"""

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trasluz.checkpoints.weights import model_tensors
from trasluz.errors import ModelError
from trasluz.files import atomic_folder, clear_leftover, write_error
from trasluz.training.processes import ALONE, Processes
from trasluz.training.slices import is_sliced, local_part

FORMAT = 1


@dataclass(frozen=True)
class Evaluation:
    """What a look at the validation data found."""

    step: int
    metrics: dict[str, float]


@dataclass
class RunState:
    """Where a run stands; with weights and optimizer state, all that the next update depends on."""

    step: int = 0
    epoch: int = 0
    # Updates of this epoch that are done.
    done_in_epoch: int = 0
    tokens: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)
    schedule: dict[str, float | int] = field(default_factory=dict)
    threads: int = 0
    # What the run learns from: `PreparedData.identity`; empty in states that are older than it.
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def evaluated_at(self) -> int:
        """The step of the last evaluation, -1 before the first."""
        return self.evaluations[-1].step if self.evaluations else -1


class CheckpointFolder:
    """The checkpoints of one run."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def steps(self) -> list[int]:
        """Return the steps there are checkpoints of, ascending."""
        if not self.path.is_dir():
            return []
        found = (re.fullmatch(r"step-(\d+)", entry.name) for entry in self.path.iterdir() if entry.is_dir())
        return sorted(int(match[1]) for match in found if match)

    def folder(self, step: int) -> Path:
        """Return the folder of one checkpoint."""
        return self.path / f"step-{step}"

    def save(
        self,
        state: RunState,
        model: dict[str, Tensor],
        optimizer: dict[str, Tensor],
        processes: Processes = ALONE,
        sharded: bool = False,
    ) -> None:
        """Write a checkpoint atomically, replacing one of the same step; all processes do, or all fail."""
        target = self.folder(state.step)
        with contextlib.ExitStack() as stack:
            made = processes.first_does(lambda: stack.enter_context(atomic_folder(target)))
            folder, error = Path(processes.agree(str(made))), None
            try:
                if processes.first:
                    told = json.dumps({"format": FORMAT, **asdict(state)}, indent=1)
                    (folder / "state.json").write_text(told, encoding="utf-8")
                for name, tensors in (("model", model), ("optimizer", optimizer)):
                    if sharded:
                        held = {key: one for key, one in tensors.items() if processes.first or is_sliced(one)}
                        _save_tensors(held, folder / _shard(name, processes.rank, processes.size))
                    elif processes.first:
                        _save_tensors(tensors, folder / f"{name}.safetensors")
            except OSError as raised:
                error = write_error(target, raised)
            # Nothing takes its place before everybody has written.
            processes.all_well(error)
            processes.first_does(stack.close)

    def read_state(self, step: int) -> RunState:
        """Return the progress a checkpoint holds."""
        path = self.folder(step) / "state.json"
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format") != FORMAT:
                raise ModelError(f"{path} was written by another version of trasluz; start a new run")
            values["evaluations"] = [Evaluation(**evaluation) for evaluation in values["evaluations"]]
            return RunState(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _broken(self.folder(step), error) from error

    def read_model(self, step: int) -> dict[str, Tensor]:
        """Return the weights a checkpoint holds."""
        return self._read(step, "model")

    def read_optimizer(self, step: int) -> dict[str, Tensor]:
        """Return the optimizer state a checkpoint holds."""
        return self._read(step, "optimizer")

    def _read(self, step: int, name: str) -> dict[str, Tensor]:
        folder = self.folder(step)
        try:
            first = next(folder.glob(_shard(name, 0, "*")), None)
            if first is None:
                whole: dict[str, Tensor] = load_file(folder / f"{name}.safetensors")
                return whole
            size = int(first.stem.rsplit("-", 1)[1])
            shards = [load_file(folder / _shard(name, rank, size)) for rank in range(size)]
            # By the names of the first: what is not cut stands there alone.
            return {
                key: torch.cat([shard[key] for shard in shards if key in shard]) if tensor.ndim else tensor
                for key, tensor in shards[0].items()
            }
        except (OSError, SafetensorError, ValueError) as error:
            raise _broken(folder, error) from error

    def average(self, steps: list[int]) -> dict[str, Tensor]:
        """Return the mean of the weights of several checkpoints, summed in double precision."""
        sums: dict[str, Tensor] = {}
        kinds: dict[str, torch.dtype] = {}
        for step in steps:
            for name, tensor in self.read_model(step).items():
                kinds[name] = tensor.dtype
                sums[name] = sums[name] + tensor.double() if name in sums else tensor.double()
        return {name: (total / len(steps)).to(kinds[name]) for name, total in sums.items()}

    def prune(self, wanted: Iterable[int]) -> None:
        """Delete the checkpoints not wanted; a kill in the middle leaves none that is half there."""
        keep = set(wanted)
        try:
            for step in self.steps():
                if step not in keep:
                    aside = self.path / f".step-{step}.old"
                    shutil.rmtree(aside, ignore_errors=True)
                    os.replace(self.folder(step), aside)
                    shutil.rmtree(aside)
        except OSError as error:
            raise write_error(self.path, error) from error

    def sweep(self) -> None:
        """Delete what a kill inside a save left behind; a checkpoint that was to be replaced just then comes back."""
        if self.path.is_dir():
            for entry in list(self.path.iterdir()):
                if entry.name.startswith(".step-"):
                    clear_leftover(entry)


def restore_model(model: nn.Module, tensors: dict[str, Tensor], place: str) -> None:
    """Copy weights into a model; raises ModelError naming the first that is missing, unexpected or of another shape."""
    own = model_tensors(model)
    for name in own.keys() ^ tensors.keys():
        which = "lacks" if name in own else "has an unknown"
        raise ModelError(f"{place} is a checkpoint of another model: it {which} weight {name}")
    for name, tensor in tensors.items():
        if own[name].shape != tensor.shape:
            raise ModelError(
                f"{place} is a checkpoint of another model: {name} has shape {list(tensor.shape)} there "
                f"and {list(own[name].shape)} here"
            )
        own[name].copy_(tensor)


def _shard(name: str, rank: int, size: int | str) -> str:
    return f"{name}-{rank + 1:05}-of-{f'{size:05}' if isinstance(size, int) else size}.safetensors"


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file({name: local_part(tensor.detach()).cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        # The library wraps what the system said; as an OSError it becomes the sentence about a refused write.
        reason = re.search(r'message: "([^"]+)"|: ([^:(]+) \(os error', str(error))
        raise OSError(errno.EIO, (reason[1] or reason[2]) if reason else str(error)) from error


def _broken(folder: Path, error: Exception) -> ModelError:
    if not folder.exists():
        return ModelError(f"there is no checkpoint {folder}; --resume goes on from the newest that is there")
    return ModelError(
        f"the checkpoint {folder} cannot be read ({error}). Delete that folder, and --resume goes on from the one "
        "before"
    )
