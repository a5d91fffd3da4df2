"""Attention maps in files: pictures, a page, or data (JSON and NPZ) that can be read back to the bit.

One map makes one JSON object; several make a list of them. In an NPZ file each map has the arrays weights,
source_tokens, target_tokens, kind, layer, head, model and merged, and, where known, source_words and target_words:
the number of the word each token belongs to. With several maps the names end in _0, _1, ...
"""

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trasluz.errors import DataError, RequestError, nearest
from trasluz.files import atomic_write
from trasluz.inspection.attention_map import AttentionMap

PICTURES = (".png", ".svg", ".pdf")
ENDINGS = (".png", ".svg", ".pdf", ".html", ".json", ".npz")


def check_ending(path: str | os.PathLike[str], endings: Sequence[str] = ENDINGS) -> str:
    """Return the ending of a path in lower case; refuse an unknown one. A caller with long work to do asks first."""
    ending = Path(path).suffix.lower()
    if ending not in endings:
        near = nearest(ending, endings) if ending else None
        meant = f" (did you mean {near}?)" if near else ""
        said = f"its ending {ending} is none of" if ending else "it has no ending, which must be one of"
        raise RequestError(
            f"no form of attention file is known for {os.fspath(path)!r}: {said} {' '.join(endings)}{meant}."
        )
    return ending


def save_maps(maps: Sequence[AttentionMap], path: str | os.PathLike[str]) -> None:
    """Write maps as the ending says: small multiples (.png .svg .pdf), a page (.html), or data (.json .npz)."""
    ending = check_ending(path)
    if not maps:
        raise RequestError(f"there is no attention map to write to {os.fspath(path)}; give at least one.")
    if ending in PICTURES:
        from trasluz.inspection.heatmap import draw_maps, save_figure

        figure = draw_maps(maps)
        with atomic_write(path, follow_links=True) as file:
            save_figure(figure, file, ending.removeprefix("."))
    elif ending == ".html":
        from trasluz.inspection.explorer import explorer_page

        page = explorer_page(maps)
        with atomic_write(path, "w", follow_links=True) as file:
            file.write(page)
    elif ending == ".json":
        objects = [one.to_dict() for one in maps]
        with atomic_write(path, "w", follow_links=True) as file:
            json.dump(objects if len(objects) > 1 else objects[0], file)
            file.write("\n")
    else:
        arrays: dict[str, Any] = {}
        for index, one in enumerate(maps):
            arrays |= _arrays(one, f"_{index}" if len(maps) > 1 else "")
        with atomic_write(path, follow_links=True) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)


def load_maps(path: str | os.PathLike[str]) -> list[AttentionMap]:
    """Read the maps of a .json or .npz file that `save_maps` wrote."""
    ending = check_ending(path, (".json", ".npz"))
    name = os.fspath(path)
    try:
        if ending == ".json":
            read = json.loads(Path(path).read_text(encoding="utf-8"))
            return [AttentionMap.from_dict(one) for one in (read if isinstance(read, list) else [read])]
        with np.load(path, allow_pickle=False) as arrays:
            suffixes = sorted((key[len("weights") :] for key in arrays.files if key.startswith("weights")), key=_order)
            if not suffixes:
                raise ValueError("it has no array `weights`")
            return [_from_arrays(arrays, suffix) for suffix in suffixes]
    except OSError as error:
        raise DataError(f"cannot read {name}: {error.strerror or error}.") from error
    except RequestError as error:
        raise DataError(f"{name}: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{name} is no attention file that trasluz wrote, or it is damaged: {error}.") from error


def _order(suffix: str) -> int:
    return int(suffix.removeprefix("_") or 0)


def _arrays(one: AttentionMap, suffix: str) -> dict[str, Any]:
    arrays = {
        "weights": one.weights,
        "source_tokens": np.array(one.source_tokens),
        "target_tokens": np.array(one.target_tokens),
        "kind": np.array(one.kind),
        "layer": np.array(one.layer),
        "head": np.array(one.head),
        "model": np.array(one.model),
        "merged": np.array(one.merged),
    }
    for name in ("source_words", "target_words"):
        groups = getattr(one, name)
        if groups is not None:
            word_of_token = np.zeros(sum(map(len, groups)), dtype=np.int32)
            for number, group in enumerate(groups):
                word_of_token[group] = number
            arrays[name] = word_of_token
    return {name + suffix: array for name, array in arrays.items()}


def _from_arrays(arrays: Any, suffix: str) -> AttentionMap:
    data: dict[str, Any] = {"weights": arrays["weights" + suffix]}
    for name in ("source_tokens", "target_tokens"):
        data[name] = [str(token) for token in arrays[name + suffix]]
    for name in ("kind", "layer", "head", "model", "merged"):
        data[name] = arrays[name + suffix].item()
    for name in ("source_words", "target_words"):
        if name + suffix in arrays.files:
            numbers = arrays[name + suffix]
            data[name] = [np.flatnonzero(numbers == word).tolist() for word in range(int(numbers.max()) + 1)]
    return AttentionMap.from_dict(data)
