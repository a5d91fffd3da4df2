"""Lines of text files, one at a time: opened whatever their compression, each either good text or a stated fault.

A file is UTF-8, with or without a byte order mark; a line ends in LF or CRLF; nothing longer than LINE_LIMIT is held.
"""

import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator

from trasluz.errors import DataError

LINE_LIMIT = 1_000_000
"""Bytes; a longer line is a fault, not a sentence."""

LONGEST_READ = LINE_LIMIT + 2
"""Bytes of the longest good line with its end."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Fault(str):
    """Why a line cannot be used, in a few words; a string of its own type, so that no text is taken for one.

    `detail` is what only this line has of it, which a count of such faults does not tell; `part` is the number of the
    word it is about, where a row is made of several lines with a word each.
    """

    detail: str
    part: int

    def __new__(cls, reason: str, detail: str = "", part: int = 0) -> "Fault":
        fault = super().__new__(cls, reason)
        fault.detail = detail
        fault.part = part
        return fault


INVALID_UTF8 = Fault("invalid UTF-8")
NUL = Fault("NUL character")
TOO_LONG = Fault(f"line over {LINE_LIMIT:,} bytes")


def read_lines(path: str) -> Iterator[str | Fault]:
    """Yield each line without its end, or the fault that makes it unusable.

    Raises DataError where the file cannot be opened, is a damaged archive or is UTF-16.
    """
    with open_text(path) as file:
        line = without_mark(file.readline(LONGEST_READ), path)
        while line:
            yield usable(line, file)
            line = file.readline(LONGEST_READ)


def read_whole(path: str) -> str | Fault:
    """Return all of a file as one text, its line ends line feeds, or the fault that makes it unusable.

    Raises DataError as `read_lines` does.
    """
    with open_text(path) as file:
        content = without_mark(file.read(), path)
    if b"\0" in content:
        return NUL
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        return INVALID_UTF8


@contextlib.contextmanager
def open_text(path: str) -> Iterator[io.BufferedIOBase]:
    """Open a file whatever its compression; raises DataError, also for what goes wrong while it is read."""
    try:
        with _open(path) as file:
            yield file
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"there is no file {path}.") from None
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def without_mark(beginning: bytes, path: str) -> bytes:
    """Return the first bytes of a file without a byte order mark; raises DataError for UTF-16."""
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16; a UTF-8 file was expected.")
    return beginning.removeprefix(_BYTE_ORDER_MARK)


def usable(line: bytes, file: io.BufferedIOBase) -> str | Fault:
    """Return the text of a line that was read with LONGEST_READ, or its fault; the rest of one too long is read."""
    if len(line) > LINE_LIMIT and _is_too_long(line, file):
        return TOO_LONG
    if b"\0" in line:
        return NUL
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return INVALID_UTF8
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def pass_line(file: io.BufferedIOBase) -> None:
    """Read on to behind the next line end."""
    while (piece := file.readline(LINE_LIMIT)) and not piece.endswith(b"\n"):
        pass


def _open(path: str) -> io.BufferedIOBase:
    lower = path.lower()
    if lower.endswith(".gz"):
        return gzip.open(path, "rb")
    if lower.endswith(".xz"):
        return lzma.open(path, "rb")
    return io.BufferedReader(io.FileIO(path), 1 << 20)


def _is_too_long(beginning: bytes, file: io.BufferedIOBase) -> bool:
    """Return whether a line is over the limit without its end, and read on to that end."""
    if beginning.endswith(b"\n"):
        return len(beginning.removesuffix(b"\n").removesuffix(b"\r")) > LINE_LIMIT
    pass_line(file)
    return True
