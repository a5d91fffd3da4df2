"""Checkpoint keys of others as a table: read forwards to load, backwards to write, every key exactly once.

    Row("model.encoder.layers.{}.fc1.weight", "encoder.{}.feed_forward.expand.weight")
    Row("lm_head.weight", None)                                  a copy of another tensor: dropped, by its full name
    Row("attn.qkv.weight", ("query.weight", "key.weight"))       one tensor there, several here, stacked on axis 0
    Row("final_logits_bias", "output_head.bias", (1, -1))        the same numbers, in another shape there
    Row("LayerNorm.gamma", "norm.weight", read_only=True)        an older name: read, and written under its newer one
    Row("fc.weight", "expand.weight", transposed=True)           a matrix whose rows are columns there

`{}` stands for a layer number. Names match whole, never by their ending.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trasluz.errors import ModelError

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Row:
    """One kind of key: its name there, its name or names here (None: a copy that is not read), its shape there.

    What is `transposed` is stacked as it is here, and then turned.
    """

    theirs: str
    ours: str | tuple[str, ...] | None
    their_shape: tuple[int, ...] | None = None
    read_only: bool = False
    transposed: bool = False


@dataclass(frozen=True)
class _Entry:
    """A row whose layer number is known."""

    theirs: str
    ours: tuple[str, ...]
    their_shape: tuple[int, ...] | None
    transposed: bool


class KeyMap:
    """The table of one architecture; the order of the rows means nothing."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = tuple(rows)
        self._readers = [(row, _pattern(row.theirs)) for row in self.rows]
        self._writers = [
            (row, _pattern(ours[0]))
            for row in self.rows
            if not row.read_only and (ours := (row.ours,) if isinstance(row.ours, str) else row.ours)
        ]

    def read(self, theirs: Mapping[str, Tensor], wanted: Shapes, place: str) -> dict[str, Tensor]:
        """Return their tensors under our names, exactly those of `wanted`, in its shapes.

        Raises ModelError naming `place` and the keys that are missing, unexpected, or of another shape.
        """
        entries, unexpected = self._entries(theirs)
        found = {name for entry in entries for name in entry.ours}
        unexpected += [entry.theirs for entry in entries if not set(entry.ours) <= wanted.keys()]
        missing = self._their_names(name for name in wanted if name not in found)
        if missing or unexpected:
            parts = [f"it lacks {_listed(missing)}"] if missing else []
            parts += [f"it has {_listed(unexpected)}, unknown here"] if unexpected else []
            raise ModelError(f"{place} holds the weights of another model: {' and '.join(parts)}.")
        tensors: dict[str, Tensor] = {}
        for entry in entries:
            tensor = theirs[entry.theirs]
            shapes = [tuple(wanted[name]) for name in entry.ours]
            stacked = (sum(shape[0] for shape in shapes), *shapes[0][1:]) if len(shapes) > 1 else shapes[0]
            expected = _their_shape(stacked, entry.their_shape)
            if entry.transposed:
                expected = expected[::-1]
            if tuple(tensor.shape) != expected:
                raise ModelError(
                    f"{place}: {entry.theirs} has shape {list(tensor.shape)}, but the config asks for {list(expected)}."
                )
            if entry.transposed:
                tensor = tensor.T
            pieces = [tensor]
            if len(shapes) > 1:
                pieces = list(torch.split(tensor.reshape(stacked), [shape[0] for shape in shapes]))
            for name, shape, piece in zip(entry.ours, shapes, pieces, strict=True):
                tensors[name] = piece.reshape(shape)
        return tensors

    def write(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return our tensors under their names; the table backwards."""
        tensors: dict[str, Tensor] = {}
        used: set[str] = set()
        for name in ours:
            for row, pattern in self._writers:
                match = pattern.fullmatch(name)
                if match is None:
                    continue
                entry = _entry(row, match)
                tensor = ours[name] if len(entry.ours) == 1 else torch.cat([ours[part] for part in entry.ours])
                tensor = tensor.reshape(_their_shape(tuple(tensor.shape), entry.their_shape))
                tensors[entry.theirs] = tensor.T.contiguous() if entry.transposed else tensor
                used.update(entry.ours)
        unknown = [name for name in ours if name not in used]
        assert not unknown, f"the table has no row for {_listed(unknown)}"
        return tensors

    def _entries(self, theirs: Iterable[str]) -> tuple[list[_Entry], list[str]]:
        entries: list[_Entry] = []
        unexpected: list[str] = []
        for key in theirs:
            matches = [(row, match) for row, pattern in self._readers if (match := pattern.fullmatch(key))]
            if not matches:
                unexpected.append(key)
                continue
            assert len(matches) == 1, f"two rows of the table match {key}"
            row, match = matches[0]
            if row.ours is not None:
                entries.append(_entry(row, match))
        return entries, unexpected

    def _their_names(self, names: Iterable[str]) -> list[str]:
        found: dict[str, None] = {}
        for name in names:
            keys = [
                row.theirs.format(*match.groups())
                for row in self.rows
                if not row.read_only
                for ours in ((row.ours,) if isinstance(row.ours, str) else row.ours or ())
                if (match := _pattern(ours).fullmatch(name))
            ]
            found.update(dict.fromkeys(keys or [name]))
        return list(found)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(r"(\d+)".join(re.escape(part) for part in name.split("{}")))


def _entry(row: Row, match: re.Match[str]) -> _Entry:
    numbers = match.groups()
    ours = (row.ours,) if isinstance(row.ours, str) else row.ours or ()
    names = tuple(name.format(*numbers) for name in ours)
    return _Entry(row.theirs.format(*numbers), names, row.their_shape, row.transposed)


def _their_shape(shape: tuple[int, ...], theirs: tuple[int, ...] | None) -> tuple[int, ...]:
    return shape if theirs is None else tuple(torch.empty(shape, device="meta").reshape(theirs).shape)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
