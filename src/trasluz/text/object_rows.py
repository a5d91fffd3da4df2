"""Rows of objects: a JSON object a line, or the records of a parquet file or a data set of the hub; columns by name.

JSON can hold half a surrogate pair, which no UTF-8 can: every text is made `readable`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trasluz.errors import DataError
from trasluz.text.data_naming import DataFile
from trasluz.text.hub_records import TRANSLATION, read_hub_records
from trasluz.text.lines import NUL, Fault, read_lines
from trasluz.text.parquet_records import read_parquet_records
from trasluz.text.questions import ANSWER_COLUMNS, answer_cell
from trasluz.text.row import SOURCE, WORDS_AND_TAGS, Row, empty_cell
from trasluz.text.segmentation import readable

NO_OBJECT = Fault("no JSON object")


def jsonl_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file of JSON objects, one a line."""
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


def hub_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a data set of the hub."""
    (path,) = file.paths
    columns = [str(file.columns.get(name, name)) for name in names]
    return _record_rows(file, path, names, enumerate(read_hub_records(path, columns), 1))


def parquet_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a parquet file."""
    (path,) = file.paths
    columns = [str(file.columns.get(name, name)) for name in names]
    records = read_parquet_records(path, columns, [str(file.columns.get(SOURCE, SOURCE))])
    return _record_rows(file, path, names, enumerate(records, 1))


def _record_rows(file: DataFile, path: str, names: Sequence[str], records: Iterator[tuple[int, Any]]) -> Iterator[Row]:
    columns = [file.columns.get(name, name) for name in names]
    source_column = file.columns.get(SOURCE, SOURCE)
    for column in (*columns, source_column):
        if not isinstance(column, str):
            raise DataError(f"{file.name} has named columns; {column} is a number: give its name.")
    empty = [empty_cell(name) for name in names]
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
            source = readable(source) if isinstance(source, str) else None
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
            if isinstance(cell, Fault):
                fault = cell
                break
            if not isinstance(cell, str) or "\0" in cell or not cell.strip():
                fault = _cell_fault(cell, str(column), is_empty)
                break
            cells.append(readable(cell))
        yield Row(path, number, cells if fault is None else fault, source)


def _in_words(name: str, cell: Any) -> Any:
    """Return words, tags or labels that come one by one, or are no texts, as a table would hold them."""
    if name not in ("label", *WORDS_AND_TAGS):
        return cell
    if name != "words":
        cell = [_in_word(part) for part in cell] if isinstance(cell, list) else _in_word(cell)
    if not isinstance(cell, list):
        return cell
    if not all(isinstance(part, str) for part in cell):
        return cell
    if name == "label":
        # A comma alone: no label at all, which is not the same as none given.
        return ", ".join(cell) or ","
    for part in cell:
        # Joined, it would be none, or two.
        if not part or " " in part:
            return Fault(f"one of the {name} is empty or holds a blank", f": {part!r}")
    return " ".join(cell)


def _in_word(label: Any) -> Any:
    """Return a label that is a number, or true or false, as it is written in JSON."""
    return json.dumps(label) if isinstance(label, int | float) else label


def _cell_fault(cell: Any, column: str, empty: Fault) -> Fault:
    if cell is None:
        return Fault(f"column {column} is missing")
    if not isinstance(cell, str):
        return Fault(f"column {column} is no text")
    return NUL if "\0" in cell else empty
