"""Rows of tables: a row a line, cells between tabs, or CSV; columns by name or by number."""

import csv
import itertools
from collections.abc import Iterator, Sequence

from trasluz.errors import DataError, nearest
from trasluz.text.data_naming import DataFile
from trasluz.text.lines import LINE_LIMIT, Fault, read_lines
from trasluz.text.questions import ANSWER_COLUMNS
from trasluz.text.row import SOURCE, Row, empty_cell

NOT_CSV = Fault(f"a quoted field over {LINE_LIMIT:,} characters: a quote may never be closed")
BARE_RETURN = Fault("a carriage return within a cell that is not quoted")


def tsv_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file with tabs between its cells."""

    def records() -> Iterator[tuple[int, list[str] | Fault]]:
        for number, line in enumerate(read_lines(file.paths[0]), 1):
            yield number, line if isinstance(line, Fault) else line.split("\t")

    return _table_rows(file, names, records())


def csv_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a CSV file."""
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
            except csv.Error as error:
                record = NOT_CSV if "field limit" in str(error) else BARE_RETURN
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
    empty = [empty_cell(name) for name in names]
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
    named = any(isinstance(file.columns.get(name), str) for name in (*names, SOURCE))
    has_header = file.header if file.header is not None else named or set(names) <= set(titles)
    if not has_header:
        if named:
            raise DataError(f"{file.name} is said to have no header, yet its columns are named: number them from 1.")
        return _numbered_columns(file, names), _numbered(file.columns.get(SOURCE)), False
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
    source = file.columns.get(SOURCE, SOURCE)
    if isinstance(source, int):
        return columns, source - 1, True
    if SOURCE in file.columns and source not in titles:
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


def _known(name: str, names: Sequence[str]) -> str:
    close = nearest(name, names)
    return f"; did you mean {close}?" if close else f"; its first line has: {', '.join(names)[:200]}."
