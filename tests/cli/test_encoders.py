"""`fill-mask`, `classify`, `tag`, `answer`, `embed` from arguments and pipes; the models are random: all but sense."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trasluz
from trasluz.checkpoints.model_folder import load_model, save_loaded
from trasluz.cli.main import run

Captured = pytest.CaptureFixture[str]
Encoder = Callable[[str], str]

TEXTS = ["the old miller kept the bread", "nobody", "it kept seven blue boats, again"]
MASKED = ["the old [MASK] kept the bread", "[MASK]", "nobody sees the [MASK] and the [MASK]"]
# More tokens than the models read.
LONG = "the bread " * 60


def lines_of(capsys: Captured, *arguments: str) -> list[str]:
    assert run(arguments) == 0
    answer = capsys.readouterr()
    assert answer.err == ""
    return answer.out.splitlines()


def objects_of(capsys: Captured, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of(capsys, *arguments, "--json")]


def refused(capsys: Captured, *arguments: str) -> str:
    """Return the sentence, without the program's name."""
    assert run(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("trasluz: ")


def pipe(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))


def alike(found: Any, wanted: Any) -> bool:
    """Whether two answers are the same; numbers may differ by what the neighbours in a batch make them differ."""
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(alike(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(alike, found, wanted))
    return bool(found == pytest.approx(wanted, abs=1e-4)) if isinstance(wanted, float) else found == wanted


@pytest.fixture
def story(tmp_path: Path) -> str:
    """A context of several lines, with a mark at its beginning and the line ends of Windows."""
    path = tmp_path / "story.txt"
    path.write_bytes("\ufeffthe old miller kept the bread,\r\n\r\nnobody\tsees it.\r\n".encode())
    return str(path)


VERBS = [
    ("fill-mask", "masks", MASKED),
    ("classify", "topics", TEXTS),
    ("classify", "several", TEXTS),
    ("classify", "number", TEXTS),
    ("tag", "names", TEXTS),
    ("embed", "vectors", TEXTS),
]


# ---- what holds for all of them -------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "name", "texts"), VERBS)
def test_json_is_what_python_gives_in_order(
    encoder: Encoder, capsys: Captured, monkeypatch: pytest.MonkeyPatch, verb: str, name: str, texts: list[str]
) -> None:
    task = trasluz.load(encoder(name), task=verb)
    wanted = [one.to_dict() for one in task(texts)]
    assert [one["text"] for one in wanted] == texts
    assert alike(objects_of(capsys, verb, encoder(name), *texts), wanted)
    pipe(monkeypatch, "\n".join(texts) + "\n\n")
    *found, empty = objects_of(capsys, verb, encoder(name), "--batch-tokens", "7")
    assert alike(found, wanted)
    assert alike(empty, task("").to_dict())


@pytest.mark.parametrize(("verb", "name", "texts"), VERBS)
def test_an_empty_line_answers_an_empty_line(
    encoder: Encoder, capsys: Captured, monkeypatch: pytest.MonkeyPatch, verb: str, name: str, texts: list[str]
) -> None:
    wanted = lines_of(capsys, verb, encoder(name), texts[0], texts[2])
    pipe(monkeypatch, f"{texts[0]}\n\n{texts[2]}\n \n")
    first, empty, second, last = lines_of(capsys, verb, encoder(name))
    assert (empty, last) == ("", "")
    if verb == "embed":
        found, alone = (np.array([line.split() for line in two], dtype=float) for two in ([first, second], wanted))
        np.testing.assert_allclose(found, alone, atol=1e-5)
    else:
        assert [first, second] == wanted


@pytest.mark.parametrize(("keep", "said"), [("end", "the first {} tokens"), ("ends", "{} tokens in the middle")])
def test_the_remark_says_which_tokens_had_no_room(
    encoder: Encoder, capsys: Captured, tmp_path: Path, keep: str, said: str
) -> None:
    loaded = load_model(encoder("topics"))
    loaded.source_tokenizer.keep = keep
    save_loaded(tmp_path / "model", loaded)
    left_out = trasluz.load(tmp_path / "model").left_out(LONG)
    wanted = f"{said.format(left_out)} had no room and "
    assert run(["classify", str(tmp_path / "model"), LONG]) == 0
    assert capsys.readouterr().err == f"text 1: {wanted}were left out\n"
    assert run(["inspect", str(tmp_path / "model"), LONG, "--word", "bread"]) == 0
    assert capsys.readouterr().err == f"{wanted}are not shown\n"


@pytest.mark.parametrize(("verb", "name", "texts"), VERBS)
def test_what_had_no_room_is_remarked(
    encoder: Encoder, capsys: Captured, verb: str, name: str, texts: list[str]
) -> None:
    long = f"{texts[0]} {LONG}"
    left_out = trasluz.load(encoder(name), task=verb)(long).left_out
    assert left_out > 50
    assert run([verb, encoder(name), texts[1], long]) == 0
    answer = capsys.readouterr()
    assert answer.err == f"text 2: the last {left_out} tokens had no room and were left out\n"
    assert len(answer.out.splitlines()) == 2
    lines_of(capsys, verb, encoder(name), texts[1], long, "--quiet")


@pytest.mark.parametrize(("verb", "name", "texts"), VERBS)
def test_eight_bits_answer_nearly_the_same(
    encoder: Encoder, capsys: Captured, verb: str, name: str, texts: list[str]
) -> None:
    (exact,) = objects_of(capsys, verb, encoder(name), texts[0], "--dtype", "fp32")
    (rounded,) = objects_of(capsys, verb, encoder(name), texts[0], "--dtype", "int8")
    assert exact.keys() == rounded.keys()
    if verb == "embed":
        assert np.dot(exact["embedding"], rounded["embedding"]) > 0.99
    elif verb == "classify":
        assert rounded["scores"] == pytest.approx(exact["scores"], abs=0.1)


@pytest.mark.parametrize(
    ("verb", "name", "has"),
    [
        ("fill-mask", "topics", "'classify' or 'embed'"),
        ("classify", "masks", "'fill-mask' or 'embed'"),
        ("tag", "vectors", "'embed'"),
        ("answer", "names", "'tag' or 'embed'"),
    ],
)
def test_a_model_without_that_head(
    encoder: Encoder, capsys: Captured, story: str, verb: str, name: str, has: str
) -> None:
    context = ["--context", story] if verb == "answer" else []
    folder = encoder(name)
    assert refused(capsys, verb, folder, "text", *context) == f"{folder} is for the task {has}, not {verb!r}."


def test_a_translator_makes_no_vectors(recurrent_folder: str, capsys: Captured) -> None:
    assert refused(capsys, "embed", recurrent_folder, "x").endswith("is for the task 'translate', not 'embed'.")


@pytest.mark.parametrize(
    ("verb", "name", "options", "sentence"),
    [
        ("fill-mask", "masks", "--top 0", "--top must be from 1 to the vocabulary's 200 tokens, but is 0."),
        ("fill-mask", "masks", "--top 201", "--top must be from 1 to the vocabulary's 200 tokens, but is 201."),
        ("classify", "topics", "--top 0", "--top must be at least 1, but is 0."),
        ("tag", "names", "--batch-tokens 0", "--batch-tokens is 0; it must be 1 or more."),
        ("tag", "names", "--dtype fp17", "there is no dtype 'fp17'; say auto, fp32, bf16 or int8."),
        ("answer", "reader", "", "--context is missing: the file in which the answers are looked for."),
        ("answer", "reader", "--context none.txt", "there is no file none.txt."),
        ("answer", "reader", "--context story.txt --top 0", "--top must be at least 1, but is 0."),
        ("embed", "vectors", "--pooling meen", "there is no pooling 'meen'; did you mean mean?"),
        ("embed", "vectors", "--pooling sum", "there is no pooling 'sum'; it is one of cls, mean, max."),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(
    encoder: Encoder,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    story: str,
    verb: str,
    name: str,
    options: str,
    sentence: str,
) -> None:
    monkeypatch.chdir(Path(story).parent)
    pipe(monkeypatch, "this must not be read\n")
    assert refused(capsys, verb, encoder(name), *options.split()) == sentence
    assert sys.stdin.read() == "this must not be read\n"


# ---- each of them ---------------------------------------------------------------------------------------------


def test_places_of_a_line_are_separated_by_tabs(encoder: Encoder, capsys: Captured) -> None:
    wanted = trasluz.load(encoder("masks"))(MASKED[2], top=2)
    (line,) = lines_of(capsys, "fill-mask", encoder("masks"), MASKED[2], "--top", "2")
    places = [", ".join(f"{one.token} {one.probability:.3f}" for one in mask.candidates) for mask in wanted.masks]
    assert len(places) == 2 and line.split("\t") == places


def test_the_mask_is_written_as_the_tokenizer_writes_it(encoder: Encoder, capsys: Captured) -> None:
    (found,) = objects_of(capsys, "fill-mask", encoder("roberta"), "the old <mask> kept it", "--top", "1")
    assert found["masks"][0]["start"] == 8 and "<mask>" not in found["filled"]
    message = refused(capsys, "fill-mask", encoder("roberta"), "the old [MASK] kept it")
    assert message == "text:1: the text has no <mask>, which says what to fill: 'the old [MASK] kept it'."


def test_a_text_without_mask_is_named_by_its_line_and_those_before_it_are_answered(
    encoder: Encoder, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, f"{MASKED[0]}\n\nthe bread\n{MASKED[1]}\n")
    assert run(["fill-mask", encoder("masks")]) == 2
    answer = capsys.readouterr()
    assert len(answer.out.splitlines()) == 2
    assert answer.err == ("trasluz: standard input:3: the text has no [MASK], which says what to fill: 'the bread'.\n")
    message = refused(capsys, "fill-mask", encoder("masks"), f"{LONG} [MASK]")
    assert message == "text:1: the text has no [MASK] among the 40 of its tokens that masks reads."


def test_labels_that_hold_or_as_many_as_asked(encoder: Encoder, capsys: Captured) -> None:
    one = trasluz.load(encoder("topics"))(TEXTS[0])
    assert lines_of(capsys, "classify", encoder("topics"), TEXTS[0]) == [f"{one.label} {one.score:.3f}"]
    ranked = [f"{label} {score:.3f}" for label, score in one.scores.items()]
    (two,) = lines_of(capsys, "classify", encoder("topics"), TEXTS[0], "--top", "2")
    (all_of_them,) = lines_of(capsys, "classify", encoder("topics"), TEXTS[0], "--top", "9")
    assert two.split("\t") == ranked[:2] and all_of_them.split("\t") == ranked and len(ranked) == 3


def test_several_labels_and_a_number(encoder: Encoder, capsys: Captured) -> None:
    found = trasluz.load(encoder("several"))(TEXTS)
    wanted = ["\t".join(f"{label} {one.scores[label]:.3f}" for label in one.labels) for one in found]
    assert lines_of(capsys, "classify", encoder("several"), *TEXTS) == wanted
    assert all(score >= 0.5 for one in found for label, score in one.scores.items() if label in one.labels)
    (number,) = lines_of(capsys, "classify", encoder("number"), TEXTS[0])
    assert number == f"stars {trasluz.load(encoder('number'))(TEXTS[0]).score:.3f}"


def test_pairs_have_a_tab_between(encoder: Encoder, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = trasluz.load(encoder("topics"))(TEXTS[0], TEXTS[1])
    pipe(monkeypatch, f"{TEXTS[0]}\t{TEXTS[1]}\n\n\t{TEXTS[1]}\n\t\n")
    pair, empty, half, blank = lines_of(capsys, "classify", encoder("topics"), "--pairs")
    assert pair == f"{wanted.label} {wanted.score:.3f}"
    assert (empty, blank) == ("", "") and half
    (found,) = objects_of(capsys, "classify", encoder("topics"), "--pairs", f"{TEXTS[0]}\t{TEXTS[1]}")
    assert alike(found, wanted.to_dict()) and found["second_text"] == TEXTS[1]


@pytest.mark.parametrize(("line", "number"), [("the bread", 1), ("the\tbread\tagain", 3)])
def test_what_is_no_pair_is_named_by_its_line(
    encoder: Encoder, capsys: Captured, monkeypatch: pytest.MonkeyPatch, line: str, number: int
) -> None:
    pipe(monkeypatch, f"the wind\ta letter\n{line}\n")
    assert run(["classify", encoder("topics"), "--pairs"]) == 2
    answer = capsys.readouterr()
    assert len(answer.out.splitlines()) == 1
    expected = f"two texts with a tab between were expected, not {number}: {line!r}."
    assert answer.err == f"trasluz: standard input:2: {expected}\n"


def test_a_pair_that_is_too_long_is_remarked(encoder: Encoder, capsys: Captured) -> None:
    assert run(["classify", encoder("topics"), "--pairs", f"{LONG}\t{LONG}"]) == 0
    assert capsys.readouterr().err.startswith("text 1: the last ")


def test_entities_of_a_line(encoder: Encoder, capsys: Captured) -> None:
    text = "the old\tmiller kept the bread"
    entities = trasluz.load(encoder("names"))(text).entities
    (line,) = lines_of(capsys, "tag", encoder("names"), text)
    assert entities
    places = (text[one.start : one.end].replace("\t", " ") for one in entities)
    wanted = [f"{one.label} {one.start}-{one.end} {words}" for one, words in zip(entities, places, strict=True)]
    assert line.split("\t") == wanted


def test_a_context_without_words_is_refused(encoder: Encoder, capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n\n")
    assert run(["answer", encoder("reader"), "--context", str(tmp_path / "empty.txt"), "Who?"]) == 2
    assert "empty.txt has no words; a text in which answers stand was expected." in capsys.readouterr().err


def test_answers_stand_in_the_context(
    encoder: Encoder, capsys: Captured, monkeypatch: pytest.MonkeyPatch, story: str
) -> None:
    told = "the old miller kept the bread,\n\nnobody\tsees it."
    questions = ["who kept it?", "what?"]
    wanted = [one.to_dict() for one in trasluz.load(encoder("reader"))(questions, told, top=3)]
    found = objects_of(capsys, "answer", encoder("reader"), "--context", story, "--top", "3", *questions)
    assert alike(found, wanted)
    spans = [span for one in found for span in (one, *one["alternatives"])]
    assert len(spans) == 6 and all(told[span["start"] : span["end"]] == span["text"] for span in spans)
    pipe(monkeypatch, "who kept it?\n\nwhat?\n")
    first, empty, last = lines_of(capsys, "answer", encoder("reader"), "--context", story)
    assert empty == ""
    pipe(monkeypatch, "who kept it?\n\n \n")
    _, *nothing = objects_of(capsys, "answer", encoder("reader"), "--context", story, "--top", "3")
    assert [(one["text"], one["score"], one["alternatives"]) for one in nothing] == [("", 1.0, [])] * 2
    for line, one in zip([first, last], wanted, strict=True):
        # Line ends and tabs would break the line that an answer is.
        text = one["text"].replace("\n", " ").replace("\t", " ")
        assert line == f"{text}\t{one['score']:.3f}\t{one['start']}-{one['end']}"


def test_that_there_is_no_answer_is_an_answer(encoder: Encoder, capsys: Captured, tmp_path: Path) -> None:
    context = tmp_path / "short.txt"
    context.write_text("it", encoding="utf-8")
    options = ("answer", encoder("reader"), "--context", str(context), "what?")
    (sure,) = objects_of(capsys, *options, "--top", "9")
    assert sure["text"] and all(one["text"] for one in sure["alternatives"])
    (unsure,) = objects_of(capsys, *options, "--top", "9", "--no-answer")
    nothing = {"text": "", "start": 0, "end": 0}
    assert any(one | nothing == one for one in (unsure, *unsure["alternatives"]))


def test_a_context_that_is_no_text_is_named_by_its_line(encoder: Encoder, capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "broken.txt"
    path.write_bytes(b"the miller\nkept \xff\n")
    message = refused(capsys, "answer", encoder("reader"), "--context", str(path), "who?")
    assert message == f"{path}:2: invalid UTF-8; a text in UTF-8 was expected."
    assert refused(capsys, "answer", encoder("reader"), "--context", str(tmp_path), "who?") == (
        f"{tmp_path} cannot be read: Is a directory."
    )


def test_a_question_without_room_for_a_context_is_named(encoder: Encoder, capsys: Captured, story: str) -> None:
    assert run(["answer", encoder("reader"), "--context", story, "who?", "who " * 60]) == 2
    answer = capsys.readouterr()
    assert len(answer.out.splitlines()) == 1
    assert answer.err.startswith("trasluz: text:2: the question has 180 tokens, which leave no room for a context")


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_vectors_are_made_as_asked(encoder: Encoder, capsys: Captured, pooling: str) -> None:
    embed = trasluz.load(encoder("vectors"), task="embed")
    for option, normalize in (("--normalize", True), ("--no-normalize", False)):
        lines = lines_of(capsys, "embed", encoder("vectors"), *TEXTS, "--pooling", pooling, option)
        vectors = np.array([line.split() for line in lines], dtype=np.float32)
        np.testing.assert_allclose(vectors, embed.vectors(TEXTS, pooling=pooling, normalize=normalize), atol=1e-5)
        lengths = np.linalg.norm(vectors, axis=1)
        assert np.allclose(lengths, 1.0, atol=1e-5) == normalize


def test_any_encoder_makes_vectors(encoder: Encoder, capsys: Captured) -> None:
    (line,) = lines_of(capsys, "embed", encoder("masks"), TEXTS[0])
    assert len(line.split()) == 21
