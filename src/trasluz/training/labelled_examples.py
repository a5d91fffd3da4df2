"""Labelled texts, or pairs of texts, as training examples.

    one       a label a text: its number among the labels
    several   any number of labels, with commas between or as a list: their numbers
    number    a number: the bits of its float32

A text that nobody labelled, of which only a teacher says something, has `NO_LABEL`; as a float32 it is not a number.
Texts that are too long are cut, a pair at its longer half.
"""

import functools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from trasluz.errors import DataError, nearest
from trasluz.text.lines import Fault
from trasluz.text.readers import Check, Place, ReadReport, read_records
from trasluz.training.encoder_examples import EncoderExamples
from trasluz.training.examples import Tokenizers, encode_texts, in_chunks

# More labels than this are a column of something else.
_MOST_LABELS = 10_000
NO_LABEL = 2**32 - 1
_NO_NUMBER = "the label is no number, which data.label_kind says it is"
# Labels are float32 in training.
_LARGEST = float(np.finfo(np.float32).max)


class LabelledText(NamedTuple):
    """A text, or a pair, with what stands in its column `label`; None where nobody has labelled it."""

    text: str
    second_text: str | None
    label: str | None
    place: Place


class LabelledExamples(EncoderExamples[LabelledText]):
    """Texts with labels of the recipe's kind."""

    kind = "text"
    columns = ("first", "second", "labels")

    def settings(self) -> dict[str, Any]:
        """Return what the stored tokens depend on; they are cut later, in batches."""
        return self.recipe.data.model_dump(include={"pairs", "labels", "label_kind"}) | {"task": self.recipe.task}

    def read(self, entry: Any, report: ReadReport, sources: Sequence[str] | None = None) -> Iterator[LabelledText]:
        """Yield the labelled texts of a `data` entry."""
        data = self.recipe.data
        # What is to stay unseen may have any label.
        labels = () if entry in data.exclude else self.labels or data.labels or ()
        return read_labelled(
            entry,
            pairs=data.pairs,
            kind=data.label_kind,
            labels=labels,
            sources=sources,
            on_error=data.on_error,
            report=report,
        )

    def read_further(self, report: ReadReport) -> Iterator[LabelledText]:
        """Yield the texts of `data.unlabelled`."""
        data = self.recipe.data
        columns = ("text", "second_text") if data.pairs else ("text",)
        for entry in data.unlabelled:
            rows = read_records(entry, columns, sources=data.sources, on_error=data.on_error, report=report)
            yield from (LabelledText(cells[0], cells[1] if data.pairs else None, None, place) for cells, place in rows)

    def is_further(self, example: LabelledText) -> bool:
        """Tell whether an example has no label."""
        return example.label is None

    def texts(self, example: LabelledText) -> tuple[str, ...]:
        """Return the text; of a pair, both as one: either half may come again with another."""
        return (example.text if example.second_text is None else f"{example.text}\t{example.second_text}",)

    def passages(self, example: LabelledText) -> tuple[str, ...]:
        """Return the text, and of a pair each half."""
        return (example.text,) if example.second_text is None else (example.text, example.second_text)

    def to_record(self, example: LabelledText) -> dict[str, Any]:
        """Return a text with its label."""
        second = {} if example.second_text is None else {"second_text": example.second_text}
        return {"text": example.text, **second, "label": example.label}

    def from_record(self, record: dict[str, Any]) -> LabelledText:
        """Return the text of an object; where it was read is not kept."""
        return LabelledText(record["text"], record.get("second_text"), record["label"], Place("", 0))

    def look_over(self, examples: Callable[[], Iterator[LabelledText]]) -> None:
        """Find the labels, unless the recipe names them."""
        data = self.recipe.data
        if data.label_kind == "number":
            # Its name is that of the column.
            self.labels = data.labels or ["label"]
            return
        if data.labels:
            self.labels = data.labels
            return
        found: set[str] = set()
        for example in examples():
            found.update(_parts(example.label or "", data.label_kind))
            if len(found) > _MOST_LABELS:
                raise DataError(
                    f"{example.place}: there are over {_MOST_LABELS:,} different labels by now; is `label` the right "
                    "column? Name it, as in {path: ..., columns: {label: topic}}."
                )
        self.labels = sorted(
            found, key=lambda label: (not label.isdecimal(), int(label) if label.isdecimal() else 0, label)
        )
        if not found and next(examples(), None) is not None:
            raise DataError(f"{self.recipe.place('data.train')}: no text has a label; at least some must have one.")
        if len(self.labels) == 1 and data.label_kind == "one":
            raise DataError(f"{self.recipe.place('data.train')}: every text has the label {self.labels[0]!r}.")

    def numbers(self, example: LabelledText) -> list[int]:
        """Return an example's label as it is stored."""
        return label_numbers(example, self.recipe.data.label_kind, self.labels)

    def encoded(
        self, examples: Iterator[LabelledText], tokenizers: Tokenizers
    ) -> Iterator[tuple[LabelledText, tuple[Any, ...] | None]]:
        """Yield each text with its ids, those of its second half, and its label."""
        texts = (
            (some, [[one.text for one in some], [one.second_text or "" for one in some]])
            for some in in_chunks(examples, self.texts)
        )
        self.room(tokenizers[0], self.recipe.data.pairs)
        # Labelled texts are few: one process is enough.
        for some, (first, second) in encode_texts(texts, tokenizers, None, None):
            for example, first_ids, second_ids in zip(some, first, second, strict=True):
                yield example, (first_ids, second_ids, self.numbers(example))


def read_labelled(
    entry: Any,
    *,
    pairs: bool,
    kind: str,
    labels: Sequence[str] = (),
    sources: Sequence[str] | None = None,
    on_error: str,
    report: ReadReport,
) -> Iterator[LabelledText]:
    """Yield the labelled texts of a `data` entry: columns `text`, `label`, and of pairs `second_text`.

    Where labels are numbers by their `kind`, a row with another one is malformed; else one with a label that is none of
    `labels`, where there are such.
    """
    columns = ("text", "second_text", "label") if pairs else ("text", "label")
    check: Check | None = None
    if kind == "number":
        check = _no_number
    elif labels:
        check = functools.partial(_unknown, kind, dict.fromkeys(labels))
    for cells, place in read_records(entry, columns, sources=sources, on_error=on_error, report=report, check=check):
        yield LabelledText(cells[0], cells[1] if pairs else None, cells[-1].strip(), place)


def label_numbers(example: LabelledText, kind: str, labels: Sequence[str]) -> list[int]:
    """Return a label as it is stored."""
    if example.label is None:
        return [NO_LABEL]
    if kind == "number":
        return [int(np.float32(float(example.label)).view(np.uint32))]
    return sorted({labels.index(part) for part in _parts(example.label, kind)})


def _parts(label: str, kind: str) -> list[str]:
    """Return the labels of a text."""
    return [part.strip() for part in label.split(",") if part.strip()] if kind == "several" else [label]


def _unknown(kind: str, labels: Collection[str], cells: Sequence[str]) -> Fault | None:
    for part in _parts(cells[-1].strip(), kind):
        if part not in labels:
            close = nearest(part, labels)
            hint = f"did you mean {close}?" if close else f"there are {', '.join([*labels][:20])}"
            return Fault("there is no label", f" {part!r}; {hint}")
    return None


def _no_number(cells: Sequence[str]) -> Fault | None:
    label = cells[-1].strip()
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    if abs(number) > _LARGEST and math.isfinite(number):
        return Fault("the label is a number too large for float32", f": {label!r}")
    return None if math.isfinite(number) else Fault(_NO_NUMBER, f": {label!r}")
