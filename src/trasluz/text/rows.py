"""Rows of one data file in any format: the wanted columns as text, or why a row has none."""

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from trasluz.errors import DataError, nearest
from trasluz.text.data_naming import DataFile, one_side_message
from trasluz.text.hub_records import TRANSLATION, read_hub_records
from trasluz.text.lines import LINE_LIMIT, NUL, Fault, read_lines, read_whole
from trasluz.text.questions import ANSWER_COLUMNS, QUESTION_COLUMNS, answer_cell, question_cells
from trasluz.text.squad import read_squad

NO_OBJECT = Fault("no JSON object")
NOT_CSV = Fault(f"a quoted field over {LINE_LIMIT:,} characters: a quote may never be closed")
_SOURCE = "source"
WORDS_AND_TAGS = ("words", "tags")
_COLUMN_END = re.compile(r"[ \t]+")
# More is hardly one document; it would have to stand in memory as a whole.
DOCUMENT_LIMIT = 10_000_000
_TOO_MUCH = Fault(f"a document over {DOCUMENT_LIMIT:,} characters: an empty line must stand between two documents")
# Between the documents of a CoNLL file.
_DOCUMENT = "-DOCSTART-"


class Row(NamedTuple):
    """One row: the wanted cells, or the fault that makes it unusable."""

    path: str
    line: int
    cells: Sequence[Any] | Fault
    source: str | None
    key: str = ""
    """The key path, in formats where it tells more than a line; `line` then counts rows."""

    @property
    def where(self) -> str:
        """Return the row's place as a message shows it."""
        return f"{self.path}: {self.key}" if self.key else f"{self.path}:{self.line}"


def read_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file with the columns of these names (languages, or "text"), in their order.

    Raises DataError where the file as a whole cannot give them.
    """
    asks = tuple(names) == QUESTION_COLUMNS
    if asks and file.format in ("text", "moses"):
        raise DataError(
            f"{file.name} is plain text; questions with answers stand in .json as of SQuAD, in .jsonl, .tsv or .csv."
        )
    reader: Callable[[DataFile, Sequence[str]], Iterator[Row]] = {
        "text": _text_rows,
        "documents": _document_rows,
        "file": _file_rows,
        "moses": _moses_rows,
        "tsv": _tsv_rows,
        "csv": _csv_rows,
        "jsonl": _jsonl_rows,
        "conll": _conll_rows,
        "squad": _squad_rows,
        "hf": _hub_rows,
    }[file.format]
    rows = reader(file, names)
    return map(_with_answers, rows) if asks else rows


def _with_answers(row: Row) -> Row:
    """Return a row of a question with its answers as tuples, each where it is said to stand; or with its fault."""
    return row if isinstance(row.cells, Fault) else row._replace(cells=question_cells(row.cells))


def _text_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    (path,) = file.paths
    if len(names) != 1:
        raise DataError(one_side_message(path, names))
    empty = _empty(names[0])
    for number, line in enumerate(read_lines(path), 1):
        if isinstance(line, Fault):
            yield Row(path, number, line, file.source)
        else:
            yield Row(path, number, (line,) if line.strip() else empty, file.source)


def _document_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    """Yield the documents of plain files, their lines joined by line ends: an empty line stands between two."""
    for path in file.paths:
        lines: list[str] = []
        begin = size = 0
        for number, line in enumerate(itertools.chain(read_lines(path), [""]), 1):
            if isinstance(line, Fault):
                yield Row(path, number, line, file.source)
            elif line.strip():
                begin = begin or number
                size += len(line)
                if size <= DOCUMENT_LIMIT:
                    lines.append(line)
            elif begin:
                yield Row(path, begin, ("\n".join(lines),) if size <= DOCUMENT_LIMIT else _TOO_MUCH, file.source)
                lines, begin, size = [], 0, 0


def _file_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    for path in file.paths:
        text = read_whole(path)
        if isinstance(text, Fault):
            yield Row(path, 1, text, file.source)
        else:
            yield Row(path, 1, (text,) if text.strip() else _empty(names[0]), file.source)


def _moses_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    if len(names) == 1:
        for path in file.paths:
            yield from _text_rows(DataFile((path,), "text", source=file.source), names)
        return
    first, second = file.paths
    empty = _empty(names[0]), _empty(names[1])
    number = 0
    sides = read_lines(first), read_lines(second)
    for left, right in itertools.zip_longest(*sides):
        if left is None or right is None:
            surplus = 1 + sum(1 for _ in sides[0 if right is None else 1])
            counts = (number + surplus, number) if right is None else (number, number + surplus)
            # Never skipped: nobody can tell where the two went apart.
            raise DataError(
                f"{first} has {counts[0]:,} lines and {second} has {counts[1]:,}; they must be of equal length, "
                "line for line translations of each other."
            )
        number += 1
        if isinstance(left, Fault):
            yield Row(first, number, left, file.source)
        elif isinstance(right, Fault):
            yield Row(second, number, right, file.source)
        elif not left.strip():
            yield Row(first, number, empty[0], file.source)
        elif not right.strip():
            yield Row(second, number, empty[1], file.source)
        else:
            yield Row(first, number, (left, right), file.source)


def _tsv_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    def records() -> Iterator[tuple[int, list[str] | Fault]]:
        for number, line in enumerate(read_lines(file.paths[0]), 1):
            yield number, line if isinstance(line, Fault) else line.split("\t")

    return _table_rows(file, names, records())


def _csv_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    return _table_rows(file, names, _csv_records(file.paths[0]))


def _csv_records(path: str) -> Iterator[tuple[int, list[str] | Fault]]:
    """Yield each record with the line it begins in; a quoted field may go over several lines."""
    csv.field_size_limit(LINE_LIMIT)
    faults: list[tuple[int, Fault]] = []
    number = 0

    def good_lines() -> Iterator[str]:
        nonlocal number
        for number, line in enumerate(read_lines(path), 1):
            if isinstance(line, Fault):
                faults.append((number, line))
            else:
                yield line + "\n"

    lines = good_lines()
    first = next(lines, None)
    if first is not None:
        # Where the comma is the decimal sign, as in Spain, spreadsheets write semicolons.
        reader = csv.reader(
            itertools.chain([first], lines), delimiter=";" if first.count(";") > first.count(",") else ","
        )
        begin = number
        while True:
            record: list[str] | Fault | None
            try:
                record = next(reader, None)
            except csv.Error:
                record = NOT_CSV
            yield from faults
            faults.clear()
            if record is None:
                return
            yield begin, record
            begin = number + 1
    yield from faults


def _table_rows(
    file: DataFile, names: Sequence[str], records: Iterator[tuple[int, list[str] | Fault]]
) -> Iterator[Row]:
    (path,) = file.paths
    first = next(records, None)
    if first is None:
        return
    number, cells = first
    if isinstance(cells, Fault):
        if file.header is not False:
            raise DataError(f"{path}:{number}: {cells}, so that the columns cannot be told: correct this line.")
        columns, source_column, has_header = _numbered_columns(file, names), None, False
    else:
        columns, source_column, has_header = _find_columns(file, names, cells)
    if not has_header:
        records = itertools.chain([first], records)
    needed = max(columns) + 1
    missing = [
        Fault(f"column {_described(file, name, column)} is missing")
        for name, column in zip(names, columns, strict=True)
    ]
    empty = [_empty(name) for name in names]
    for number, cells in records:
        if isinstance(cells, Fault):
            yield Row(path, number, cells, file.source)
            continue
        source = file.source
        if source_column is not None and source_column < len(cells):
            source = cells[source_column]
        if len(cells) < needed:
            fault = next(fault for fault, column in zip(missing, columns, strict=True) if column >= len(cells))
            yield Row(path, number, fault, source)
            continue
        wanted = [cells[column] for column in columns]
        for place, cell in enumerate(wanted):
            if not cell.strip() and names[place] not in ANSWER_COLUMNS:
                yield Row(path, number, empty[place], source)
                break
        else:
            yield Row(path, number, wanted, source)


def _find_columns(file: DataFile, names: Sequence[str], first: list[str]) -> tuple[list[int], int | None, bool]:
    """Return the places of the wanted columns and of the source, from 0, and whether the first row is a header."""
    titles = [cell.strip() for cell in first]
    named = any(isinstance(file.columns.get(name), str) for name in (*names, _SOURCE))
    has_header = file.header if file.header is not None else named or set(names) <= set(titles)
    if not has_header:
        if named:
            raise DataError(f"{file.name} is said to have no header, yet its columns are named: number them from 1.")
        return _numbered_columns(file, names), _numbered(file.columns.get(_SOURCE)), False
    columns = []
    for position, name in enumerate(names):
        column = file.columns.get(name, name)
        if isinstance(column, int):
            columns.append(column - 1)
        elif column in titles:
            columns.append(titles.index(column))
        elif name not in file.columns and len(titles) == len(names):
            columns.append(position)
        else:
            raise DataError(f"{file.name} has no column {column}{_known(column, titles)}")
    source = file.columns.get(_SOURCE, _SOURCE)
    if isinstance(source, int):
        return columns, source - 1, True
    if _SOURCE in file.columns and source not in titles:
        raise DataError(f"{file.name} has no column {source}{_known(source, titles)}")
    return columns, titles.index(source) if source in titles and file.source is None else None, True


def _numbered_columns(file: DataFile, names: Sequence[str]) -> list[int]:
    columns = [file.columns.get(name, position) for position, name in enumerate(names, 1)]
    return [column - 1 for column in columns if isinstance(column, int)]


def _numbered(column: str | int | None) -> int | None:
    return column - 1 if isinstance(column, int) else None


def _described(file: DataFile, name: str, column: int) -> str:
    given = file.columns.get(name)
    return given if isinstance(given, str) else f"{column + 1} ({name})"


def _conll_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    """Yield the sentences of a CoNLL file: a word a line with its tag, an empty line between two sentences.

    Words are the first column and tags the last, unless columns say otherwise; both come with blanks between.
    """
    (path,) = file.paths
    if tuple(names) != WORDS_AND_TAGS:
        raise DataError(f"{path} holds tagged words; what was wanted of it is {' and '.join(names)}.")
    places = [file.columns.get(name) for name in names]
    for column in places:
        if isinstance(column, str):
            raise DataError(f"{path} has no names for its columns; {column} is one: number them from 1.")
    word_place, tag_place = (None if place is None else int(place) - 1 for place in places)
    words: list[str] = []
    tags: list[str] = []
    fault: Fault | None = None
    begin = number = 0
    for number, line in enumerate(itertools.chain(read_lines(path), [""]), 1):
        # A no-break space may stand inside a word.
        cells = [] if isinstance(line, Fault) else [cell for cell in _COLUMN_END.split(line) if cell]
        if isinstance(line, Fault):
            fault = fault or line
        elif cells and cells[0] != _DOCUMENT:
            begin = begin or number
            wanted = word_place or 0, len(cells) - 1 if tag_place is None else tag_place
            if len(cells) < 2 or max(wanted) >= len(cells):
                fault = fault or Fault(f"a word with its tag was expected, not {len(cells)} columns")
                continue
            words.append(cells[wanted[0]])
            tags.append(cells[wanted[1]])
        elif not cells and (words or fault is not None):
            yield Row(path, begin or number, (" ".join(words), " ".join(tags)) if fault is None else fault, file.source)
            words, tags, fault, begin = [], [], None, 0


def _squad_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    (path,) = file.paths
    if tuple(names) != QUESTION_COLUMNS:
        raise DataError(
            f"{path} is JSON of questions with answers, as its ending or format says; what was wanted of it is "
            f"{' and '.join(names)}. If every line is an object, say so, as in {{path: ..., format: jsonl}}."
        )
    if file.columns:
        raise DataError(f"{path} is in the form of SQuAD, which has no columns: leave `columns` out.")
    for number, (key, cells) in enumerate(read_squad(path), 1):
        yield Row(path, number, cells, file.source, key)


def _jsonl_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    (path,) = file.paths

    def records() -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(read_lines(path), 1):
            if isinstance(line, Fault):
                yield number, line
                continue
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, NO_OBJECT

    return _record_rows(file, path, names, records())


def _hub_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    (path,) = file.paths
    columns = [str(file.columns.get(name, name)) for name in names]
    return _record_rows(file, path, names, enumerate(read_hub_records(path, columns), 1))


def _record_rows(file: DataFile, path: str, names: Sequence[str], records: Iterator[tuple[int, Any]]) -> Iterator[Row]:
    columns = [file.columns.get(name, name) for name in names]
    source_column = file.columns.get(_SOURCE, _SOURCE)
    for column in (*columns, source_column):
        if not isinstance(column, str):
            raise DataError(f"{file.name} has named columns; {column} is a number: give its name.")
    empty = [_empty(name) for name in names]
    for number, record in records:
        if isinstance(record, Fault):
            yield Row(path, number, record, file.source)
            continue
        if not isinstance(record, Mapping):
            yield Row(path, number, NO_OBJECT, file.source)
            continue
        source = file.source
        if source is None:
            source = record.get(source_column)
            source = source if isinstance(source, str) else None
        inner = record.get(TRANSLATION)
        cells: list[Any] = []
        fault: Fault | None = None
        for name, column, is_empty in zip(names, columns, empty, strict=True):
            if name in ANSWER_COLUMNS:
                cell = answer_cell(record, name, str(column))
                if isinstance(cell, Fault):
                    fault = cell
                    break
                cells.append(cell)
                continue
            cell = record.get(column)
            if cell is None and isinstance(inner, Mapping):
                cell = inner.get(column)
            cell = _in_words(name, cell)
            if not isinstance(cell, str) or "\0" in cell or not cell.strip():
                fault = _cell_fault(cell, str(column), is_empty)
                break
            cells.append(cell)
        yield Row(path, number, cells if fault is None else fault, source)


def _in_words(name: str, cell: Any) -> Any:
    """Return words, tags or labels that come one by one, and labels that are numbers, as a table would hold them."""
    if name == "label" and isinstance(cell, int | float) and not isinstance(cell, bool):
        return str(cell)
    if name not in ("label", *WORDS_AND_TAGS) or not isinstance(cell, list):
        return cell
    if not all(isinstance(part, str) for part in cell):
        return cell
    if name == "label":
        # A comma alone: no label at all, which is not the same as none given.
        return ", ".join(cell) or ","
    return " ".join(cell)


def _cell_fault(cell: Any, column: str, empty: Fault) -> Fault:
    if cell is None:
        return Fault(f"column {column} is missing")
    if not isinstance(cell, str):
        return Fault(f"column {column} is no text")
    return NUL if "\0" in cell else empty


def _empty(name: str) -> Fault:
    return Fault(f"the {name} is empty" if name in ("text", *QUESTION_COLUMNS) else f"the {name} side is empty")


def _known(name: str, names: Sequence[str]) -> str:
    close = nearest(name, names)
    return f"; did you mean {close}?" if close else f"; its first line has: {', '.join(names)[:200]}."
