"""What holds for the options of every call that decodes: names that there are, numbers that are numbers."""

import contextlib
import math
from collections.abc import Collection, Iterable
from typing import Any

from trasluz.errors import RequestError, nearest


def check_names(options: Iterable[str], known: Collection[str]) -> None:
    """Raise RequestError for an option that there is not, with the nearest that there is."""
    for name in options:
        if name not in known:
            close = nearest(name, known)
            hint = f" Did you mean {close}?" if close else f" There are {', '.join(known)}."
            raise RequestError(f"there is no option {name!r}.{hint}")


def number(name: str, value: Any, kind: type) -> Any:
    """Return an option's value as its kind; RequestError for what is no number, or no whole one where one is needed."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Python makes no whole number of inf and nan, and no float of the largest whole ones.
        with contextlib.suppress(OverflowError, ValueError):
            found = kind(value)
            if math.isfinite(found) and (kind is float or found == value):
                return found
    raise RequestError(f"`{name}` must be a {'number' if kind is float else 'whole number'}, but is {value!r}.")


def count(name: str, value: Any) -> int:
    """Return a whole number from 1 up; RequestError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RequestError(f"`{name}` must be a whole number from 1 up, but is {value!r}.")
    return value


def prompts_of(given: Any) -> list[str]:
    """Return one prompt or several as a list; RequestError for what is no text."""
    prompts = [given] if isinstance(given, str) else given
    if not isinstance(prompts, list | tuple) or not all(isinstance(one, str) for one in prompts):
        raise RequestError(f"the prompt must be a text or a list of texts, but is {given!r}.")
    return list(prompts)


def one_prompt(given: Any) -> str:
    """Return a prompt; RequestError for what is no text, or several."""
    if not isinstance(given, str):
        raise RequestError(f"the prompt must be a text, one that is gone on with piece by piece, but is {given!r}.")
    return given


def stop_strings(name: str, given: Any) -> tuple[str, ...]:
    """Return one string or several as a tuple; RequestError for what no text could end before."""
    strings = (given,) if isinstance(given, str) else given
    if not isinstance(strings, Iterable):
        raise RequestError(f"`{name}` must be a text or a list of texts, but is {given!r}.")
    strings = tuple(strings)
    for string in strings:
        if not isinstance(string, str) or not string:
            raise RequestError(f"`{name}` holds {string!r}; texts of one character at least were expected.")
    return strings
