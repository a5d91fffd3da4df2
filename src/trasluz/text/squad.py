"""Files in the form of SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018), which XQuAD and MLQA have, too.

{"data": [{"paragraphs": [{"context": ..., "qas": [{"question": ..., "answers": [...]}, ...]}, ...]}, ...]}
an answer: {"text": ..., "answer_start": ...}

A question without answers cannot be answered by its context; `is_impossible`, where it stands, says so once more.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from trasluz.errors import DataError
from trasluz.text.lines import NUL, Fault, open_text, without_mark
from trasluz.text.questions import ANSWER_COLUMNS, ANSWERS, answer_cell
from trasluz.text.segmentation import readable

_SHAPE = '{"data": [{"paragraphs": [{"context": ..., "qas": [...]}]}]}'


def read_squad(path: str) -> Iterator[tuple[str, tuple[Any, ...] | Fault]]:
    """Yield the key path of each question with its cells, in the order of QUESTION_COLUMNS, or with its fault.

    Raises DataError where the file is no JSON or has another shape.
    """
    for number, article in enumerate(_articles(path)):
        key = f"data[{number}]"
        paragraphs = article.get("paragraphs") if isinstance(article, Mapping) else None
        if not isinstance(paragraphs, list):
            yield key, Fault("a list `paragraphs` is missing")
            continue
        for place, paragraph in enumerate(paragraphs):
            yield from _questions(f"{key}.paragraphs[{place}]", paragraph)


def _questions(key: str, paragraph: Any) -> Iterator[tuple[str, tuple[Any, ...] | Fault]]:
    parts = paragraph if isinstance(paragraph, Mapping) else {}
    context = _text(parts, "context")
    if isinstance(context, Fault):
        yield key, context
    elif not isinstance(parts.get("qas"), list):
        yield key, Fault("a list `qas` is missing")
    else:
        for number, asked in enumerate(parts["qas"]):
            yield f"{key}.qas[{number}]", _cells(asked if isinstance(asked, Mapping) else {}, context)


def _cells(asked: Mapping[str, Any], context: str) -> tuple[Any, ...] | Fault:
    question = _text(asked, "question")
    if isinstance(question, Fault):
        return question
    if not isinstance(asked.get(ANSWERS), list):
        return Fault(f"a list `{ANSWERS}` is missing")
    if asked.get("is_impossible") is True and asked[ANSWERS]:
        return Fault("the question is_impossible, and yet has answers")
    found = [answer_cell({ANSWERS: asked[ANSWERS]}, name, name) for name in ANSWER_COLUMNS]
    for cell in found:
        if isinstance(cell, Fault):
            return Fault("an answer has no `text` or no `answer_start`")
    return question, context, *found


def _text(parts: Mapping[str, Any], name: str) -> str | Fault:
    text = parts.get(name)
    if not isinstance(text, str):
        return Fault(f"the {name} is missing, or no text")
    return NUL if "\0" in text else readable(text) if text.strip() else Fault(f"the {name} is empty")


def _articles(path: str) -> list[Any]:
    with open_text(path) as file:
        content = without_mark(file.read(), path)
    try:
        whole = json.loads(content)
    except UnicodeDecodeError:
        raise DataError(f"{path} is no text in UTF-8; a file in the form of SQuAD was expected.") from None
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}: this is no JSON ({error.msg}); a file in the form of SQuAD was expected. "
            "If every line is an object, say so, as in {path: ..., format: jsonl}."
        ) from None
    except RecursionError:
        raise DataError(f"{path} is nested too deeply; a file in the form of SQuAD was expected.") from None
    articles = whole.get("data") if isinstance(whole, Mapping) else None
    if not isinstance(articles, list):
        raise DataError(f"{path} is not in the form of SQuAD: it has no list `data`; expected was {_SHAPE}.")
    return articles
