"""One process a run folder: the lock goes with the process, however it ends."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from trasluz.errors import RequestError
from trasluz.files import lock, write_error


@contextlib.contextmanager
def run_lock(output: Path) -> Iterator[None]:
    """Hold the lock of a run folder; raises RequestError while another process holds it.

    A run that ends before it has written anything leaves no folder behind.
    """
    path = output / "checkpoints" / ".lock"
    new = not output.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise write_error(output, error) from error
    with file:
        if not lock(file):
            raise RequestError(
                f"{output} is being trained by another process: wait for it or stop it, or choose another output"
            )
        try:
            yield
        finally:
            if new and list(output.rglob("*")) == [path.parent, path]:
                path.unlink()
                path.parent.rmdir()
                output.rmdir()
