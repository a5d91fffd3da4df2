"""The records of a parquet file, some at a time, through the package `pyarrow`."""

from collections.abc import Iterator, Sequence
from typing import Any

from trasluz.errors import DataError
from trasluz.text.hub_records import TRANSLATION, check_columns
from trasluz.text.questions import ANSWERS

# What a record batch holds at most; rows of long texts are not small.
_ROWS_AT_ONCE = 1000


def read_parquet_records(path: str, columns: Sequence[str], further: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield the records of a file in their order; `columns` are those that it must have, `further` such as it may have.

    Raises DataError where it cannot be read or lacks a column.
    """
    arrow, parquet = _packages(path)
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [name for name in names if name in (*columns, *further, TRANSLATION, ANSWERS)]
            checked = False
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=wanted or None):
                for record in batch.to_pylist():
                    if not checked:
                        check_columns(path, columns, dict.fromkeys(names) | record)
                        checked = True
                    yield record
    except (OSError, arrow.ArrowException) as error:
        raise _unreadable(path, error) from None


def parquet_columns(path: str) -> list[str]:
    """Return the names of a file's columns; DataError where it cannot be read."""
    arrow, parquet = _packages(path)
    try:
        names: list[str] = parquet.read_schema(path).names
    except (OSError, arrow.ArrowException) as error:
        raise _unreadable(path, error) from None
    return names


def _packages(path: str) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            f"{path} is a parquet file, which needs the package pyarrow: install it (the extra `parquet`), or write "
            "the file as .jsonl."
        ) from None
    return pyarrow, pyarrow.parquet


def _unreadable(path: str, error: Exception) -> DataError:
    told = str(error).strip() or type(error).__name__
    return DataError(f"{path} cannot be read as parquet, it may be damaged: {told.splitlines()[0].rstrip('.')}.")
