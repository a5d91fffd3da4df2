"""`trasluz.load`: a model by folder, bundled name or Hugging Face id, ready to be called.

Nothing is downloaded unless a hub id was named, and never with HF_HUB_OFFLINE=1.
"""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trasluz.checkpoints.model_folder import CONFIG, LoadedModel, load_model
from trasluz.checkpoints.task_folders import HEADS, task_folders
from trasluz.checkpoints.weights import INDEX, WEIGHTS, hub_class
from trasluz.devices import choose_device, choose_dtype
from trasluz.errors import ModelError, RequestError, nearest
from trasluz.tasks.answerer import Answerer
from trasluz.tasks.classifier import Classifier
from trasluz.tasks.embedder import Embedder
from trasluz.tasks.generator import Generator
from trasluz.tasks.mask_filler import MaskFiller
from trasluz.tasks.tagger import Tagger
from trasluz.tasks.translator import Translator
from trasluz.text.hub_records import is_offline

_TASKS: tuple[type[Any], ...] = (Translator, MaskFiller, Classifier, Tagger, Answerer, Embedder, Generator)
TASKS: dict[str, Callable[[LoadedModel, torch.device, torch.dtype], Any]] = {one.verb: one for one in _TASKS}

_POCKET = Path(__file__).parent.parent / "pocket"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# No pickle is even fetched, nor the same weights once more for another engine, which lie in a folder of its name; a
# number begins those of the modules behind an encoder: 1_Pooling. Further tasks lie in `heads`.
_HUB_FILES = ["*.json", "model*.safetensors", f"{HEADS}/*.safetensors", "*.spm", "*.txt", "*.yaml", "README.md"]
_NO_HUB_FILES = ["[!0-9h]*/*", "h[!e]*/*"]


def load(model: str | Path, task: str | None = None, device: str = "auto", dtype: str = "auto") -> Any:
    """Return the task object of a model: a folder, a bundled name such as `pocket-en-es`, or a Hugging Face id.

    The checkpoint says which task it is for; `task` names another of those that it can do (`tasks_of`). `dtype` "auto"
    is fp32 on a CPU and bf16 on a GPU that has it. Raises ModelError where there is no such model or it cannot be read.
    """
    _check_task(task)
    chosen_device = choose_device(device)
    chosen_dtype = choose_dtype(dtype, chosen_device)
    loaded = _read_for(model, task, chosen_dtype)
    return TASKS[loaded.task](loaded, chosen_device, chosen_dtype)


def tasks_of(loaded: LoadedModel) -> tuple[str, ...]:
    """Return what a model can do: what it is for, what its heads are for, and of every encoder, vectors."""
    heads: list[str] | None = getattr(loaded.config, "heads", None)
    if heads is None:
        return (loaded.task,)
    return (*dict.fromkeys([loaded.task, *(head for head in heads if head in TASKS), "embed"]),)


def read_model(model: str | Path, task: str | None = None) -> LoadedModel:
    """Return what the folder of a model holds for a task, in fp32 on the CPU; arguments and errors are `load`'s."""
    _check_task(task)
    return _read_for(model, task)


def _read_for(model: str | Path, task: str | None, dtype: torch.dtype = torch.float32) -> LoadedModel:
    """Return what the folder holds for a task, which is from then on what the model is for."""
    folder = find_model(model)
    further = task_folders(folder)
    loaded = _read(model, further.get(task or "", folder), dtype)
    if loaded.task not in TASKS:
        raise ModelError(f"{model} is for the task {loaded.task!r}, which this version does not know.")
    chosen = task or loaded.task
    known = dict.fromkeys([*tasks_of(loaded), *further])
    if chosen not in known:
        raise RequestError(f"{model} is for the task {' or '.join(map(repr, known))}, not {chosen!r}.")
    loaded.task = chosen
    return loaded


def _check_task(task: str | None) -> None:
    if task is not None and task not in TASKS:
        close = nearest(task, TASKS)
        hint = f" Did you mean {close}?" if close else f" There are: {', '.join(TASKS)}."
        raise RequestError(f"there is no task {task!r}.{hint}")


def _read(model: str | Path, folder: Path, dtype: torch.dtype) -> LoadedModel:
    loaded = load_model(folder, dtype)
    if not Path(model).expanduser().is_dir():
        # A hub's folder is named after a commit.
        loaded.name = os.fspath(model)
    return loaded


def bundled_models() -> dict[str, Path]:
    """Return the models that come with the package: names and folders."""
    return {path.parent.name: path.parent for path in sorted(_POCKET.glob(f"*/{CONFIG}"))}


def find_model(model: str | Path) -> Path:
    """Return the folder of a model; a hub id is downloaded, or found where it was downloaded before."""
    name = os.fspath(model)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG).is_file() and (folder / "checkpoints").is_dir():
            recipe = folder / "recipe.yaml"
            how = (
                f"let it end, or go on with `trasluz train {recipe} --resume`" if recipe.is_file() else "train it first"
            )
            raise ModelError(f"the run in {name} has not written its model yet: {how}.")
        return folder
    bundled = bundled_models()
    if name in bundled:
        return bundled[name]
    if folder.is_file():
        raise ModelError(f"{name} is a file; a model is a folder with {CONFIG}, weights and tokenizer.")
    if isinstance(model, str) and _HUB_ID.fullmatch(name):
        return _download(name)
    close = nearest(name, bundled)
    known = f" Bundled are: {', '.join(bundled)}." if bundled else ""
    raise ModelError(f"there is no model {name!r}: no such folder.{f' Did you mean {close}?' if close else known}")


def fingerprint(folder: Path) -> str:
    """Return a digest of all in a model folder that translations depend on: weights, settings and tokenizer."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(
        path for pattern in ("*.safetensors", "*.json", "*.spm", "*.txt") for path in folder.glob(pattern)
    ):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    except ImportError:
        raise ModelError(
            f"{_no_folder(name)}; to fetch it from the Hugging Face hub, install huggingface_hub "
            "(pip install huggingface_hub)."
        ) from None
    offline = is_offline()
    try:
        folder = Path(
            snapshot_download(name, allow_patterns=_HUB_FILES, ignore_patterns=_NO_HUB_FILES, local_files_only=offline)
        )
    except GatedRepoError:
        raise ModelError(
            f"{name} is given by its owners only to whom they know: ask for access on its page of the Hugging Face "
            "hub, then log in here with `hf auth login`, or set HF_TOKEN."
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"{_no_folder(name)}, and no model of this name on the Hugging Face hub; if it is a private one, "
            "log in with `hf auth login`, or set HF_TOKEN."
        ) from None
    except Exception as error:  # The library has many, and below it stands a network.
        if offline:
            raise ModelError(
                f"{_no_folder(name)}, and a whole copy from the Hugging Face hub is not on this machine: "
                "offline, nothing is downloaded."
            ) from None
        # What the network said stands below what the library made of it.
        reason = str(error.__cause__ or error).strip() or type(error).__name__
        raise ModelError(
            f"{_no_folder(name)}, and it could not be fetched from the Hugging Face hub: "
            f"{reason.splitlines()[0].rstrip('.')}."
        ) from None
    if not (folder / WEIGHTS).is_file() and not (folder / INDEX).is_file():
        raise ModelError(
            f"{name} has no safetensors on the Hugging Face hub, and trasluz reads no pickle. Where you trust it, "
            f'convert it once with the `transformers` library: {hub_class(folder)}.from_pretrained("{name}")'
            '.save_pretrained("FOLDER"), and its AutoTokenizer alike; then load FOLDER.'
        )
    return folder


def _no_folder(name: str) -> str:
    """Return the begin of an error: that a folder is not there, and which of those beside it may be meant."""
    beside = [os.fspath(path) for path in Path(name).expanduser().parent.glob("*/")]
    close = nearest(name, beside)
    return f"there is no folder {name}{f' (did you mean {close}?)' if close else ''}"
