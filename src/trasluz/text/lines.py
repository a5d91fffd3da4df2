"""Lines of text files, one at a time: opened whatever their compression, each either good text or a stated fault.

A file is UTF-8, with or without a byte order mark; a line ends in LF or CRLF; nothing longer than LINE_LIMIT is held.
"""

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator

from trasluz.errors import DataError

LINE_LIMIT = 1_000_000
"""Bytes; a longer line is a fault, not a sentence."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Fault(str):
    """Why a line cannot be used, in a few words; a string of its own type, so that no text is taken for one."""

    __slots__ = ()


INVALID_UTF8 = Fault("invalid UTF-8")
NUL = Fault("NUL character")
TOO_LONG = Fault(f"line over {LINE_LIMIT:,} bytes")


def read_lines(path: str) -> Iterator[str | Fault]:
    """Yield each line without its end, or the fault that makes it unusable.

    Raises DataError where the file cannot be opened, is a damaged archive or is UTF-16.
    """
    try:
        with _open(path) as file:
            line = file.readline(LINE_LIMIT + 2)
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError(f"{path} is UTF-16; a UTF-8 file was expected.")
            line = line.removeprefix(_BYTE_ORDER_MARK)
            while line:
                if len(line) > LINE_LIMIT and _is_too_long(line, file):
                    yield TOO_LONG
                elif b"\0" in line:
                    yield NUL
                else:
                    try:
                        text = line.decode()
                    except UnicodeDecodeError:
                        yield INVALID_UTF8
                    else:
                        yield text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
                line = file.readline(LINE_LIMIT + 2)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise DataError(f"there is no file {path}.") from None
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None


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
    rest = beginning
    while rest and not rest.endswith(b"\n"):
        rest = file.readline(LINE_LIMIT)
    return True
