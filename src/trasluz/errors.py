"""Every error a user can cause, as one tree; command line and server turn each into one or two plain sentences.

    TrasluzError
    ├── RequestError   the request was wrong: an option, a file, a key      exit code 2
    │   ├── RecipeError    a recipe's key or value
    │   ├── DataError      a data file, with file:line
    │   └── ModelError     a model folder, checkpoint or preset
    └── WorkError      the request was right and the work failed             exit code 1
        ├── TrainingError  training diverged or could not go on
        └── WriteError     a file could not be written

A message says what is wrong with its value, where, and what would be right.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class TrasluzError(Exception):
    """The root: whoever catches it has caught every mistake that trasluz explains."""

    exit_code: ClassVar[int] = 1


class RequestError(TrasluzError):
    """An option, a file or a key is wrong; nothing was begun.

    `keys` are those, of a mapping that was given, which the message is about.
    """

    exit_code = 2

    def __init__(self, message: str, *keys: str) -> None:
        super().__init__(message)
        self.keys = keys


class RecipeError(RequestError):
    """A recipe's key or value is wrong."""


class DataError(RequestError):
    """A data file cannot be read as asked; the message names file and line."""


class ModelError(RequestError):
    """A model name, folder or checkpoint cannot be used."""


class WorkError(TrasluzError):
    """The request was right, and the work failed."""


class TrainingError(WorkError):
    """Training cannot go on."""


class WriteError(WorkError):
    """A file could not be written; what stood there before still stands."""


class TrasluzWarning(UserWarning):
    """Something worth knowing, though all goes well; Python shows each once, the command line as one plain line."""


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the known name closest to a misspelt one, or None when none is close."""
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return found[0] if found else None
