"""Questions with their answers as the cells of a row: a question, its context, its answers, and where each begins.

question        context                        answer            answer_start
Who sang?       Then Irene sang to the sea.    Irene             5                  a table, or an object
                                               [Irene, ...]      [5, ...]           an object: any of them is right
                                               (empty)           (empty)            the context has no answer

Places are characters of the context, counted from 0, as in SQuAD (Rajpurkar et al. 2016); no answer is SQuAD 2.0's
(Rajpurkar, Jia and Liang 2018). Objects may hold answers as SQuAD does, under `answers`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from trasluz.text.lines import Fault
from trasluz.text.segmentation import readable

ANSWER_COLUMNS = ("answer", "answer_start")
QUESTION_COLUMNS = ("question", "context", *ANSWER_COLUMNS)
# SQuAD's name for what holds texts and places of the answers.
ANSWERS = "answers"

_MISPLACED = "the answer does not stand in the context at its answer_start"
_SHOWN = 60


def answer_cell(record: Mapping[str, Any], name: str, column: str) -> Any:
    """Return what an object has for one of ANSWER_COLUMNS, under its own name or within `answers`; else a Fault."""
    if column in record:
        return record[column]
    found, key = record.get(ANSWERS), "text" if name == "answer" else name
    if isinstance(found, Mapping) and key in found:
        return found[key]
    if isinstance(found, list) and all(isinstance(one, Mapping) and key in one for one in found):
        return [one[key] for one in found]
    return Fault(f"column {column} is missing")


def question_cells(cells: Sequence[Any]) -> tuple[str, str, tuple[str, ...], tuple[int, ...]] | Fault:
    """Return the cells with answers and places as tuples of equal length, or why they do not go together."""
    question, context, *given = cells
    texts, places = map(_several, given)
    texts = [readable(text) if isinstance(text, str) else text for text in texts]
    if not texts:
        return question, context, (), ()
    if len(texts) != len(places):
        return Fault("there is not one answer_start for each answer", f": {len(places)} for {len(texts)}")
    starts = []
    for text, place in zip(texts, places, strict=True):
        start = _number(place)
        if not isinstance(text, str):
            return Fault("an answer is no text", f": {str(text)[:_SHOWN]}")
        if not text.strip():
            return Fault("an answer is empty")
        if start is None:
            return Fault("answer_start is no number of characters", f": {str(place)[:_SHOWN]!r}")
        there = context[start : start + len(text)]
        if there != text:
            return Fault(
                _MISPLACED, f": at {start} is {there[:_SHOWN]!r}, and {text[:_SHOWN]!r} {_whereabouts(context, text)}"
            )
        starts.append(start)
    return question, context, tuple(texts), tuple(starts)


def _several(cell: Any) -> list[Any]:
    if isinstance(cell, list | tuple):
        return list(cell)
    return [] if cell is None or (isinstance(cell, str) and not cell.strip()) else [cell]


def _number(place: Any) -> int | None:
    if isinstance(place, str):
        return int(place) if place.strip().isdecimal() else None
    return place if isinstance(place, int) and not isinstance(place, bool) and place >= 0 else None


def _whereabouts(context: str, text: str) -> str:
    place = context.find(text)
    return f"begins at {place}" if place >= 0 else "is nowhere in it"
