"""`init` writes a recipe that the trainer accepts, from data it has looked at, or says what is wrong with the data."""

from pathlib import Path

import pytest

from trasluz.cli.main import run
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import parse_recipe


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    words = [("the", "la"), ("lamp", "lámpara"), ("window", "ventana"), ("light", "luz"), ("river", "río")]
    picked = [[words[(row * step) % 5] for step in range(2 + row % 4)] for row in range(60)]
    for side, language in enumerate(("en", "es")):
        lines = [" ".join(pair[side] for pair in pairs) for pairs in picked]
        (tmp_path / f"corpus.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> Recipe:
    assert run(["init", "translate", *arguments]) == 0
    return parse_recipe(capsys.readouterr().out)


def test_the_recipe_is_complete_commented_and_accepted(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "translate", "--data", "corpus.en", "corpus.es"]) == 0
    text = capsys.readouterr().out
    recipe = parse_recipe(text)
    assert recipe.data.train == "corpus.{en,es}"
    assert recipe.data.languages == ("en", "es")
    assert recipe.output == "runs/en-es"
    assert text.startswith("# Written by trasluz")
    assert "# 60 pairs of 3.5 and 3.5 words" in text
    for section in (recipe, recipe.data, recipe.tokenizer, recipe.training, recipe.evaluation):
        for name, field in type(section).model_fields.items():
            assert f"{name}:" in text
            assert field.description is not None
            assert field.description.split()[-1] in text


def test_what_is_asked_for_is_written(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--model",
        "rnnsearch",
        "--both-directions",
        "--max-time",
        "90s",
        "--output",
        "out",
        "--on-error",
        "skip",
    ]
    recipe = made(
        capsys, "--data", "corpus.{en,es}", "--valid", "corpus.en", "corpus.es", "--languages", "pt,gl", *options
    )
    assert recipe.model["preset"] == "rnnsearch"
    assert recipe.data.both_directions and recipe.data.on_error == "skip"
    assert recipe.data.valid == "corpus.{en,es}"
    assert recipe.data.languages == ("pt", "gl")
    assert recipe.training.max_time == 90.0
    assert recipe.output == "out"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["init", *arguments]) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    return answer.err


def test_what_cannot_be_is_refused_with_a_sentence(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ("--data", "corpus.{en,es}")
    assert "there is no task 'translat'; did you mean translate?" in refused(capsys, "translat", *data)
    assert "there is no task 'cook'; so far there is translate." in refused(capsys, "cook", *data)
    assert "no data is named" in refused(capsys, "translate")
    assert "Did you mean transformer-tiny?" in refused(capsys, "translate", *data, "--model", "transformer-tyni")
    assert "there is no file corpus.ez; did you mean corpus.es?" in refused(
        capsys, "translate", "--data", "corpus.{en,ez}"
    )
    assert "write a time with its unit" in refused(capsys, "translate", *data, "--max-time", "soon")
    assert "training.max_time" in refused(capsys, "translate", *data, "--max-time", "soon")


def test_broken_data_is_refused_with_its_place(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (corpus / "corpus.es").read_text(encoding="utf-8").splitlines()
    (corpus / "corpus.es").write_text("\n".join([*lines[:6], "", *lines[7:]]) + "\n", encoding="utf-8")
    assert "corpus.es:7" in refused(capsys, "translate", "--data", "corpus.{en,es}")
    assert made(capsys, "--data", "corpus.{en,es}", "--on-error", "skip").data.on_error == "skip"
    (corpus / "corpus.es").write_text("una sola línea\n", encoding="utf-8")
    assert "60" in refused(capsys, "translate", "--data", "corpus.{en,es}")
    (corpus / "corpus.es").write_text("", encoding="utf-8")
    assert "corpus.es" in refused(capsys, "translate", "--data", "corpus.{en,es}")
