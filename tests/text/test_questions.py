"""Questions with answers out of every kind of file: what is read, and what is refused with its place."""

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from trasluz.errors import DataError
from trasluz.text.questions import QUESTION_COLUMNS
from trasluz.text.readers import ReadReport, Record, read_records, read_texts

CONTEXT = "Al alba, Irene encendió el 🕯️ faro; en la torre, 光 y sal."
QUESTION, ANSWER = "¿Quién encendió el faro?", "Irene"
START = CONTEXT.index(ANSWER)
EXPECTED = (QUESTION, CONTEXT, (ANSWER,), (START,))


def read(entry: Any, **options: Any) -> list[Record]:
    return list(read_records(entry, QUESTION_COLUMNS, **options))


def asked(question: Any = QUESTION, *answers: Any, **more: Any) -> dict[str, Any]:
    """Return a question as SQuAD has it; answers are texts with their places."""
    return {
        "id": "a",
        "question": question,
        "answers": [{"text": text, "answer_start": at} for text, at in answers],
    } | more


def squad(*questions: Any, context: Any = CONTEXT) -> dict[str, Any]:
    return {"version": "1.1", "data": [{"title": "Faro", "paragraphs": [{"context": context, "qas": [*questions]}]}]}


def write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def test_squad_tables_and_objects_say_the_same(tmp_path: Path) -> None:
    whole = squad(asked(QUESTION, (ANSWER, START)))
    row = {"question": QUESTION, "context": CONTEXT}
    entries: list[Any] = [
        write(tmp_path / "a.json", whole),
        {"path": write(tmp_path / "faro.txt", whole), "format": "squad"},
        write(tmp_path / "b.jsonl", row | {"answer": ANSWER, "answer_start": START}),
        write(tmp_path / "c.jsonl", row | {"answer": [ANSWER], "answer_start": [START]}),
        write(tmp_path / "d.jsonl", row | {"answers": {"text": [ANSWER], "answer_start": [START]}}),
        write(tmp_path / "e.jsonl", row | {"answers": [{"text": ANSWER, "answer_start": START}]}),
        write(
            tmp_path / "f.tsv", f"context\tquestion\tanswer_start\tanswer\n{CONTEXT}\t{QUESTION}\t{START}\t{ANSWER}\n"
        ),
        {
            "path": write(tmp_path / "g.csv", f'p,q,a,s\n"{CONTEXT}",{QUESTION},{ANSWER},{START}\n'),
            "columns": {"question": "q", "context": "p", "answer": "a", "answer_start": "s"},
        },
    ]
    for name, compress in (("h.json.gz", gzip.compress), ("i.json.xz", lzma.compress)):
        (tmp_path / name).write_bytes(compress(json.dumps(whole).encode()))
        entries.append(str(tmp_path / name))
    for entry in entries:
        (record,) = read(entry)
        assert tuple(record.cells) == EXPECTED, entry
    assert read(entries[0])[0].place == (str(tmp_path / "a.json"), 1)


def test_several_answers_or_none(tmp_path: Path) -> None:
    several = asked(QUESTION, (ANSWER, START), ("Al alba, Irene", 0))
    path = write(tmp_path / "a.json", squad(several, asked("¿Y por qué?", is_impossible=True)))
    first, second = read(path)
    assert first.cells[2:] == ((ANSWER, "Al alba, Irene"), (START, 0)) and second.cells[2:] == ((), ())
    row = {"question": QUESTION, "context": CONTEXT}
    empty: list[dict[str, Any]] = [
        {"answer": None, "answer_start": None},
        {"answer": "", "answer_start": -1},
        {"answers": {"text": [], "answer_start": []}},
    ]
    lines = "".join(json.dumps(row | one) + "\n" for one in empty)
    assert [one.cells[2:] for one in read(write(tmp_path / "b.jsonl", lines))] == [((), ())] * 3
    both = f"{QUESTION}\t{CONTEXT}"
    table = f"question\tcontext\tanswer\tanswer_start\n{both}\t\t\n{both}\t{ANSWER}\t{START}\n"
    assert [len(one.cells[2]) for one in read(write(tmp_path / "c.tsv", table))] == [0, 1]


def test_half_a_surrogate_pair_moves_no_answer(tmp_path: Path) -> None:
    broken = asked("¿Qué \ud83d?", ("\ud83d faro", 3))
    path = write(tmp_path / "a.json", squad(broken, context="un \ud83d faro"))
    (row,) = read(path)
    assert tuple(row.cells) == ("¿Qué \ufffd?", "un \ufffd faro", ("\ufffd faro",), (3,))
    lines = write(tmp_path / "b.jsonl", json.dumps(broken | {"context": "un \ud83d faro"}) + "\n")
    assert [one.cells for one in read(lines)] == [row.cells]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (
            asked(QUESTION, (ANSWER, START + 1)),
            rf"the answer does not stand in the context at its answer_start: at {START + 1} is 'rene ', and 'Irene' "
            rf"begins at {START}\. Correct it, or set `on_error` to skip",
        ),
        (
            asked(QUESTION, ("Irena", START)),
            "the answer .* is 'Irene', and 'Irena' is nowhere in it",
        ),
        (asked(QUESTION, (ANSWER, "x")), "answer_start is no number of characters: 'x'"),
        (asked(QUESTION, (ANSWER, -4)), "answer_start is no number of characters: '-4'"),
        (asked(QUESTION, (7, START)), "an answer is no text: 7"),
        (asked(QUESTION, (" ", 3)), "an answer is empty"),
        (asked(" ", (ANSWER, START)), "the question is empty"),
        (asked("a\0", (ANSWER, START)), "NUL character"),
        (asked(None, (ANSWER, START)), "the question is missing, or no text"),
        ({"question": QUESTION}, "a list `answers` is missing"),
        ({"question": QUESTION, "answers": [{"text": ANSWER}]}, "an answer has no `text` or no `answer_start`"),
        (asked(QUESTION, (ANSWER, START), is_impossible=True), "the question is_impossible, and yet has answers"),
        ("nothing", "the question is missing, or no text"),
    ],
)
def test_a_bad_question_is_refused_with_its_key_or_skipped(tmp_path: Path, question: Any, message: str) -> None:
    path = write(tmp_path / "a.json", squad(asked(QUESTION, (ANSWER, START)), question))
    with pytest.raises(DataError, match=rf"a\.json: data\[0\]\.paragraphs\[0\]\.qas\[1\]: {message}"):
        read(path)
    report = ReadReport()
    assert [tuple(one.cells) for one in read(path, on_error="skip", report=report)] == [EXPECTED]
    assert report.malformed == 1 and "a.json: data[0].paragraphs[0].qas[1])" in report.summary()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (squad(context=" "), r"a\.json: data\[0\]\.paragraphs\[0\]: the context is empty"),
        ({"data": [{"paragraphs": [7]}]}, r"data\[0\]\.paragraphs\[0\]: the context is missing, or no text"),
        ({"data": [{"paragraphs": [{"context": "x"}]}]}, r"data\[0\]\.paragraphs\[0\]: a list `qas` is missing"),
        ({"data": [{"title": "x"}]}, r"a\.json: data\[0\]: a list `paragraphs` is missing"),
        ({"data": []}, r"a\.json is empty"),
        ([1, 2], r"a\.json is not in the form of SQuAD: it has no list `data`; expected was \{"),
        ('{"data": [\n{"paragraphs": ', r"a\.json:2: this is no JSON \(Expecting value\)"),
        ('{"question": "a"}\n{"question": "b"}', r"a\.json:2: this is no JSON .*every line is an object, say so"),
        ("[" * 100_000, r"a\.json is nested too deeply"),
    ],
)
def test_files_of_another_shape(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "a.json", content))


def test_what_is_no_file_of_questions(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", squad(asked(QUESTION, (ANSWER, START))))
    with pytest.raises(
        DataError, match=r"a\.json is JSON of questions with answers, .* wanted of it is text\. If every"
    ):
        next(read_texts(path))
    with pytest.raises(DataError, match="in the form of SQuAD, which has no columns: leave `columns` out"):
        read({"path": path, "columns": {"question": "q"}})
    (tmp_path / "b.json").write_bytes(b'{"data": "\xe9"}')
    with pytest.raises(DataError, match=r"b\.json is no text in UTF-8"):
        read(str(tmp_path / "b.json"))
    with pytest.raises(DataError, match=r"a\.txt is plain text; questions with answers stand in \.json"):
        read(write(tmp_path / "a.txt", "a line"))
    row = {"question": QUESTION, "context": CONTEXT}
    with pytest.raises(DataError, match=r"a\.jsonl:1: column answer is missing"):
        read(write(tmp_path / "a.jsonl", row))
    with pytest.raises(DataError, match=r"b\.jsonl:1: column answer_start is missing"):
        read(write(tmp_path / "b.jsonl", row | {"answer": ANSWER}))
    with pytest.raises(DataError, match=r"c\.jsonl:1: there is not one answer_start for each answer: 1 for 2"):
        read(write(tmp_path / "c.jsonl", row | {"answer": [ANSWER, "alba"], "answer_start": [START]}))
    with pytest.raises(DataError, match=r"a\.tsv:2: the context is empty"):
        read(write(tmp_path / "a.tsv", f"question\tcontext\tanswer\tanswer_start\n{QUESTION}\t\t\t\n"))
