"""`generate` from arguments and pipes; the model is random: all but sense."""

import io
import json
import sys
from typing import Any

import pytest

import trasluz
from trasluz.cli.main import run

Captured = pytest.CaptureFixture[str]
PROMPTS = ["the old miller", "nobody", "it kept seven blue boats"]
OPTIONS = ("--max-tokens", "9", "--seed", "3", "--temperature", "0.7", "--top-k", "20", "--top-p", "0.9")
ASKED: dict[str, Any] = {"max_tokens": 9, "seed": 3, "temperature": 0.7, "top_k": 20, "top_p": 0.9}


def lines_of(capsys: Captured, *arguments: str) -> list[str]:
    assert run(["generate", *arguments]) == 0
    answer = capsys.readouterr()
    assert answer.err == ""
    return answer.out.split("\n")[:-1]


def pipe(monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))


def in_a_line(text: str) -> str:
    return "".join(" " if character.splitlines() == [""] else character for character in text)


def test_texts_are_those_of_python_in_order(gpt_folder: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = trasluz.load(gpt_folder)
    wanted = [in_a_line(one.text) for one in generate(PROMPTS, **ASKED)]
    assert len(set(wanted)) == 3
    assert lines_of(capsys, gpt_folder, *PROMPTS, *OPTIONS) == wanted
    pipe(monkeypatch, "\n".join(PROMPTS) + "\n\n")
    assert lines_of(capsys, gpt_folder, *OPTIONS) == [*wanted, ""]
    pipe(monkeypatch, f"{PROMPTS[0]}\n\n")
    greedy = in_a_line(generate(PROMPTS[0], beam=1, max_tokens=5).text)
    assert lines_of(capsys, gpt_folder, "--beam", "1", "--max-tokens", "5") == [greedy, ""]


def test_samples_beams_and_json(gpt_folder: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = trasluz.load(gpt_folder)
    several = generate(PROMPTS, samples=2, **ASKED)
    wanted = [
        f"{number}\t{sample.log_probability:.4f}\t{in_a_line(sample.text)}"
        for number, one in enumerate(several, start=1)
        for sample in (one, *one.alternatives)
    ]
    assert lines_of(capsys, gpt_folder, *PROMPTS, *OPTIONS, "--samples", "2") == wanted
    pipe(monkeypatch, "\n" + PROMPTS[0] + "\n")
    searched = in_a_line(generate(PROMPTS[0], beam=3, max_tokens=5).text)
    assert lines_of(capsys, gpt_folder, "--beam", "3", "--max-tokens", "5") == ["", searched]
    (line,) = lines_of(capsys, gpt_folder, PROMPTS[0], *OPTIONS, "--json", "--samples", "2")
    found = json.loads(line)
    assert found == several[0].to_dict() and len(found["alternatives"]) == 1
    assert list(found) == ["prompt", "text", "log_probability", "score", "reason", "tokens", "alternatives"]
    pipe(monkeypatch, "\n" + PROMPTS[0] + "\n")
    empty, _ = map(json.loads, lines_of(capsys, gpt_folder, *OPTIONS, "--json"))
    assert list(empty) == list(found) and empty["prompt"] == empty["text"] == ""


def test_stop_strings_and_the_window(gpt_folder: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    text = trasluz.load(gpt_folder)(PROMPTS[0], **ASKED).text
    stop = text[2:4]
    (line,) = lines_of(capsys, gpt_folder, PROMPTS[0], *OPTIONS, "--stop", "never ever", "--stop", stop)
    assert line == in_a_line(text[: text.find(stop)])
    long = "the bread " * 60
    assert len(lines_of(capsys, gpt_folder, long, *OPTIONS, "--slide")) == 1
    pipe(monkeypatch, f"a\n{long}\n")
    assert run(["generate", gpt_folder, *OPTIONS]) == 2
    assert "trasluz: standard input:2: the prompt has " in capsys.readouterr().err


def test_an_empty_argument_begins_a_text(gpt_folder: str, capsys: Captured) -> None:
    wanted = trasluz.load(gpt_folder)("", max_tokens=9, seed=3).text
    assert lines_of(capsys, gpt_folder, "", "--max-tokens", "9", "--seed", "3") == [in_a_line(wanted)]


def test_a_terminal_shows_line_breaks(gpt_folder: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = trasluz.load(gpt_folder)
    seed = next(seed for seed in range(100) if "\n" in generate("a", max_tokens=40, seed=seed, temperature=3.0).text)
    options = ("--max-tokens", "40", "--temperature", "3", "--seed", str(seed))
    assert len(lines_of(capsys, gpt_folder, "a", *options)) == 1
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert len(lines_of(capsys, gpt_folder, "a", *options)) > 1


def test_a_pipe_gets_one_line_whatever_ends_lines(
    gpt_folder: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trasluz.tasks.generator.Generator.stream", lambda *_, **__: iter(["a\r", "\u2028b\x85c"]))
    assert run(["generate", gpt_folder, "a"]) == 0
    assert capsys.readouterr().out == "a  b c\n"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--max-tokens", "0"), "--max-tokens must be a whole number from 1 up, but is 0."),
        (("--beam", "2", "--temperature", "1"), "--temperature is for texts that are drawn, and --beam searches"),
        (("--beam", "2", "--repetition-penalty", "2"), "--repetition-penalty does not go together with a --beam of 2"),
        (("--beam", "2", "--slide"), "--slide does not go together with a --beam of 2"),
        (("--top-p", "2"), "--top-p must be above 0 and at most 1"),
        (("--stop", ""), "--stop holds ''; texts of one character at least were expected."),
    ],
)
def test_what_cannot_be_is_one_sentence(
    gpt_folder: str, capsys: Captured, options: tuple[str, ...], sentence: str
) -> None:
    assert run(["generate", gpt_folder, "a", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"trasluz: {sentence}")


def test_a_model_of_another_kind(transformer_folder: str, capsys: Captured) -> None:
    assert run(["generate", transformer_folder, "a"]) == 2
    assert "is for the task 'translate', not 'generate'" in capsys.readouterr().err
