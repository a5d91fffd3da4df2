"""Several tasks in one model folder: what each changes of a common encoder lies under `heads/`.

    config.json, model.safetensors, tokenizer files    the encoder, with the head of the task it is for
    heads/classify/config.json                         the config of that task's model; its `base` is ../..; how much
                                                       of a text is read, since the tokenizer is the encoder's
    heads/classify/model.safetensors                   only the tensors that are not the encoder's own

An encoder whose lower layers stayed frozen while it was tuned is stored once, however many tasks it learnt.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from trasluz.checkpoints.folder_files import read_json, write_json
from trasluz.checkpoints.weights import WEIGHTS, StoredWeights, read_weights, write_weights
from trasluz.errors import ModelError
from trasluz.files import atomic_write
from trasluz.text.encoder_tokenizer import EncoderTokenizer

HEADS = "heads"
BASE = "../.."
_CONFIG, _OURS = "config.json", "trasluz"


def task_folders(folder: Path) -> dict[str, Path]:
    """Return the folders of further tasks in a model folder, by task."""
    return {path.parent.name: path.parent for path in sorted(folder.glob(f"{HEADS}/*/{_CONFIG}"))}


def weights_of_task(folder: Path, own: StoredWeights, wanted: set[str]) -> StoredWeights:
    """Return a task's tensors, those it does not change taken from the encoder that it stands on."""
    base = read_weights(folder / BASE)
    tensors = {name: tensor for name, tensor in base.tensors.items() if name in wanted} | own.tensors
    return StoredWeights(tensors, base.files + own.files)


def copy_tasks(tasks: Mapping[str, Path], folder: Path) -> None:
    """Put further tasks, as `task_folders` found them, into another folder of the same encoder."""
    for task, place in tasks.items():
        to = folder / HEADS / task
        if to.resolve() == place.resolve():
            continue
        to.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, _CONFIG):
            with atomic_write(to / name) as file:
                file.write((place / name).read_bytes())


def add_task(folder: str | Path, tuned: str | Path, task: str) -> Path:
    """Put what a tuned model changes of a folder's encoder into that folder, and return where it is.

    `tuned` was trained from `folder`. Weights are stored as precisely as the folder's own. Raises ModelError where the
    two share no tensor, or nothing distinguishes them.
    """
    folder, tuned = Path(folder), Path(tuned)
    given, config = read_json(folder / _CONFIG), read_json(tuned / _CONFIG)
    base, weights = read_weights(folder).tensors, read_weights(tuned).tensors
    changed = {
        name: tensor
        for name, tensor in weights.items()
        if name not in base or base[name].shape != tensor.shape or not torch.equal(base[name].double(), tensor.double())
    }
    if len(changed) in (0, len(weights)):
        what = "changes nothing of" if not changed else "shares no weights with"
        raise ModelError(f"{tuned} {what} {folder}: a model that was tuned from it is wanted.")
    place = folder / HEADS / task
    place.mkdir(parents=True, exist_ok=True)
    dtype = "float16" if given.get("dtype") == "float16" else "float32"
    write_weights(place / WEIGHTS, changed, torch.float16 if dtype == "float16" else torch.float32)
    tokenizer = EncoderTokenizer.load(tuned)
    notes = {**(config.get(_OURS) or {}), "task": task, "base": BASE, "kept_part": tokenizer.keep}
    if tokenizer.max_length is not None:
        notes["max_length"] = tokenizer.max_length
    write_json(place / _CONFIG, {**config, "dtype": dtype, _OURS: notes})
    return place
