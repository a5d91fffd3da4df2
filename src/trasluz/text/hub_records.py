"""The records of a data set of the Hugging Face hub, `hf:NAME[/CONFIG][:SPLIT]`, through the package `datasets`.

hf:someone/reviews                  the split `train` of the set's own choice of config
hf:someone/pairs/en-es:test         the split `test` of the config `en-es`

They are read as they arrive, and not kept on this machine. A class, which such sets store as a number, is its name;
so is each of a list.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trasluz.errors import DataError, nearest
from trasluz.text.questions import ANSWER_COLUMNS, ANSWERS

# Translation sets of the hub keep both sides in one column of this name.
TRANSLATION = "translation"


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE forbids the network, by the same values as in the hub's own libraries."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def read_hub_records(path: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the records of a data set in their order; `columns` are those that it must have.

    Raises DataError where it cannot be had or has no such config, split or column.
    """
    if is_offline():
        raise DataError(f"{path} would be downloaded, and HF_HUB_OFFLINE is set: name a file.")
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{path} is a data set of the hub, which needs the package datasets: install it (the extra `datasets`), "
            "or name a file."
        ) from None
    place, _, split = path.removeprefix("hf:").partition(":")
    owner, _, name = place.partition("/")
    name, _, config = name.partition("/")
    try:
        rows = datasets.load_dataset(
            f"{owner}/{name}" if name else owner, config or None, split=split or "train", streaming=True
        )
        features = {column: _of_one(feature) for column, feature in (rows.features or {}).items()}
        classes = {
            column: feature.names for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)
        }
        for number, record in enumerate(rows):
            if number == 0:
                check_columns(path, columns, record)
            yield record | {column: _named(record[column], names) for column, names in classes.items()}
    except DataError:
        raise
    except Exception as error:  # Whatever hub, network and data set can raise.
        told = str(error).strip() or type(error).__name__
        raise DataError(f"{path} cannot be read: {told.splitlines()[0].rstrip('.')}.") from None


def _of_one(feature: Any) -> Any:
    """Return what a column's features say of one value, where it holds lists of them."""
    return feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    # What was left without a label is stored as -1.
    return None if value is None or value < 0 else names[value]


def check_columns(path: str, columns: Sequence[str], record: Mapping[str, Any]) -> None:
    """Raise DataError with the nearest name for a column that records do not have; `record` is the first of them."""
    inner = record.get(TRANSLATION)
    known = [*record, *(inner if isinstance(inner, Mapping) else ())]
    # Question sets of the hub keep texts and places of their answers in one column.
    known += ANSWER_COLUMNS if isinstance(record.get(ANSWERS), Mapping) else ()
    for column in columns:
        if column not in known:
            close = nearest(column, known)
            hint = f"; did you mean {close}?" if close else f"; it has: {', '.join(known)}."
            raise DataError(f"{path} has no column {column}{hint}")
