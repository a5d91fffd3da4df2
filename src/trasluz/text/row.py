"""One row of a data file: its wanted cells, or the fault that makes it unusable."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from trasluz.text.lines import Fault
from trasluz.text.questions import QUESTION_COLUMNS

SOURCE = "source"
WORDS_AND_TAGS = ("words", "tags")


class Row(NamedTuple):
    """One row: the wanted cells, or the fault that makes it unusable."""

    path: str
    line: int
    cells: Sequence[Any] | Fault
    source: str | None
    key: str = ""
    """The key path, in formats where it tells more than a line; `line` then counts rows."""
    lines: Sequence[int] = ()
    """The line of each word, in formats where a row is made of several."""

    @property
    def where(self) -> str:
        """Return the row's place as a message shows it."""
        return f"{self.path}: {self.key}" if self.key else f"{self.path}:{self.line}"

    def with_fault(self, fault: Fault) -> "Row":
        """Return the row as an unusable one, at the line that the fault is about."""
        return self._replace(cells=fault, line=self.lines[fault.part] if self.lines else self.line)


def empty_cell(name: str) -> Fault:
    """Return the fault of a row in which a wanted cell is empty."""
    return Fault(f"the {name} is empty" if name in ("text", *QUESTION_COLUMNS) else f"the {name} side is empty")
