"""`init` writes a recipe that the trainer accepts, from data it has looked at, or says what is wrong with the data."""

import json
from pathlib import Path

import pytest
from tests.checkpoints.hub_encoders import write_encoder

from trasluz.cli.main import run
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import parse_recipe
from trasluz.training.task_rules import ONLY_FOR


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
    parts = {"": recipe, "data.": recipe.data, "tokenizer.": recipe.tokenizer}
    parts |= {"training.": recipe.training, "evaluation.": recipe.evaluation}
    for part, section in parts.items():
        for name, field in type(section).model_fields.items():
            if "translate" not in ONLY_FOR.get(part + name, ("translate",)):
                assert f"{name}:" not in text
                continue
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
    assert (
        "there is no task 'cook'; so far there are translate, fill-mask, classify, tag, answer, generate."
        in refused(capsys, "cook", *data)
    )
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


def test_a_recipe_for_labelled_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{('dry', 'wet')[row % 2]}\tthe {'sun' if row % 2 else 'rain'} of day {row}\n" for row in range(80))
    (tmp_path / "days.tsv").write_text("label\ttext\n" + rows)
    data = ["--data", str(tmp_path / "days.tsv")]
    assert run(["init", "classify", *data]) == 0
    text = capsys.readouterr().out
    recipe = parse_recipe(text)
    assert recipe.task == "classify" and recipe.evaluation.metric == "accuracy" and recipe.output == "runs/classify"
    assert "80 texts of 5.0 words, 2 labels" in text and "It learns from nothing; with --model" in text
    # What means nothing to the task is not shown.
    assert "languages" not in text and "beam" not in text and "label_kind: one" in text
    assert run(["init", "classify", *data, "--model", "owner/encoder", "--columns", "label=label", "--pairs"]) == 2
    assert "days.tsv has no column second_text" in capsys.readouterr().err
    assert run(["init", "classify", *data, "--model", "owner/encoder"]) == 0
    tuned = parse_recipe(capsys.readouterr().out)
    assert tuned.model == "owner/encoder" and tuned.training.layer_decay == 0.9 and tuned.training.max_epochs == 4
    assert run(["init", "fill-mask", *data]) == 0
    text = capsys.readouterr().out
    raw = parse_recipe(text)
    assert raw.task == "fill-mask" and raw.evaluation.metric == "loss" and raw.output == "runs/fill-mask"
    assert "rate: 0.15" in text and "label_kind" not in text
    assert run(["init", "classify", *data, "--languages", "en,es"]) == 2
    assert "--languages is for translators" in capsys.readouterr().err
    (tmp_path / "days.tsv").write_text("label\ttext\n" + "dry\ta day\n" * 5)
    assert run(["init", "classify", *data]) == 2
    assert "has the same label: there is nothing to learn" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["classify", "fill-mask"])
def test_a_recipe_asks_the_given_model_how_much_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    write_encoder(tmp_path / "encoder", "BertForMaskedLM")
    path = tmp_path / "encoder" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 24}))
    rows = "".join(f"{['dry', 'rain'][day % 2]}\t{'day number again ' * 20}{day}\n" for day in range(80))
    (tmp_path / "days.tsv").write_text("label\ttext\n" + rows)
    assert run(["init", task, "--data", str(tmp_path / "days.tsv"), "--model", str(tmp_path / "encoder")]) == 0
    assert parse_recipe(capsys.readouterr().out).data.max_length == 24
    assert run(["init", task, "--data", str(tmp_path / "days.tsv")]) == 0
    assert parse_recipe(capsys.readouterr().out).data.max_length == 128


def test_a_recipe_for_tagged_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "names.txt").write_text("ana B-PER\nsaw O\nvigo B-LOC\n\n" * 30)
    data = ["--data", str(tmp_path / "names.txt"), "--format", "conll", "--valid", str(tmp_path / "names.txt")]
    assert run(["init", "tag", *data]) == 0
    text = capsys.readouterr().out
    recipe = parse_recipe(text)
    assert "30 sentences of 3.0 words" in text and "# Entities: LOC, PER." in text and "It learns from nothing" in text
    assert recipe.evaluation.metric == "entity_f1" and recipe.data.valid == recipe.data.train
    assert recipe.data.train["format"] == "conll" and "label_kind" not in text


def test_a_recipe_for_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = "Irene lit the lamp at nine."
    answers = [{"text": "Irene", "answer_start": 0}]
    questions = [{"question": "Who lit it?", "answers": answers}, {"question": "Who saw it?", "answers": []}]
    paragraphs = [{"context": context + " " * number, "qas": questions} for number in range(20)]
    (tmp_path / "scenes.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    data = ["--data", str(tmp_path / "scenes.json")]
    assert run(["init", "answer", *data]) == 0
    text = capsys.readouterr().out
    recipe = parse_recipe(text)
    assert "40 questions about 20 contexts, 9.0 words together" in text and "It learns from nothing" in text
    assert "20 of the questions have no answer" in text and "overlap: 128" in text and "label_kind" not in text
    assert recipe.task == "answer" and recipe.evaluation.metric == "answer_f1" and recipe.output == "runs/answer"
    assert recipe.data.max_length == 32 and recipe.training.label_smoothing == 0.0
    assert "answer_rules: squad" in text and recipe.tokenizer.kind == "wordpiece"
    assert run(["init", "answer", *data, "--model", "owner/encoder"]) == 0
    tuned = parse_recipe(capsys.readouterr().out)
    assert tuned.model == "owner/encoder" and tuned.training.layer_decay == 0.9
    assert run(["init", "tag", *data]) == 2
    assert "scenes.json is JSON of questions with answers" in capsys.readouterr().err
    questions[0]["question"] = ""
    (tmp_path / "scenes.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    assert run(["init", "answer", *data]) == 2
    assert "scenes.json: data[0].paragraphs[0].qas[0]: the question is empty" in capsys.readouterr().err


def test_columns_of_a_translation_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.tsv").write_text("first\tsecond\n" + "a lamp\tuna lámpara\n" * 20)
    options = ["--data", str(tmp_path / "pairs.tsv"), "--columns", "en=first,es=second"]
    assert run(["init", "translate", *options, "--languages", "en,es"]) == 0
    assert parse_recipe(capsys.readouterr().out).data.train["columns"] == {"en": "first", "es": "second"}
    assert run(["init", "translate", *options]) == 0
    assert parse_recipe(capsys.readouterr().out).data.languages == ("en", "es")
    assert run(["init", "translate", *options[:2]]) == 2
    assert "tell its languages; say them, as in --languages en,es." in capsys.readouterr().err


def test_a_recipe_for_continuing_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "days.txt").write_text("The sun rose.\nThe rain fell for hours.\n" * 30)
    data = ["--data", str(tmp_path / "days.txt")]
    assert run(["init", "generate", *data]) == 0
    text = capsys.readouterr().out
    recipe = parse_recipe(text)
    assert recipe.task == "generate" and recipe.evaluation.metric == "loss" and recipe.output == "runs/generate"
    assert "60 documents of 4.0 words" in text and "document: line" in text and recipe.training.max_time == 3600.0
    assert "languages" not in text and "label_kind" not in text and recipe.model["max_positions"] == 256
    assert "is a single document, of which none can be held out: name another with --valid" in refused(
        capsys, "generate", *data, "--document", "file"
    )
    assert "--document is for models that continue texts" in refused(capsys, "fill-mask", *data, "--document", "file")
    assert "--document is 'book'; it is line or file." in refused(capsys, "generate", *data, "--document", "book")
    options = ["--document", "file", "--valid", data[1], "--model", "owner/gpt"]
    assert run(["init", "generate", *data, *options]) == 0
    recipe = parse_recipe(capsys.readouterr().out)
    assert recipe.data.document == "file" and recipe.model == "owner/gpt" and recipe.training.learning_rate == 1e-4


def test_documents_may_have_empty_lines_between_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "documents.txt").write_text("a day\na night\n\n" * 30)
    assert run(["init", "fill-mask", "--data", str(tmp_path / "documents.txt")]) == 0
    text = capsys.readouterr().out
    assert parse_recipe(text).data.on_error == "stop" and "60 texts of 2.0 words" in text
    assert "30 documents, by empty lines between them: train with masking.next_sentence=true, or leave" in text
