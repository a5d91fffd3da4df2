"""Rows of one data file in any format: the wanted columns as text, or why a row has none."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence

from trasluz.errors import DataError
from trasluz.text.data_naming import DataFile, one_side_message
from trasluz.text.lines import Fault, read_lines, read_whole
from trasluz.text.object_rows import hub_rows, jsonl_rows, parquet_rows
from trasluz.text.questions import QUESTION_COLUMNS, question_cells
from trasluz.text.row import WORDS_AND_TAGS, Row, empty_cell
from trasluz.text.squad import read_squad
from trasluz.text.table_rows import csv_rows, tsv_rows

_COLUMN_END = re.compile(r"[ \t]+")
# More is hardly one document; it would have to stand in memory as a whole.
DOCUMENT_LIMIT = 10_000_000
_TOO_MUCH = Fault(f"a document over {DOCUMENT_LIMIT:,} characters: an empty line must stand between two documents")
# Between the documents of a CoNLL file.
_DOCUMENT = "-DOCSTART-"
# Begins a line about the sentence that follows it.
_COMMENT = "# "


def read_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file with the columns of these names (languages, or "text"), in their order.

    Raises DataError where the file as a whole cannot give them.
    """
    asks = tuple(names) == QUESTION_COLUMNS
    if asks and file.format in ("text", "moses"):
        raise DataError(
            f"{file.name} is plain text; questions with answers stand in .json as of SQuAD, in .jsonl, .parquet, .tsv "
            "or .csv."
        )
    reader: Callable[[DataFile, Sequence[str]], Iterator[Row]] = {
        "text": _text_rows,
        "documents": _document_rows,
        "file": _file_rows,
        "moses": _moses_rows,
        "tsv": tsv_rows,
        "csv": csv_rows,
        "jsonl": jsonl_rows,
        "parquet": parquet_rows,
        "conll": _conll_rows,
        "squad": _squad_rows,
        "hf": hub_rows,
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
    empty = empty_cell(names[0])
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
            yield Row(path, 1, (text,) if text.strip() else empty_cell(names[0]), file.source)


def _moses_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    if len(names) == 1:
        for path in file.paths:
            yield from _text_rows(DataFile((path,), "text", source=file.source), names)
        return
    first, second = file.paths
    empty = empty_cell(names[0]), empty_cell(names[1])
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


def _conll_rows(file: DataFile, names: Sequence[str]) -> Iterator[Row]:
    """Yield the sentences of a CoNLL file: a word a line with its tag, an empty line between two sentences.

    Words are the first column and tags the last, unless columns say otherwise; both come with blanks between. Comments,
    as CoNLL-U has them before a sentence, are passed over. A sentence with a fault has the line of the first.
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
    lines: list[int] = []
    fault: Fault | None = None
    fault_line = 0
    for number, line in enumerate(itertools.chain(read_lines(path), [""]), 1):
        # A no-break space may stand inside a word.
        cells = [] if isinstance(line, Fault) else [cell for cell in _COLUMN_END.split(line) if cell]
        if isinstance(line, Fault):
            fault, fault_line = (line, number) if fault is None else (fault, fault_line)
        elif not words and line.startswith(_COMMENT):
            continue
        elif cells and cells[0] != _DOCUMENT:
            wanted = word_place or 0, len(cells) - 1 if tag_place is None else tag_place
            if len(cells) < 2 or max(wanted) >= len(cells):
                if fault is None:
                    fault, fault_line = Fault(f"a word with its tag was expected, not {len(cells)} columns"), number
                continue
            words.append(cells[wanted[0]])
            tags.append(cells[wanted[1]])
            lines.append(number)
        elif not cells and (words or fault is not None):
            if fault is None:
                yield Row(path, lines[0], (" ".join(words), " ".join(tags)), file.source, lines=lines)
            else:
                yield Row(path, fault_line, fault, file.source)
            words, tags, lines, fault = [], [], [], None


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
