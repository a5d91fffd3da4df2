"""Readers: pairs and texts, one at a time, out of whatever files a `data` entry names, with the place of each.

A malformed line stops the reading with its file and line, or is skipped and counted, as told. Malformed is: an empty
side, a NUL character, invalid UTF-8, a line over 1 MB, a missing column, what is no JSON object, an answer that does
not stand where it is said to. Moses files of unequal length are always refused. CRLF line ends and a byte order mark
are not worth a word.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from trasluz.errors import DataError, RequestError, nearest
from trasluz.text.data_naming import DataFile, Entry, find_files
from trasluz.text.lines import Fault
from trasluz.text.row import Row
from trasluz.text.rows import read_rows

_SHOWN_EXAMPLES = 5

Check = Callable[[Sequence[Any]], Fault | None]
"""What finds the fault of a row's cells, where they have one that only their task knows."""


class Place(NamedTuple):
    """Where something was read."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class Pair(NamedTuple):
    """A sentence and its translation."""

    source: str
    target: str
    place: Place


class Record(NamedTuple):
    """One example of any shape: its cells, in the order of the columns asked for."""

    cells: Sequence[Any]
    place: Place


class Text(NamedTuple):
    """One text."""

    text: str
    place: Place


class Document(NamedTuple):
    """A text of several lines, which are sentences or paragraphs of it."""

    lines: tuple[str, ...]
    place: Place


@dataclass
class ReadReport:
    """What was read, kept and left out; filled while the reader runs."""

    read: int = 0
    kept: int = 0
    other_sources: int = 0
    """Rows of a source that is not on the list of allowed ones."""
    reasons: Counter[str] = field(default_factory=Counter)
    """How many rows were malformed, by reason."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """The first places of each reason, as file:line."""
    kept_by_source: Counter[str] = field(default_factory=Counter)
    left_by_source: Counter[str] = field(default_factory=Counter)

    @property
    def malformed(self) -> int:
        """Return how many rows were malformed."""
        return self.reasons.total()

    def summary(self) -> str:
        """Return one line for people, with the places of the first malformed lines."""
        parts = [f"{self.kept:,} of {self.read:,} read"]
        if self.other_sources:
            parts.append(f"{self.other_sources:,} of other sources")
        for reason, count in self.reasons.most_common():
            shown = ", ".join(self.examples[reason])
            parts.append(
                f"{count:,} left out: {reason} ({shown}{', ...' if count > len(self.examples[reason]) else ''})"
            )
        return "; ".join(parts)

    def _add_malformed(self, row: Row, reason: str) -> None:
        self.reasons[reason] += 1
        places = self.examples.setdefault(reason, [])
        if len(places) < _SHOWN_EXAMPLES:
            places.append(row.where)


def read_pairs(
    entry: Entry,
    languages: Sequence[str] = ("en", "es"),
    *,
    sources: Collection[str] | None = None,
    on_error: str = "stop",
    report: ReadReport | None = None,
) -> Iterator[Pair]:
    """Yield the sentence pairs of a `data` entry, in order; only rows whose column `source` is in `sources`.

    Raises DataError for what cannot be read, for nothing left at all, and with on_error="stop" for a malformed line.
    """
    files = find_files(entry, languages)
    rows = _read(files, languages, sources, on_error, report or ReadReport())
    return (Pair(row.cells[0], row.cells[1], Place(row.path, row.line)) for row in rows)


def read_texts(
    entry: Entry,
    *,
    column: str = "text",
    sources: Collection[str] | None = None,
    on_error: str = "stop",
    report: ReadReport | None = None,
    whole_files: bool = False,
) -> Iterator[Text]:
    """Yield the texts of a `data` entry, in order: lines of plain files, one column of tables.

    With `whole_files` a plain file is one text, with its line ends, which are line feeds then. Errors are those of
    `read_pairs`.
    """
    files = find_files(entry)
    if whole_files:
        files = [replace(file, format="file") if file.format in ("text", "moses") else file for file in files]
    rows = _read(files, (column,), sources, on_error, report or ReadReport())
    return (Text(row.cells[0], Place(row.path, row.line)) for row in rows)


def read_documents(
    entry: Entry,
    *,
    sources: Collection[str] | None = None,
    on_error: str = "stop",
    report: ReadReport | None = None,
) -> Iterator[Document]:
    """Yield the documents of a `data` entry, in order; none of their lines is empty.

    In plain files an empty line stands between two documents; in tables each column `text` is one. Errors are those of
    `read_pairs`.
    """
    files = [
        replace(file, format="documents") if file.format in ("text", "moses") else file for file in find_files(entry)
    ]
    for row in _read(files, ("text",), sources, on_error, report or ReadReport()):
        lines = tuple(line for line in row.cells[0].split("\n") if line.strip())
        yield Document(lines, Place(row.path, row.line))


def read_records(
    entry: Entry,
    columns: Sequence[str],
    *,
    sources: Collection[str] | None = None,
    on_error: str = "stop",
    report: ReadReport | None = None,
    check: Check | None = None,
) -> Iterator[Record]:
    """Yield the wanted columns of a `data` entry's rows, in order; errors are those of `read_pairs`.

    A row in whose cells `check` finds a fault is malformed, too.
    """
    rows = _read(find_files(entry), columns, sources, on_error, report or ReadReport(), check)
    return (Record(row.cells, Place(row.path, row.line)) for row in rows)


def _read(
    files: list[DataFile],
    names: Sequence[str],
    sources: Collection[str] | None,
    on_error: str,
    report: ReadReport,
    check: Check | None = None,
) -> Iterator[Row]:
    """Return the good rows of all files; settings are checked before the first is asked for."""
    if on_error not in ("stop", "skip"):
        raise RequestError(f"`on_error` is {on_error!r}; it can be stop or skip.")
    allowed = None if sources is None else frozenset([sources] if isinstance(sources, str) else sources)
    return _good_rows(files, names, allowed, on_error == "stop", report, check)


def _good_rows(
    files: list[DataFile],
    names: Sequence[str],
    allowed: frozenset[str] | None,
    stops: bool,
    report: ReadReport,
    check: Check | None,
) -> Iterator[Row]:
    kept_before = report.kept
    for file in files:
        rows_of_file = 0
        for row in read_rows(file, names):
            rows_of_file += 1
            report.read += 1
            if check is not None and not isinstance(row.cells, Fault):
                fault = check(row.cells)
                row = row if fault is None else row.with_fault(fault)
            if allowed is not None and not _is_allowed(row, allowed, report):
                continue
            if isinstance(row.cells, Fault):
                if stops:
                    wrong = f"{row.cells}{row.cells.detail}"
                    end = "" if wrong.endswith("?") else "."
                    raise DataError(f"{row.where}: {wrong}{end} Correct it, or set `on_error` to skip.")
                report._add_malformed(row, row.cells)
                continue
            report.kept += 1
            yield row
        if not rows_of_file:
            raise DataError(f"{file.name} is empty: at least one line was expected.")
    if report.kept == kept_before:
        raise DataError(_nothing_left(files, allowed, report))


def _is_allowed(row: Row, allowed: frozenset[str], report: ReadReport) -> bool:
    if row.source is None:
        if isinstance(row.cells, Fault):
            return True
        raise DataError(
            f"{row.path} has no column source, by which only {', '.join(sorted(allowed))} shall be kept: "
            f"name its source, as in {{path: {row.path}, source: NAME}}."
        )
    if row.source in allowed:
        report.kept_by_source[row.source] += not isinstance(row.cells, Fault)
        return True
    report.other_sources += 1
    report.left_by_source[row.source] += 1
    return False


def _nothing_left(files: list[DataFile], allowed: frozenset[str] | None, report: ReadReport) -> str:
    names = ", ".join(file.name for file in files[:3]) + (", ..." if len(files) > 3 else "")
    if allowed is not None and report.other_sources:
        found = [source for source, _ in report.left_by_source.most_common(10)]
        close = nearest(min(allowed), found) if allowed else None
        hint = f"did you mean {close}?" if close else f"found: {', '.join(found)}."
        return f"no row of {names} is of an allowed source ({', '.join(sorted(allowed))}): {hint}"
    return f"nothing is left of {names}: {report.summary()}."
