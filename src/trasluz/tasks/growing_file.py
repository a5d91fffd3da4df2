"""A file that grows by whole pieces over the lives of many processes, and takes its name when it is complete.

    out.es.partial       the pieces so far
    out.es.state.json    what they are made of, how many bytes are whole, and what the writer wants to remember
    out.es               when complete; the state stays beside it and tells how it was made

A piece is synced to disk before the state counts it. Whatever ends a process, the next one cuts off what does not
count.
"""

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trasluz.errors import RequestError
from trasluz.files import atomic_write, lock, sync_folder, write_error

FORMAT = 1


class GrowingFile:
    """The file at `path`, made of what `made_of` says (anything JSON can hold); see `grow`."""

    def __init__(self, path: Path, made_of: Mapping[str, Any]) -> None:
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        self.state = path.with_name(f"{path.name}.state.json")
        self.made_of: dict[str, Any] = json.loads(json.dumps(made_of))
        self.memory: dict[str, Any] = {}
        """What the last piece was remembered with; empty before the first."""
        self.size = 0
        self._file: io.FileIO | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be done."""
        return self._file is None

    @property
    def there(self) -> Path:
        """Where the pieces are now."""
        return self.path if self.complete else self.partial

    def append(self, piece: bytes, memory: Mapping[str, Any]) -> None:
        """Add a piece for good; raises WriteError where the disk refuses, and then the piece does not count."""
        assert self._file is not None
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self.partial, error) from error
        self.size += len(piece)
        self._remember(memory)

    def finish(self) -> None:
        """Give the file its name."""
        assert self._file is not None
        try:
            os.replace(self.partial, self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise write_error(self.path, error) from error

    def begin_or_go_on(self, file: io.FileIO) -> None:
        """Take the open partial file: an empty one is begun, of any other the pieces that count are kept."""
        self._file = file
        if not file.seek(0, os.SEEK_END):
            self._remember({})
            return
        self.recall()
        if self.size > file.tell():
            raise RequestError(
                f"{self.partial} has {file.tell():,} bytes, but {self.state.name} counts {self.size:,}: it was "
                "changed. Remove it to begin anew."
            )
        file.truncate(self.size)

    def recall(self) -> None:
        """Read the state of the pieces there are; raises RequestError where they were made of anything else."""
        try:
            state = json.loads(self.state.read_text(encoding="utf-8"))
            was, self.size, self.memory = dict(state["made_of"]), int(state["bytes"]), dict(state["memory"])
            known = state["format"] == FORMAT
        except FileNotFoundError:
            raise RequestError(
                f"{self.there} is there already, and no {self.state.name} tells what it was made of: remove it, or "
                "choose another output."
            ) from None
        except (OSError, ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise RequestError(
                f"{self.state} is nothing that this version of trasluz has written: remove it and {self.there.name}, "
                "or choose another output."
            )
        different = [name for name in {**was, **self.made_of} if was.get(name) != self.made_of.get(name)]
        if different:
            shown = "; ".join(
                f"{name} was {json.dumps(was.get(name))}, now it is {json.dumps(self.made_of.get(name))}"
                for name in different
            )
            raise RequestError(
                f"{self.there} was begun by another command ({shown}): repeat that one, choose another output, or "
                f"remove {self.there.name} to begin anew."
            )

    def _remember(self, memory: Mapping[str, Any]) -> None:
        state = {"format": FORMAT, "made_of": self.made_of, "bytes": self.size, "memory": memory}
        with atomic_write(self.state, "w") as file:
            file.write(json.dumps(state, ensure_ascii=False, indent=1) + "\n")


@contextlib.contextmanager
def grow(path: Path, made_of: Mapping[str, Any]) -> Iterator[GrowingFile]:
    """Begin a file, go on with it, or find it complete; nobody else writes it meanwhile.

    Raises RequestError where another process does, and where what is there was not made of the same.
    """
    growing = GrowingFile(path, made_of)
    if path.exists():
        growing.recall()
        yield growing
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a buffer, which would try once more to write when it is closed on a full disk.
        file = growing.partial.open("ab", buffering=0)
    except OSError as error:
        raise write_error(path, error) from error
    with file:
        # Another process may have finished between the two looks: then this is no file of ours.
        if not lock(file) or path.exists():
            raise RequestError(
                f"{path} is being written by another process: wait for it, or give each process a part of its own "
                "with --shard."
            )
        growing.begin_or_go_on(file)
        yield growing
