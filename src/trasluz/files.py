"""Files written whole or not at all: a temporary sibling is written, synced to disk, then renamed into place."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from trasluz.errors import WriteError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb", *, follow_links: bool = False) -> Iterator[IO[Any]]:
    """Open a file that appears under `path` only when the block ends well.

    A pipe or a device is written to as it is. A link is replaced, or with `follow_links`, what it points to: that is
    for files that people name. Raises WriteError, naming path and cause, where the system refuses (full disk, read-only
    folder); what stood at `path` before is then untouched.
    """
    target = Path(os.path.realpath(path)) if follow_links else Path(path)
    temporary: Path | None = None
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            with target.open(mode, encoding=None if "b" in mode else "utf-8") as stream:
                yield stream
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a written file gets the permissions that open() would have given.
        temporary.chmod(0o666 & ~_current_umask())
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty temporary folder that takes the place of `path` only when the block ends well.

    Raises WriteError where the system refuses.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync_file(file)
        temporary.chmod(0o777 & ~_current_umask())
        if target.exists():
            # A folder cannot be replaced in one step: the old one steps aside first, so a whole one always exists.
            aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
            os.replace(target, aside / target.name)
            os.replace(temporary, target)
            # Under the other name nobody takes it for one to put back, even half deleted.
            os.replace(aside / target.name, temporary)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def clear_leftover(leftover: Path) -> None:
    """Delete what a kill inside `atomic_folder` left behind; an old folder that nothing replaced is put back first.

    Raises WriteError where the system refuses that.
    """
    try:
        # Only in what an old folder stepped into lies one of the name that this began with.
        name = leftover.name[1:].rsplit(".", 2)[0]
        aside, target = leftover / name, leftover.parent / name
        if aside.is_dir() and not target.exists():
            os.replace(aside, target)
            sync_folder(target.parent)
    except OSError as error:
        raise write_error(leftover, error) from error
    shutil.rmtree(leftover, ignore_errors=True)


def lock(file: IO[Any]) -> bool:
    """Lock a file for this process for as long as it is open; return False where another process holds it.

    On systems without flock, and on file systems that refuse it, nothing is held.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def sync_folder(path: Path) -> None:
    """Let the names in a folder reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_error(path: str | os.PathLike[str], error: OSError) -> WriteError:
    """Return the sentence for a refused write."""
    # Libraries that write files by themselves tell no number, but the system's words.
    full = any(error.errno == kind or os.strerror(kind) in str(error) for kind in (errno.ENOSPC, errno.EDQUOT))
    remedy = "Free some space" if full else "Choose a folder you may write to"
    return WriteError(
        f"cannot write {os.fspath(path)}: {error.strerror or error}. {remedy}; nothing that was there has been changed."
    )


def _current_umask() -> int:
    # There is no call that only reads the mask.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
