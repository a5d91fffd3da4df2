"""Parts of a text file, cut at line ends, so that several processes can read a file side by side.

Part i of n holds the lines that begin at byte size * (i - 1) / n or behind it, and before byte size * i / n: in order,
the parts are the file, and where there are more parts than lines, some are empty. Nothing that stands before a part of
a plain file is read. In an archive the bytes are those it unpacks to, so its parts are those of the plain file; what
stands before a part is unpacked and passed over.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass

from trasluz.errors import DataError
from trasluz.text.lines import LONGEST_READ, Fault, open_text, pass_line, usable, without_mark

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Part:
    """The lines of a file that begin between two bytes."""

    path: str
    size: int
    """Bytes of the whole file, unpacked."""
    begin: int
    end: int
    number: int = 1
    count: int = 1

    @classmethod
    def of(cls, path: str, number: int = 1, count: int = 1) -> "Part":
        """Return part `number`, from 1 to `count`, of a file.

        Raises DataError where it cannot be read, is UTF-16, or is a pipe, in which nobody can go back.
        """
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise DataError(f"{path} is no regular file, which could be read in parts; pipe it to standard input.")
        with open_text(path) as file:
            without_mark(file.readline(4), path)
            size = file.seek(0, io.SEEK_END)
        return cls(path, size, size * (number - 1) // count, size * number // count, number, count)

    def lines(self) -> Iterator[tuple[str | Fault, int]]:
        """Yield each line without its end, or the fault that makes it unusable, and the byte behind it."""
        with open_text(self.path) as file:
            if self.begin:
                # A line that begins right here is one that the byte before this one ends.
                file.seek(self.begin - 1)
                pass_line(file)
            while (begin := file.tell()) < self.end:
                line = file.readline(LONGEST_READ)
                if begin == 0:
                    line = without_mark(line, self.path)
                if line:
                    yield usable(line, file), file.tell()

    def lines_before(self) -> int:
        """Count the lines before this part; all that stands there is read."""
        if not self.begin:
            return 0
        ends, left = 0, self.begin - 1
        with open_text(self.path) as file:
            while left and (block := file.read(min(left, _BLOCK))):
                ends += block.count(b"\n")
                left -= len(block)
        return ends + 1
