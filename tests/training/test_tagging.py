"""Runs that learn to tag made-up names, and how CoNLL files and long sentences are read."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_run import run
from tests.checkpoints.hub_encoders import write_encoder
from torch.nn.functional import cross_entropy

import trasluz
from trasluz.errors import DataError, RecipeError
from trasluz.objectives.tagging import TaggingObjective
from trasluz.text.batching import NOT_COUNTED, make_tagged_batch
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.text.readers import ReadReport, read_records
from trasluz.text.word_pieces import pieces_of_words
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import parse_recipe
from trasluz.training.reports import Chosen
from trasluz.training.run import run_recipe
from trasluz.training.tagged_examples import read_tagged

PEOPLE, PLACES = "ana irene tom lucas".split(), "lima oporto vigo".split()
NOISE = "then saw the old boat near some quiet houses again".split()


def write_sentences(path: Path, count: int = 200, seed: int = 4) -> Path:
    """Write a CoNLL file of three columns, in BIO: names of one or two words."""
    draw = random.Random(seed)
    lines = ["-DOCSTART- X O", ""]
    for _ in range(count):
        for _ in range(draw.randint(3, 6)):
            kind, names = draw.choice([("PER", PEOPLE), ("LOC", PLACES), ("", NOISE), ("", NOISE)])
            words = draw.sample(names, draw.randint(1, 2) if kind else 1)
            for place, word in enumerate(words):
                tag = f"{'I' if place else 'B'}-{kind}" if kind else "O"
                lines.append(f"{word} X {tag}")
            # Two names in a row would be one to anybody who reads them.
            lines.append(f"{draw.choice(NOISE)} X O")
        lines.append("")
    path.write_text("\n".join(lines))
    return path


def tag_recipe(folder: Path, *overrides: str, name: str = "run") -> Recipe:
    """Return a recipe that learns the names in seconds."""
    sentences = folder / "names.conll"
    if not sentences.exists():
        write_sentences(sentences)
    text = f"""
task: tag
model: {{preset: bert-tiny, model_dim: 32, num_heads: 2, feed_forward_dim: 48, num_layers: 1, max_positions: 40,
  dropout: 0.0, attention_dropout: 0.0}}
data: {{train: {sentences}, held_out: 20, max_length: 30}}
tokenizer: {{kind: wordpiece, vocab_size: 200, lowercase: true}}
training: {{max_steps: 600, batch_tokens: 300, warmup_steps: 20, learning_rate: 5e-3, schedule: linear, threads: 1,
  label_smoothing: 0.0}}
evaluation: {{every: 300 steps, patience: null}}
output: {folder / name}
"""
    return parse_recipe(text, overrides)


def test_names_are_learnt_and_found(tmp_path: Path) -> None:
    recipe = tag_recipe(tmp_path)
    assert recipe.evaluation.metric == "entity_f1"
    metrics = next(report.metrics for report in run(recipe) if isinstance(report, Chosen))
    assert metrics["entity_f1"] > 0.8 and metrics["accuracy"] > 0.9
    tag = trasluz.load(tmp_path / "run")
    assert tag.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    found = tag("irene saw the old boat near vigo").entities
    assert [(one.label, one.text, one.start) for one in found] == [("PER", "irene", 0), ("LOC", "vigo", 28)]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["architectures"] == ["BertForTokenClassification"]
    card = (tmp_path / "run" / "README.md").read_text()
    assert "finds entities: LOC, PER" in card and "\\|matching:conlleval\\|" in card


def test_other_forms_of_the_same_sentences(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("ana X B-PER\nsaw X O\nvigo X B-LOC\n\ntom X B-PER\n")
    (tmp_path / "a.tsv").write_text("words\ttags\nana saw vigo\tB-PER O B-LOC\ntom\tB-PER\n")
    rows = [{"words": ["ana", "saw", "vigo"], "tags": ["B-PER", "O", "B-LOC"]}, {"words": "tom", "tags": "B-PER"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = [[*one.cells] for one in read_records(str(tmp_path / "a.conll"), ("words", "tags"))]
    assert read == [["ana saw vigo", "B-PER O B-LOC"], ["tom", "B-PER"]]
    for name in ("a.tsv", "a.jsonl"):
        assert [[*one.cells] for one in read_records(str(tmp_path / name), ("words", "tags"))] == read
    (tmp_path / "b.conll").write_text("10\u00a0000 O\nana B-PER\n")
    assert next(read_records(str(tmp_path / "b.conll"), ("words", "tags"))).cells[0] == "10\u00a0000 ana"
    columns = {"path": str(tmp_path / "a.conll"), "columns": {"words": 1, "tags": 2}}
    assert next(read_records(columns, ("words", "tags"))).cells[1] == "X X X"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ana B-PER\nsaw\n", r"names\.conll:2: a word with its tag was expected, not 1 columns"),
        ("ana X PERSON\n", r"names\.conll:1: .*PERSON"),
        ("ana X O\nsaw X O\n", "no word has another tag than O"),
    ],
)
def test_broken_files_are_named_with_their_place(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "names.conll").write_text(content)
    with pytest.raises(DataError, match=message):
        run(tag_recipe(tmp_path))


@pytest.mark.parametrize(
    ("words", "tags", "fault"),
    [
        (["vigo", "is"], ["B-LOC"], "there is not one tag for each word: 2 words, but 1 tags"),
        (["new york", "is"], ["B-LOC", "O"], "one of the words is empty or holds a blank: 'new york'"),
        (["vigo", ""], ["B-LOC", "O"], "one of the words is empty or holds a blank: ''"),
        (["vigo", "is"], ["B-LOC", "O O"], "one of the tags is empty or holds a blank: 'O O'"),
    ],
)
def test_words_and_tags_that_do_not_go_together_are_faults_of_their_row(
    tmp_path: Path, words: list[str], tags: list[str], fault: str
) -> None:
    path = str(tmp_path / "a.jsonl")
    rows = [{"words": words, "tags": tags}, {"words": ["ana"], "tags": ["B-PER"]}]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=rf"a\.jsonl:1: {fault}\. Correct it, or set `on_error` to skip"):
        list(read_tagged(path, on_error="stop", report=ReadReport()))
    report = ReadReport()
    assert [one.words for one in read_tagged(path, on_error="skip", report=report)] == [("ana",)]
    assert report.malformed == 1


@pytest.mark.parametrize(
    ("content", "line", "fault"),
    [
        (
            "ana B-PER\n\n# text = tom runs\ntom B-PER\nruns NOUN\n",
            5,
            "a tag is none of entities: 'NOUN'; write O",
        ),
        ("ana B-PER\n\ntom B-PER\nruns\nagain\n", 4, "a word with its tag was expected, not 1 columns"),
        ("ana B-PER\n\ntom B-PER\nr\0ns O\n", 4, "NUL character"),
    ],
)
def test_the_faulty_line_of_a_sentence_is_named(tmp_path: Path, content: str, line: int, fault: str) -> None:
    path = str(tmp_path / "a.conll")
    Path(path).write_text(content)
    with pytest.raises(DataError, match=rf"a\.conll:{line}: {fault}.*Correct it, or set `on_error` to skip"):
        list(read_tagged(path, on_error="stop", report=ReadReport()))
    report = ReadReport()
    assert [one.words for one in read_tagged(path, on_error="skip", report=report)] == [("ana",)]
    assert report.malformed == 1 and f"a.conll:{line}" in report.summary()


def test_a_bad_tag_of_a_table_is_a_fault_of_its_row(tmp_path: Path) -> None:
    path = str(tmp_path / "a.tsv")
    Path(path).write_text("words\ttags\nana runs\tB-PER O\ntom runs\tB-PER WEIRD\n")
    with pytest.raises(DataError, match=r"a\.tsv:3: a tag is none of entities: 'WEIRD'"):
        list(read_tagged(path, on_error="stop", report=ReadReport()))


def test_comments_are_no_words(tmp_path: Path) -> None:
    path = str(tmp_path / "a.conll")
    Path(path).write_text("# sent_id = 1\n# text = ana # 1\nana B-PER\n# O\n1 O\n\n# sent_id = 2\n\ntom B-PER\n")
    found = [one.words for one in read_tagged(path, on_error="stop", report=ReadReport())]
    assert found == [("ana", "#", "1"), ("tom",)]


def test_tags_of_another_kind_are_learnt_where_they_are_named(tmp_path: Path) -> None:
    lines = ["ana X PROPN", "saw X VERB", "vigo X PROPN", ""] * 40
    (tmp_path / "names.conll").write_text("\n".join(lines))
    short = ("training.max_steps=60", "evaluation.every=60 steps")
    with pytest.raises(DataError, match=r"names\.conll:1: .*'PROPN'.*where `data\.labels` names them all"):
        run(tag_recipe(tmp_path, *short))
    named = ("data.labels=[PROPN, VERB]", f"data.valid={tmp_path / 'names.conll'}")
    reports = run(tag_recipe(tmp_path, *short, *named))
    metrics = next(report.metrics for report in reports if isinstance(report, Chosen))
    assert metrics["accuracy"] > 0.9 and metrics["entity_f1"] > 0.9
    found = trasluz.load(tmp_path / "run")("ana saw vigo")
    assert [one.tag for one in found.words] == ["PROPN", "VERB", "PROPN"]
    assert "labels words: PROPN, VERB" in (tmp_path / "run" / "README.md").read_text()


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("words\ttags\nana saw vigo\tB-PER O\n")
    with pytest.raises(DataError, match=r"a\.tsv:2: there is not one tag for each word: 3 words, but 2 tags"):
        run(tag_recipe(tmp_path, f"data.train={tmp_path / 'a.tsv'}"))
    (tmp_path / "valid.conll").write_text("ana X B-ORG\n")
    with pytest.raises(DataError, match=r"valid\.conll:1: there is no label 'B-ORG'; there are O, B-LOC"):
        run(tag_recipe(tmp_path, f"data.valid={tmp_path / 'valid.conll'}", name="second"))
    with pytest.raises(RecipeError, match=r"data\.max_length is 64, but the model takes 40 tokens"):
        run(tag_recipe(tmp_path, "data.max_length=64"))
    with pytest.raises(RecipeError, match=r"data\.max_length is 2, which leaves no room for text"):
        run(tag_recipe(tmp_path, "data.max_length=2", name="fourth"))
    with pytest.raises(RecipeError, match=r"data\.labels lacks O, the label of words outside of entities"):
        run(tag_recipe(tmp_path, "data.labels=[B-PER, I-PER]"))
    with pytest.raises(RecipeError, match="transformer-tiny does not tag words"):
        run(tag_recipe(tmp_path, "model=transformer-tiny"))
    with pytest.raises(DataError, match=r"names\.conll holds tagged words; what was wanted of it is text and label"):
        run(tag_recipe(tmp_path, "task=classify", name="third"))


def test_sentences_are_cut_between_words(tmp_path: Path) -> None:
    write_encoder(tmp_path / "bert", "BertModel")
    tokenizer = EncoderTokenizer.load(tmp_path / "bert")
    words = ["the", "miller", "xylophone", "boats", "qqqqqqqqqqqq", "it", "bread"]
    (whole,) = pieces_of_words(tokenizer, [words], 100)[0:1]
    assert len(whole) == 1 and (whole[0].begins >= 0).sum() == 7
    (pieces,) = pieces_of_words(tokenizer, [words], 10)
    assert np.concatenate([piece.ids for piece in pieces]).tolist() == whole[0].ids.tolist()
    assert all(len(piece.ids) <= 8 for piece in pieces)
    # Only a word that is longer than a piece is cut.
    broken = [piece for piece in pieces if piece.begins[0] < 0]
    assert len(broken) <= 1


def test_the_loss_is_that_of_first_pieces(tmp_path: Path) -> None:
    write_encoder(tmp_path / "bert", "BertForTokenClassification")
    model: Any = trasluz.load(tmp_path / "bert").model
    ids = [[2, 9, 11, 12, 3], [2, 20, 3]]
    batch = make_tagged_batch(ids, [[1, -1, 0], [4]], 1, pad_id=0)
    assert batch.labels.tolist() == [
        [NOT_COUNTED, 1, NOT_COUNTED, 0, NOT_COUNTED],
        [NOT_COUNTED, 4, *[NOT_COUNTED] * 3],
    ]
    loss = TaggingObjective()(model, batch)
    logits = model.heads["tag"](model(batch.texts))
    written_out = cross_entropy(logits[[0, 0, 1], [1, 3, 1]], torch.tensor([1, 0, 4]), reduction="sum")
    assert loss.count == 3
    torch.testing.assert_close(loss.total, written_out)


def test_stopped_and_resumed_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    short = ("training.schedule=constant", "evaluation.every=10 steps")
    run(tag_recipe(tmp_path, *short, "training.max_steps=20", name="whole"))
    run(tag_recipe(tmp_path, *short, "training.max_steps=10", name="half"))
    list(run_recipe(tag_recipe(tmp_path, *short, "training.max_steps=20", name="half"), resume=True))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert all(torch.equal(first[key], second[key]) for key in first)
