"""`evaluate` gives sacreBLEU's own figures, with signatures, for every direction of a model."""

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import torch

import trasluz
from trasluz.cli.main import run
from trasluz.tasks.directions import Direction, Directions
from trasluz.text.batching import make_text_batch
from trasluz.text.masking import Masking

Captured = pytest.CaptureFixture[str]
ENGLISH = ["the lamp is on the table", "a small window", "old paper"]
SPANISH = ["la lámpara está en la mesa", "una ventana pequeña", "papel viejo"]


@pytest.fixture
def test_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, lines in (("test.en", ENGLISH), ("test.es", SPANISH)):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def reports(capsys: Captured, *arguments: str) -> list[dict[str, object]]:
    assert run(["evaluate", *arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("test_pair")
def test_both_directions_are_scored_as_sacrebleu_scores_them(transformer_folder: str, capsys: Captured) -> None:
    forth, back = reports(capsys, transformer_folder, "--data", "test.en", "test.es", "--beam", "1")
    translate = trasluz.load(transformer_folder)
    for report, sources, references in ((forth, ENGLISH, SPANISH), (back, SPANISH, ENGLISH)):
        texts = [one.text for one in translate(sources, to=str(report["to"]), beam=1)]
        assert report["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, [references]).score, abs=1e-3)
        assert report["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts, [references]).score, abs=1e-3)
        assert report["sentences"] == 3
        assert "tok:13a" in str(report["bleu_signature"]) and "case:mixed" in str(report["bleu_signature"])
    assert (forth["from"], forth["to"], back["from"], back["to"]) == ("en", "es", "es", "en")


def test_sides_whose_names_tell_no_language_stand_in_the_model_order(
    transformer_folder: str, test_pair: Path, capsys: Captured
) -> None:
    for name, twin in (("test.en", "test.eng"), ("test.es", "test.spa")):
        (test_pair / twin).write_text((test_pair / name).read_text(encoding="utf-8"), encoding="utf-8")
    for options in ((), ("--to", "en")):
        named = reports(capsys, transformer_folder, "--data", "test.{en,es}", *options)
        assert reports(capsys, transformer_folder, "--data", "test.{eng,spa}", *options) == named


def test_translations_are_kept_and_figures_told_in_lines(
    transformer_folder: str, test_pair: Path, capsys: Captured
) -> None:
    options = ("--to", "es", "--out", "said.es", "--lowercase")
    assert run(["evaluate", transformer_folder, "--data", "test.{en,es}", *options]) == 0
    bleu, chrf = capsys.readouterr().out.splitlines()
    assert bleu.startswith("en-es  bleu") and "case:lc" in bleu
    assert chrf.startswith("en-es  chrf") and "version:" in chrf
    assert len((test_pair / "said.es").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.usefixtures("test_pair")
def test_what_cannot_be_is_refused(transformer_folder: str, test_pair: Path, capsys: Captured) -> None:
    (test_pair / "short.es").write_text("una línea\n", encoding="utf-8")
    for options, sentence in (
        ((), "no data is named; say for instance --data"),
        (("--data", "test.{en,fr}"), "there is no file test.fr"),
        (("--data", "test.en", "short.es"), "they must be of equal length"),
        (("--data", "test.{en,es}", "--to", "fr"), "--to is 'fr'"),
        (("--data", "test.{en,es}", "--out", "all.txt"), "--out takes the translations of one direction"),
        (("--data", "test.{en,es}", "--on-error", "cry"), "--on-error is 'cry'; it can be stop or skip."),
        (("--data", "test.{en,es}", "--stride", "3"), "--stride means nothing to"),
    ):
        assert run(["evaluate", transformer_folder, *options]) == 2
        assert sentence in capsys.readouterr().err


def test_malformed_lines_are_skipped_and_told_where_asked_for(
    recurrent_folder: str, test_pair: Path, capsys: Captured
) -> None:
    (test_pair / "test.es").write_text(f"{SPANISH[0]}\n\n{SPANISH[2]}\n", encoding="utf-8")
    assert run(["evaluate", recurrent_folder, "--data", "test.{en,es}"]) == 2
    assert "test.es:2" in capsys.readouterr().err
    assert run(["evaluate", recurrent_folder, "--data", "test.{en,es}", "--on-error", "skip", "--json"]) == 0
    answer = capsys.readouterr()
    assert json.loads(answer.out)["sentences"] == 2
    assert "2 of 3 read; 1 left out" in answer.err


def test_labels_are_scored(encoder: Callable[[str], str], tmp_path: Path, capsys: Captured) -> None:
    folder = encoder("topics")
    texts = ["the bread", "seven blue boats", "it", "a letter"]
    found = [one.label for one in trasluz.load(folder)(texts)]
    gold = [*found[:3], next(label for label in ("home", "sea") if label != found[3])]
    rows = "".join(f"{label}\t{text}\n" for label, text in zip(gold, texts, strict=True))
    (tmp_path / "test.tsv").write_text("topic\ttext\n" + rows)
    data = ("--data", str(tmp_path / "test.tsv"), "--columns", "label=topic")
    (report,) = reports(capsys, folder, *data, "--out", str(tmp_path / "labels.txt"))
    assert report["accuracy"] == 0.75 and "texts:4|labels:3|kind:one" in str(report["signature"])
    assert (tmp_path / "labels.txt").read_text().splitlines() == found
    assert run(["evaluate", folder, *data]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith("accuracy           0.7500  texts:4|")
    assert run(["evaluate", folder, *data, "--beam", "4"]) == 2
    refusal = f"--beam means nothing to {folder}, whose task is classify; what does is --pairs, --out."
    assert refusal in " ".join(capsys.readouterr().err.split())
    (tmp_path / "test.tsv").write_text("topic\ttext\nseas\tx\n")
    assert run(["evaluate", folder, *data]) == 2
    assert "test.tsv:2: there is no label 'seas'; did you mean sea?" in capsys.readouterr().err
    assert run(["evaluate", folder, "--task", "tag", *data]) == 2
    assert "is for the task 'classify' or 'embed', not 'tag'" in capsys.readouterr().err
    for options in ((), ("--beam", "4")):
        assert run(["evaluate", encoder("vectors"), *data, *options]) == 2
        assert "is for embed, which has no score; what translates" in capsys.readouterr().err
    assert run(["evaluate", folder, *data[:3], "label"]) == 2
    assert "--columns is 'label'; names and columns were expected" in capsys.readouterr().err


def test_tags_are_scored(encoder: Callable[[str], str], tmp_path: Path, capsys: Captured) -> None:
    folder = encoder("names")
    sentences = [["the", "old", "miller"], ["she", "kept", "it"], ["bread", "boats", "nobody", "letter"]]
    tags = list(trasluz.load(folder).tag_words(sentences))
    lines = "\n\n".join(
        "\n".join(f"{word} X {tag}" for word, tag in zip(words, found, strict=True))
        for words, found in zip(sentences, tags, strict=True)
    )
    (tmp_path / "test.txt").write_text(lines + "\n")
    data = ("--data", str(tmp_path / "test.txt"), "--format", "conll")
    (report,) = reports(capsys, folder, *data, "--out", str(tmp_path / "tags.txt"))
    assert report["entity_f1"] == 1.0 and "sentences:3|entities:" in str(report["signature"])
    assert (tmp_path / "tags.txt").read_text().splitlines() == [" ".join(one) for one in tags]
    assert run(["evaluate", folder, *data]) == 0
    assert capsys.readouterr().out.startswith("entity_precision   1.0000  sentences:3|")


def test_tags_that_are_none_of_entities_are_scored(
    encoder: Callable[[str], str], tmp_path: Path, capsys: Captured
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(encoder("names"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = dict(enumerate(["NOUN", "VERB", "DET", "ADJ", "ADP"][: len(config["id2label"])]))
    config.pop("label2id", None)
    (folder / "config.json").write_text(json.dumps(config))
    words = ["the", "old", "miller"]
    (tags,) = trasluz.load(folder).tag_words([words])
    lines = [f"{word} {tag}" for word, tag in zip(words, [*tags[:2], "NUM"], strict=True)]
    (tmp_path / "test.conll").write_text("\n".join(lines) + "\n")
    (report,) = reports(capsys, str(folder), "--data", str(tmp_path / "test.conll"))
    assert report["accuracy"] == pytest.approx(2 / 3)


def test_answers_are_scored(encoder: Callable[[str], str], tmp_path: Path, capsys: Captured) -> None:
    folder = encoder("reader")
    context = "the old miller kept the bread, nobody sees it."
    questions = ["who?", "what is kept?", "nobody?"]
    found = trasluz.load(folder)(questions, context)
    rows = [
        {"question": question, "context": context, "answer": one.text, "answer_start": one.start}
        for question, one in zip(questions, found, strict=True)
    ]
    wrong = next(word for word in ("miller", "bread") if word not in found[2].text.split())
    rows[2] |= {"answer": wrong, "answer_start": context.index(wrong)}
    test = tmp_path / "test.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ("--data", str(test))
    (report,) = reports(capsys, folder, *data, "--out", str(tmp_path / "answers.txt"))
    assert report["exact_match"] == pytest.approx(200 / 3) and float(str(report["answer_f1"])) >= 200 / 3
    signature = "questions:3|unanswerable:0|rules:squad-1.1|longest:30|window:40|trasluz:"
    assert str(report["signature"]).startswith(signature)
    assert (tmp_path / "answers.txt").read_text().splitlines() == [one.text for one in found]
    assert run(["evaluate", folder, *data, "--rules", "mlqa-es"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("exact_match        66.67  questions:3|") and "|rules:mlqa-es|" in first
    assert second.startswith("answer_f1 ")
    # Where a question has no answer, the model may say so.
    test.write_text("".join(json.dumps(row | {"answer": "", "answer_start": -1}) + "\n" for row in rows))
    (report,) = reports(capsys, folder, *data)
    may = [one.text for one in trasluz.load(folder)(questions, context, no_answer=True)]
    assert report["exact_match"] == pytest.approx(100 * may.count("") / 3)
    assert "unanswerable:3|rules:squad-2.0" in str(report["signature"])
    assert run(["evaluate", folder, *data, "--rules", "mlqa"]) == 2
    assert "--rules is 'mlqa'; did you mean mlqa-e" in capsys.readouterr().err
    test.write_text(json.dumps(rows[0] | {"question": " "}) + "\n" + json.dumps(rows[1]) + "\n")
    assert run(["evaluate", folder, *data]) == 2
    assert "test.jsonl:1: the question is empty" in capsys.readouterr().err
    assert run(["evaluate", folder, *data, "--on-error", "skip"]) == 0
    answer = capsys.readouterr()
    assert "1 of 2 read; 1 left out" in answer.err and "questions:1|" in answer.out


@pytest.mark.usefixtures("test_pair")
def test_documents_are_scored_by_perplexity(gpt_folder: str, capsys: Captured) -> None:
    (lines,) = reports(capsys, gpt_folder, "--data", "test.en")
    assert lines["perplexity"] == pytest.approx(math.exp(lines["loss"]))  # type: ignore[arg-type]
    assert f"tokens:{lines['tokens']}|documents:3|window:48|stride:24|document:line" in str(lines["signature"])
    (whole,) = reports(capsys, gpt_folder, "--data", "test.en", "--document", "file", "--stride", "48")
    assert "documents:1|window:48|stride:48|document:file" in str(whole["signature"])
    assert run(["evaluate", gpt_folder, "--data", "test.en"]) == 0
    assert capsys.readouterr().out.split()[0] == "perplexity"
    for options, complaint in (
        (["--stride", "49"], "--stride must be from 1 to the window of toy-gpt, 48, but is 49."),
        (["--document", "files"], "--document is 'files'; did you mean file?"),
    ):
        assert run(["evaluate", gpt_folder, "--data", "test.en", *options]) == 2
        assert complaint in capsys.readouterr().err


def test_masked_words_are_scored(encoder: Callable[[str], str], tmp_path: Path, capsys: Captured) -> None:
    folder, test = encoder("masks"), tmp_path / "test.txt"
    texts = ["the old miller kept the bread", "nobody", "it kept seven blue boats, again", "the bread " * 60]
    test.write_text("\n".join(texts) + "\n")
    data = ("--data", str(test))
    (report,) = reports(capsys, folder, *data)
    # Written out: every piece of the 38 tokens that have room beside two special ones, guessed alone.
    fill = trasluz.load(folder)
    tokenizer = fill.tokenizer
    special = {tokenizer.id_of(token) for token in tokenizer.special_tokens}
    masking = Masking(tokenizer.mask_id, np.array([i for i in range(tokenizer.vocab_size) if i not in special]))
    pieces = [ids[at : at + 38] for ids in tokenizer.encode_arrays(texts) for at in range(0, len(ids), 38)]
    loss, right, count = 0.0, 0, 0
    for number, ids in enumerate(pieces):
        generator = np.random.default_rng(number)
        chosen = masking.choose(tokenizer.word_starts(ids), generator)
        read = [tokenizer.cls_id, *masking.corrupt(ids, chosen, generator).tolist(), tokenizer.sep_id]
        batch = make_text_batch([np.array(read)], [np.zeros(len(read), np.int64)], pad_id=fill.config.pad_id)
        with torch.inference_mode():
            guesses = fill.head(fill.model(batch))[0, 1:-1][torch.tensor(chosen)].log_softmax(-1)
        targets = torch.tensor(ids[chosen].astype(np.int64))
        loss -= float(guesses.gather(1, targets[:, None]).sum())
        right, count = right + int((guesses.argmax(-1) == targets).sum()), count + len(targets)
    assert report["masked"] == count > 10
    assert report["loss"] == pytest.approx(loss / count, abs=1e-4)
    assert report["perplexity"] == pytest.approx(math.exp(loss / count), rel=1e-3)
    assert report["accuracy"] == pytest.approx(right / count)
    signature = "texts:4|masked:words|rate:0.15|next_sentence:false|mask_token:0.8|random_piece:0.1|seed:0|window:40|"
    assert str(report["signature"]).startswith(signature)
    # The same again, whatever stands together; and other masks by another seed, unit or rate, which is told.
    (again,) = reports(capsys, folder, *data, "--seed", "0", "--batch-tokens", "50")
    assert again["loss"] == pytest.approx(report["loss"], abs=1e-4) and again["signature"] == report["signature"]
    for option, value, told in (
        ("--seed", "7", "|seed:7|"),
        ("--masking-unit", "tokens", "|masked:tokens|"),
        ("--masking-rate", "0.4", "|rate:0.4|"),
    ):
        (other,) = reports(capsys, folder, *data, option, value)
        assert other["loss"] != report["loss"] and told in str(other["signature"])
    assert run(["evaluate", folder, *data]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == f"loss               {report['loss']:.4f}  {report['signature']}"
    assert last == f"masked             {count}"


def test_what_cannot_be_masked_is_refused(encoder: Callable[[str], str], tmp_path: Path, capsys: Captured) -> None:
    folder, test = encoder("masks"), tmp_path / "test.txt"
    test.write_text("\u200b\n")
    data = ("--data", str(test))
    for options, complaint in (
        (["--masking-unit", "word"], "--masking-unit is 'word'; did you mean words?"),
        (["--masking-unit", "xyz"], "--masking-unit is 'xyz'; it is tokens, words or spans."),
        (["--masking-rate", "1"], "--masking-rate is 1; it must be between 0 and 1."),
        (["--stride", "3"], "whose task is fill-mask; what does is --masking-unit, --masking-rate."),
        ([], f"the tokenizer of {Path(folder).name} finds nothing in these texts that could be guessed."),
    ):
        assert run(["evaluate", folder, *data, *options]) == 2
        assert complaint in " ".join(capsys.readouterr().err.split())


def test_a_text_that_is_too_long_is_told_before_any_work(
    transformer_folder: str, test_pair: Path, capsys: Captured
) -> None:
    (test_pair / "test.en").write_text("\n".join([*ENGLISH[:2], "the lamp " * 600]) + "\n", encoding="utf-8")
    options = ["--data", "test.{en,es}", "--to", "es", "--beam", "1"]
    assert run(["evaluate", transformer_folder, *options]) == 2
    told = capsys.readouterr()
    assert not told.out and "test.en:3: the text has 1,202 tokens, but toy-en-es takes at most 512" in told.err
    assert "leave such texts out with --on-error skip" in told.err
    assert reports(capsys, transformer_folder, *options, "--on-error", "skip")[0]["sentences"] == 2


def test_languages_that_nothing_tells_are_asked_for_in_words_of_this_verb(
    transformer_folder: str, test_pair: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (test_pair / "plain.tsv").write_text("a small window\tuna ventana pequeña\n", encoding="utf-8")
    unnamed = Directions("toy", (Direction(None, None),))
    monkeypatch.setattr("trasluz.tasks.translator.directions_of", lambda _: unnamed)
    assert run(["evaluate", transformer_folder, "--data", "plain.tsv"]) == 2
    assert "name both in braces, as in test.{en,es}, or in a header" in capsys.readouterr().err


def test_each_of_several_targets_has_its_own_side(
    transformer_folder: str, test_pair: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = reports(capsys, transformer_folder, "--data", "test.{en,es}", "--beam", "1")
    directions = trasluz.load(transformer_folder).directions.all
    for source in ("en", None):
        several = [dataclasses.replace(one, from_language=source) for one in directions if one.to_language == "es"]
        several.insert(0, dataclasses.replace(several[0], to_language="fr"))
        monkeypatch.setattr(
            "trasluz.tasks.translator.directions_of", lambda _, all=tuple(several): Directions("toy", all)
        )
        report = reports(capsys, transformer_folder, "--data", "test.{en,es}", "--to", "es", "--beam", "1")
        assert report == named[:1]
