"""Texts in and answers out: arguments or standard input, in order, as they arrive."""

import contextlib
import json
import os
import queue
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from trasluz.errors import DataError, RequestError
from trasluz.files import atomic_write

T = TypeVar("T")

# Lines that wait together are worked on together; more would delay the first answer and gain little.
MOST_TOGETHER = 256

_END = None

_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_BLANKS = str.maketrans(dict.fromkeys(_LINE_ENDS, " "))
# Of these JSON itself escapes those below a blank only.
_ESCAPES = str.maketrans({end: f"\\u{ord(end):04x}" for end in _LINE_ENDS})


def input_texts(texts: Sequence[str], *, prompt: str = "> ") -> Iterator[list[str]]:
    """Give the texts to work on, in groups: the arguments, else the lines of standard input as they arrive.

    From a pipe, a group is what has already arrived (at most MOST_TOGETHER lines), so that a slow writer is answered
    line by line and a fast one in full batches. On a terminal every line is a group, after a prompt; Ctrl-D ends.
    """
    if texts:
        for number, text in enumerate(texts, start=1):
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise DataError(f"text:{number}: the text is not UTF-8; convert it first.")
        yield list(texts)
    elif sys.stdin.isatty():
        yield from _prompted_lines(prompt)
    else:
        yield from _arriving_lines()


def first_text(*, prompt: str = "> ") -> tuple[str, bool]:
    """Return the first line of standard input, and whether others are known to follow.

    Of a pipe that is known only if they came along: whoever writes it may keep it open, and nobody waits for that.
    """
    groups = input_texts([], prompt=prompt)
    first = next(groups, [""])
    more = len(first) > 1
    if not more and not sys.stdin.isatty():
        with contextlib.suppress(OSError, ValueError):
            is_file = stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode)
            more = is_file and next(groups, None) is not None
    return first[0], more


def answered(work: Callable[[list[str]], Sequence[T]], texts: Sequence[str], *, prompt: str = "> ") -> Iterator[T]:
    """Give what `work` makes of every text, in order, as they arrive; an error names the line that it is about."""
    place = "text" if texts else "standard input"
    number = 0
    for group in input_texts(texts, prompt=prompt):
        try:
            results = work(group)
        except RequestError:
            # One of the group; those before it are still answered.
            for text in group:
                number += 1
                try:
                    yield from work([text])
                except RequestError as error:
                    raise RequestError(f"{place}:{number}: {error}") from error
        else:
            number += len(group)
            yield from results


def in_one_line(text: str) -> str:
    """Return a text with a blank for each character that `str.splitlines` takes for a line's end."""
    return text.translate(_BLANKS)


def answer(line: str) -> None:
    """Write one line of results; it leaves at once, as the reader may be waiting for it."""
    sys.stdout.write(in_one_line(line) + "\n")
    sys.stdout.flush()


def answer_json(value: dict[str, Any]) -> None:
    """Write one result as one line of JSON."""
    answer(json.dumps(value, ensure_ascii=False).translate(_ESCAPES))


def remark(line: str, *, quiet: bool = False) -> None:
    """Tell people something that is no result: it goes to standard error, or nowhere with --quiet."""
    if not quiet:
        print(line, file=sys.stderr, flush=True)


def progress(items: Iterable[T], total: int, what: str, *, quiet: bool) -> Iterator[T]:
    """Show how far the work has come, where somebody sees it."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, what, total, console=console, transient=True, disable=quiet or not console.is_terminal)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines into a file that appears only when all are there."""
    with atomic_write(path, "w", follow_links=True) as file:
        file.writelines(f"{line}\n" for line in lines)


def _prompted_lines(prompt: str) -> Iterator[list[str]]:
    # Only for its effect on input(): line editing and history.
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    while True:
        try:
            if sys.stdout.isatty():
                line = input(prompt)
            else:  # the answers go to a file; the prompt must not
                print(prompt, end="", file=sys.stderr, flush=True)
                line = input()
        except EOFError:
            print(file=sys.stderr)
            return
        yield [line]


def _arriving_lines() -> Iterator[list[str]]:
    arrived: queue.Queue[str | Exception | None] = queue.Queue(maxsize=4 * MOST_TOGETHER)
    # A daemon: whoever leaves early (an error, Ctrl-C) does not wait for a line that may never come.
    threading.Thread(target=_read_lines, args=(_own_input(), arrived), daemon=True).start()
    ended = False
    while not ended:
        group: list[str] = []
        item = arrived.get()
        while isinstance(item, str):
            group.append(item)
            if len(group) == MOST_TOGETHER or arrived.empty():
                break
            item = arrived.get()
        if group:
            yield group
        if isinstance(item, Exception):
            raise item
        ended = item is _END


def _own_input() -> Iterable[bytes]:
    """Return a reader of standard input for the thread alone.

    Python closes sys.stdin when it ends, and aborts where a thread that still waits holds its lock.
    """
    try:
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except (OSError, AttributeError):
        # Standard input is no file of the system's: somebody has put another object in its place.
        return sys.stdin.buffer


def _read_lines(lines: Iterable[bytes], arrived: "queue.Queue[str | Exception | None]") -> None:
    try:
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                arrived.put(
                    DataError(
                        f"standard input:{number}: byte {error.start + 1} of the line is not UTF-8; convert it first."
                    )
                )
                return
            arrived.put(text.rstrip("\r\n"))
        arrived.put(_END)
    except Exception as error:  # told to the thread that works, which explains it
        arrived.put(error)
