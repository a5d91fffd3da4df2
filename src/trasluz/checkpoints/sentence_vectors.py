"""How one vector is made of a text's states, in the files of sentence-transformers (Reimers and Gurevych 2019).

modules.json                what is done, in order: the model, pooling, and perhaps scaling to length 1
1_Pooling/config.json       which states make the vector
sentence_bert_config.json   most tokens of a text, where it says so, and whether texts are lower-cased first
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from trasluz.checkpoints.folder_files import read_text, write_json
from trasluz.errors import ModelError, nearest
from trasluz.layers.pooling import POOLINGS, PoolingKind

_MODULES, _LIMITS = "modules.json", "sentence_bert_config.json"
# As early releases named the limits of other families.
_OLD_LIMITS = ("sentence_roberta_config.json", "sentence_distilbert_config.json")
_THEIR_KEYS = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens"}
_THEIR_TYPES = "sentence_transformers.models."


@dataclass(frozen=True)
class Pooling:
    """Which states make the vector, whether it is scaled to length 1, and how texts are read.

    `max_tokens` are read of a text (None: all), and where `lower_case` says so, all its letters as small ones.
    """

    kind: PoolingKind = "mean"
    normalized: bool = True
    max_tokens: int | None = None
    lower_case: bool = False


def check_pooling(kind: str) -> PoolingKind:
    """Return a kind of pooling; ModelError with the nearest name where it is none."""
    for known in get_args(PoolingKind):
        if kind == known:
            return known
    close = nearest(kind, POOLINGS)
    hint = f"did you mean {close}?" if close else f"it is one of {', '.join(POOLINGS)}."
    raise ModelError(f"there is no pooling {kind!r}; {hint}")


def read_pooling(folder: Path) -> Pooling | None:
    """Return how this folder's model makes vectors; None where it does not say.

    Raises ModelError for what is not known here, such as weighted means or a layer behind the pooling.
    """
    modules = _read(folder / _MODULES)
    if modules is None:
        return None
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelError(f"{folder / _MODULES} holds no list of modules, but it must.")
    kinds, normalized = [], False
    for module in modules:
        name = str(module.get("type", "")).rpartition(".")[2]
        if name == "Pooling":
            place = folder / str(module.get("path", "")) / "config.json"
            kinds += _pooling_kinds(place, _read_object(place))
        elif name == "Normalize":
            normalized = True
        elif name != "Transformer":
            raise ModelError(f"{folder / _MODULES}: a module {name!r} is not known; known are Pooling and Normalize.")
    if len(kinds) != 1:
        raise ModelError(
            f"{folder / _MODULES}: one kind of pooling was expected, {_listed(POOLINGS)}, not {len(kinds)}."
        )
    return Pooling(kinds[0], normalized, _max_tokens(folder), _lower_case(folder))


def write_pooling(folder: Path, dim: int, pooling: Pooling) -> None:
    """Write the files that make `sentence-transformers` load the folder as it is; `dim` is the model's width."""
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    modules += [("2", "2_Normalize", "Normalize")] if pooling.normalized else []
    modes = {key: kind == pooling.kind for kind, key in _THEIR_KEYS.items()}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": dim, **modes})
    write_json(folder / _LIMITS, {"max_seq_length": pooling.max_tokens, "do_lower_case": pooling.lower_case})
    listed = [
        {"idx": int(number), "name": number, "path": path, "type": _THEIR_TYPES + name}
        for number, path, name in modules
    ]
    write_json(folder / _MODULES, listed)


def _pooling_kinds(place: Path, config: Mapping[str, Any]) -> list[PoolingKind]:
    # Newer releases name the kind, or several; older ones have a key for each.
    if "pooling_mode" in config:
        named = config["pooling_mode"]
        modes = list(map(str, named if isinstance(named, list) else [named]))
        known = {kind: kind for kind in POOLINGS}
    else:
        modes = sorted(key for key, value in config.items() if key.startswith("pooling_mode_") and value is True)
        known = {key: kind for kind, key in _THEIR_KEYS.items()}
    for mode in modes:
        if mode not in known:
            raise ModelError(f"{place}: the pooling {mode} is not known; known are {_listed(known)}.")
    return [check_pooling(known[mode]) for mode in modes]


def _max_tokens(folder: Path) -> int | None:
    place, most = _said_of_texts(folder, "max_seq_length")
    if most is not None and (not isinstance(most, int) or most < 1):
        raise ModelError(f"{place}: max_seq_length is {most!r}; it must be a number from 1 up, or null.")
    return most


def _lower_case(folder: Path) -> bool:
    place, lower_case = _said_of_texts(folder, "do_lower_case")
    if lower_case is not None and not isinstance(lower_case, bool):
        raise ModelError(f"{place}: do_lower_case is {lower_case!r}; it must be true, false or null.")
    return bool(lower_case)


def _said_of_texts(folder: Path, key: str) -> tuple[Path, Any]:
    """Return what the first file that says something of this says, and which it is; None where none does."""
    for name in (_LIMITS, *_OLD_LIMITS):
        value = _read_object(folder / name).get(key)
        if value is not None:
            return folder / name, value
    return folder / _LIMITS, None


def _listed(names: Any) -> str:
    return ", ".join(names)


def _read_object(path: Path) -> dict[str, Any]:
    content = _read(path)
    if not isinstance(content, dict | None):
        raise ModelError(f"{path} holds no JSON object, but it must.")
    return content or {}


def _read(path: Path) -> Any:
    text = read_text(path)
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise ModelError(f"{path} cannot be read: {error}.") from None
