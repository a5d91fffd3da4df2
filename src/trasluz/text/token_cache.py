"""The token cache: a corpus as ids in memory-mapped files, written once in a stream and read at any place.

tokens.json      counts, sizes, fingerprint of the data and tokenizer that it was made from
source.ids       the ids of all sentences one behind the other, 16 bits each where they fit, else 32
source.offsets   where each sentence begins, 64 bits each; one more at the end
target.ids ...   the same for every other column
"""

import contextlib
import json
import mmap
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Bool, Int32, Integer

from trasluz.errors import DataError
from trasluz.files import atomic_folder

Ids = Sequence[int] | Integer[np.ndarray, "_"]

FORMAT = 1
_NARROW, _WIDE, _OFFSET = np.dtype("<u2"), np.dtype("<u4"), np.dtype("<i8")
# Rows and ids held in memory while writing.
_BUFFERED_ROWS = 8192
_BUFFERED_IDS = 1 << 20
# Every look into the map brings up to 64 KiB of file into this process's memory: they are let go after so many looks.
_LOOKS = 1024


class TokenCache(Sequence[tuple[Any, ...]]):
    """Rows of id sequences, one sequence a column, on disk; `cache[i]` is a tuple of arrays."""

    def __init__(self, folder: Path, description: dict[str, Any]) -> None:
        """Map the files of a folder; use `open` or `build`."""
        self.folder = folder
        self.fingerprint: str = description["fingerprint"]
        self.names: tuple[str, ...] = tuple(description["columns"])
        self._rows: int = description["rows"]
        self._maps: list[mmap.mmap] = []
        self._looks = 0
        self._ids: list[Integer[np.ndarray, "_"]] = []
        self._offsets: list[Integer[np.ndarray, "_"]] = []
        for name, column in description["columns"].items():
            self._ids.append(self._map(f"{name}.ids", np.dtype(column["dtype"]), column["ids"]))
            self._offsets.append(self._map(f"{name}.offsets", _OFFSET, self._rows + 1))

    @classmethod
    def build(
        cls,
        folder: str | Path,
        columns: Iterable[tuple[Ids, ...]],
        fingerprint: str,
        names: Sequence[str] = ("source", "target"),
    ) -> "TokenCache":
        """Write the rows, each a tuple with the ids of every column, and open the result.

        The memory needed does not grow with the rows. The folder appears whole or not at all.
        """
        with atomic_folder(folder) as temporary, contextlib.ExitStack() as stack:
            writers = [stack.enter_context(_ColumnWriter(temporary, name)) for name in names]
            rows = 0
            for block in _blocks(columns):
                rows += len(block)
                for writer, sequences in zip(writers, zip(*block, strict=True), strict=True):
                    writer.write(sequences)
            described = {writer.name: writer.finish() for writer in writers}
            description = {"format": FORMAT, "fingerprint": fingerprint, "rows": rows, "columns": described}
            (temporary / "tokens.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> "TokenCache":
        """Open a cache for reading. Raises DataError where it is not there, of another version, or damaged."""
        folder = Path(folder)
        path = folder / "tokens.json"
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            if description["format"] != FORMAT:
                raise DataError(f"{path} has format {description['format']}; {FORMAT} was expected: {_ADVICE}")
            return cls(folder, description)
        except FileNotFoundError as error:
            raise DataError(f"{error.filename} is missing, so that {folder} is no token cache.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} cannot be read ({error}): {_ADVICE}") from None

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        """Return the ids of one row, an array for each column, to be read only."""
        row = range(self._rows)[index]
        self._looks += 1
        if self._looks >= _LOOKS:
            self._let_go()
        return tuple(
            ids[offsets[row] : offsets[row + 1]] for ids, offsets in zip(self._ids, self._offsets, strict=True)
        )

    def lengths(self, name: str) -> Int32[np.ndarray, "rows"]:
        """Return how many ids each row has in a column."""
        offsets = self._offsets[self.names.index(name)]
        lengths = np.empty(self._rows, dtype=np.int32)
        for start in range(0, self._rows, _BUFFERED_IDS):
            end = min(start + _BUFFERED_IDS, self._rows)
            lengths[start:end] = np.diff(offsets[start : end + 1])
        self._let_go()
        return lengths

    def begins_with(self, name: str, token: int) -> Bool[np.ndarray, "rows"]:
        """Tell which rows of a column have this id at their beginning."""
        column = self.names.index(name)
        ids, offsets = self._ids[column], self._offsets[column]
        found = np.zeros(self._rows, dtype=bool)
        for start in range(0, self._rows, _BUFFERED_IDS):
            borders = offsets[start : min(start + _BUFFERED_IDS, self._rows) + 1]
            filled = np.flatnonzero(np.diff(borders))
            found[start + filled] = ids[borders[filled]] == token
            self._let_go()
        return found

    def num_ids(self, name: str) -> int:
        """Return how many ids a column has in all."""
        return len(self._ids[self.names.index(name)])

    def ids_at(self, name: str, places: Integer[np.ndarray, "..."]) -> Integer[np.ndarray, "..."]:
        """Return the ids of a column at these places, counted over all its rows one behind the other."""
        self._looks += 1
        if self._looks >= _LOOKS:
            self._let_go()
        return self._ids[self.names.index(name)][places]

    def row_of(self, name: str, place: int) -> int:
        """Return the row in which the id at such a place lies."""
        return int(np.searchsorted(self._offsets[self.names.index(name)], place, side="right")) - 1

    def _map(self, name: str, dtype: np.dtype[Any], count: int) -> Integer[np.ndarray, "_"]:
        path = self.folder / name
        size, expected = path.stat().st_size, count * dtype.itemsize
        if size != expected:
            raise DataError(f"{path} has {size:,} bytes where {expected:,} were expected: {_ADVICE}")
        if not count:
            return np.empty(0, dtype=dtype)
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._maps.append(mapped)
        return np.frombuffer(mapped, dtype=dtype)

    def _let_go(self) -> None:
        """Give the pages looked at back to the system; they come again when looked at again."""
        self._looks = 0
        if hasattr(mmap, "MADV_DONTNEED"):
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)


_ADVICE = "delete the folder, and it will be made anew."


class _ColumnWriter:
    """One column on its way to disk; ids are written narrow until one does not fit."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.dtype: np.dtype[Any] = _NARROW
        self.count = 0
        self.ids: BinaryIO = (folder / f"{name}.ids").open("wb")
        self.offsets: BinaryIO = (folder / f"{name}.offsets").open("wb")
        self.offsets.write(np.zeros(1, _OFFSET).tobytes())

    def __enter__(self) -> "_ColumnWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.ids.close()
        self.offsets.close()

    def write(self, sequences: Sequence[Ids]) -> None:
        lengths = np.fromiter(map(len, sequences), _OFFSET, len(sequences))
        if isinstance(sequences[0], np.ndarray):
            ids: Integer[np.ndarray, "_"] = np.concatenate(sequences)
        else:
            ids = np.fromiter(chain.from_iterable(sequences), _WIDE, int(lengths.sum()))
        if self.dtype == _NARROW and ids.dtype.itemsize > 2 and len(ids) and int(ids.max()) > np.iinfo(_NARROW).max:
            self._widen()
        self.ids.write(ids.astype(self.dtype, copy=False).tobytes())
        self.offsets.write((np.cumsum(lengths) + self.count).astype(_OFFSET).tobytes())
        self.count += len(ids)

    def finish(self) -> dict[str, Any]:
        self.ids.flush()
        self.offsets.flush()
        return {"dtype": self.dtype.str, "ids": self.count}

    def _widen(self) -> None:
        """Write the ids so far again with 32 bits each."""
        self.ids.close()
        narrow, wide = self.folder / f"{self.name}.ids", self.folder / f"{self.name}.wide"
        with narrow.open("rb") as old, wide.open("wb") as new:
            while block := old.read(_BUFFERED_IDS):
                new.write(np.frombuffer(block, _NARROW).astype(_WIDE).tobytes())
        wide.replace(narrow)
        self.ids = narrow.open("ab")
        self.dtype = _WIDE


def _blocks(rows: Iterable[tuple[Ids, ...]]) -> Iterator[list[tuple[Ids, ...]]]:
    """Yield the rows in lists that stay small in rows and in ids."""
    block: list[tuple[Ids, ...]] = []
    size = 0
    for row in rows:
        block.append(row)
        size += sum(map(len, row))
        if len(block) >= _BUFFERED_ROWS or size >= _BUFFERED_IDS:
            yield block
            block, size = [], 0
    if block:
        yield block
