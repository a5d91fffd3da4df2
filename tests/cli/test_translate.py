"""`translate` from arguments, pipes and prompts; the models are untrained: everything but sense is tested."""

import io
import json
import sys
from pathlib import Path

import pytest

import trasluz
from trasluz.cli.main import run

Captured = pytest.CaptureFixture[str]


def lines_of(capsys: Captured, *arguments: str, code: int = 0) -> list[str]:
    assert run(["translate", *arguments]) == code
    answer = capsys.readouterr()
    assert answer.err == ""
    return answer.out.splitlines()


def refused(capsys: Captured, *arguments: str) -> str:
    assert run(["translate", *arguments]) == 2
    answer = capsys.readouterr()
    assert "Traceback" not in answer.err
    assert len(answer.err.splitlines()) <= 2
    return answer.err


def pipe(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))


def test_each_text_is_answered_by_one_line_as_python_answers_it(transformer_folder: str, capsys: Captured) -> None:
    texts = ["the lamp", "old paper, new light"]
    translate = trasluz.load(transformer_folder)
    wanted = [one.text for one in translate(texts, to="es")]
    assert lines_of(capsys, transformer_folder, *texts, "--to", "es") == wanted


def test_lines_of_a_pipe_and_empty_ones(
    recurrent_folder: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, "the lamp\n\nthe window\n\n")
    first, empty, second, last = lines_of(capsys, recurrent_folder)
    assert (empty, last) == ("", "")
    assert [first, second] == lines_of(capsys, recurrent_folder, "the lamp", "the window")


def test_json_is_what_python_gives(recurrent_folder: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, "a small window\n\n")
    first, empty = (json.loads(line) for line in lines_of(capsys, recurrent_folder, "--json", "--nbest", "2"))
    wanted = trasluz.load(recurrent_folder)("a small window", nbest=2).to_dict()
    assert first.keys() == wanted.keys()
    assert first["text"] == wanted["text"]
    assert first["score"] == pytest.approx(wanted["score"], abs=1e-4)
    assert len(first["alternatives"]) == 1
    assert (empty["source"], empty["text"]) == ("", "")


def test_n_best_lines_tell_text_and_score(recurrent_folder: str, capsys: Captured) -> None:
    rows = [line.split("\t") for line in lines_of(capsys, recurrent_folder, "the lamp", "light", "--nbest", "2")]
    assert [row[0] for row in rows] == ["1", "1", "2", "2"]
    assert float(rows[0][1]) >= float(rows[1][1])


def test_n_best_of_an_empty_line_is_an_empty_line(
    recurrent_folder: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, "the lamp\n\nlight\n")
    lines = lines_of(capsys, recurrent_folder, "--nbest", "2")
    assert [line.split("\t")[0] for line in lines] == ["1", "1", "", "3", "3"]


def test_search_options_reach_the_search(recurrent_folder: str, capsys: Captured) -> None:
    options = {"beam": 3, "length_penalty": 1.0, "coverage_penalty": 0.2, "min_length_ratio": 1.0, "no_repeat_ngram": 2}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    wanted = trasluz.load(recurrent_folder)("the lamp is on", **options).text
    assert lines_of(capsys, recurrent_folder, "the lamp is on", *words) == [wanted]


@pytest.mark.parametrize("ending", [".json", ".npz", ".html", ".png"])
def test_attention_is_written_beside(transformer_folder: str, tmp_path: Path, capsys: Captured, ending: str) -> None:
    path = tmp_path / f"attention{ending}"
    lines_of(capsys, transformer_folder, "the lamp", "light", "--to", "es", "--attention", str(path))
    assert path.stat().st_size > 0
    if ending == ".json":
        first, second = json.loads(path.read_text(encoding="utf-8"))
        assert first["kind"] == "cross" and first["layer"] == 1 and first["head"] == "mean"
        assert first["source_tokens"][-1] == first["target_tokens"][-1] == second["source_tokens"][-1] == "</s>"


def test_what_cannot_be_is_refused_in_a_sentence(
    transformer_folder: str, blind_folder: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, "this must not be read\n")
    assert "there is no model 'nowhere'" in refused(capsys, "nowhere", "text")
    assert "say which, with --to" in refused(capsys, transformer_folder)
    assert "--to is 'fr'" in refused(capsys, transformer_folder, "--to", "fr")
    assert "--beam must be a number from 1 up, but is 0." in refused(capsys, blind_folder, "text", "--beam", "0")
    assert "--beam" in refused(capsys, blind_folder, "text", "--beam", "many")
    assert "there is no dtype 'fp99'" in refused(capsys, blind_folder, "text", "--dtype", "fp99")
    assert "there is no device 'gpu'" in refused(capsys, blind_folder, "text", "--device", "gpu")
    assert "no form of attention file is known" in refused(
        capsys, transformer_folder, "x", "--to", "es", "--attention", "a.gif"
    )
    assert "has no attention to look at" in refused(capsys, blind_folder, "text", "--attention", "a.png")
    assert "Missing argument 'MODEL'" in refused(capsys)
    assert sys.stdin.read() == "this must not be read\n"


def test_a_text_that_is_too_long_is_named_by_its_line_and_those_before_it_are_answered(
    transformer_folder: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, f"the lamp\nlight\n{'paper ' * 5000}\nnever reached\n")
    assert run(["translate", transformer_folder, "--to", "es"]) == 2
    answer = capsys.readouterr()
    assert len(answer.out.splitlines()) == 2
    assert answer.err.startswith("trasluz: standard input:3: the text has ")


@pytest.mark.parametrize(
    "text", ["¡¿...?!", "🙂👩‍👩‍👧", "مرحبا بالعالم", "光が紙を通る", "e\u0301\u200d\t\x07", "</s> <2es> <pad>"]
)
def test_any_text_gets_an_answer_of_one_line(recurrent_folder: str, capsys: Captured, text: str) -> None:
    assert len(lines_of(capsys, recurrent_folder, text)) == 1


def test_a_glossary_file_and_markup(transformer_folder: str, tmp_path: Path, capsys: Captured) -> None:
    terms = tmp_path / "terms.tsv"
    terms.write_text("en\tes\nlamp\tmesa\n", encoding="utf-8")
    (line,) = lines_of(
        capsys, transformer_folder, "the <b>lamp</b>", "--to", "es", "--glossary", str(terms), "--markup"
    )
    assert "mesa" in line and "<b>" in line and "</b>" in line
    message = refused(capsys, transformer_folder, "the lamp", "--to", "es", "--glossary", str(tmp_path / "none.tsv"))
    assert "there is no file" in message


def test_markup_of_a_model_without_attention_is_refused(blind_folder: str, capsys: Captured) -> None:
    assert "cannot carry markup over" in refused(capsys, blind_folder, "the <b>lamp</b>", "--markup")
