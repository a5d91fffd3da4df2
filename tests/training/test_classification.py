"""Runs that learn to label made-up texts: from nothing and from a pre-trained encoder, labels of every kind."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_run import prepared, run
from tests.checkpoints.hub_encoders import write_encoder

import trasluz
from trasluz.cli.main import run as command
from trasluz.errors import DataError, RecipeError
from trasluz.objectives.classification import ClassificationObjective
from trasluz.training.labelled_examples import LabelledExamples
from trasluz.training.optimizer import build_optimizer
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import dump_recipe, parse_recipe
from trasluz.training.reports import Chosen, Ended, Notice, Report

NOISE = "the a of it some very quite boat bread wind paper light".split()
TOPICS = {
    "sea": "wave sail harbour tide".split(),
    "bread": "flour oven crust dough".split(),
    "sky": "cloud star moon".split(),
}


def write_texts(path: Path, count: int = 300, kind: str = "one", seed: int = 3) -> Path:
    """Write a table of texts; what a text is about is told by words of its topics."""
    draw = random.Random(seed)
    lines = ["label\ttext\tsecond_text\n"]
    for _ in range(count):
        topics = draw.sample(sorted(TOPICS), draw.randint(1, 2) if kind == "several" else 1)
        words = draw.choices(NOISE, k=4) + [draw.choice(TOPICS[topic]) for topic in topics for _ in range(2)]
        draw.shuffle(words)
        numbers = str(sum(word in TOPICS["sea"] for word in words) - sum(word in TOPICS["sky"] for word in words))
        label = numbers if kind == "number" else ", ".join(topics)
        lines.append(f"{label}\t{' '.join(words)}\t{' '.join(draw.choices(NOISE, k=2))}\n")
    path.write_text("".join(lines))
    return path


def text_recipe(folder: Path, *overrides: str, name: str = "run") -> Recipe:
    """Return a recipe that learns the topics in a second or two."""
    texts = folder / "texts.tsv"
    if not texts.exists():
        write_texts(texts)
    text = f"""
task: classify
model: {{preset: bert-tiny, model_dim: 32, num_heads: 2, feed_forward_dim: 48, num_layers: 1, max_positions: 40,
  dropout: 0.0, attention_dropout: 0.0}}
data: {{train: {texts}, held_out: 60, max_length: 30}}
tokenizer: {{kind: wordpiece, vocab_size: 200, lowercase: true}}
training: {{max_steps: 100, batch_tokens: 400, warmup_steps: 20, learning_rate: 1e-2, schedule: linear, threads: 1,
  label_smoothing: 0.0}}
evaluation: {{every: 50 steps, patience: null, keep: 2}}
output: {folder / name}
"""
    return parse_recipe(text, overrides)


def chosen(reports: list[Report]) -> dict[str, float]:
    return next(report.metrics for report in reports if isinstance(report, Chosen))


def test_labels_are_learnt_and_used(tmp_path: Path) -> None:
    reports = run(text_recipe(tmp_path))
    assert chosen(reports)["accuracy"] > 0.95 and chosen(reports)["matthews"] > 0.9
    assert "270 training texts; left out: 30 held out" in "\n".join(r.text for r in reports if isinstance(r, Notice))
    classify = trasluz.load(tmp_path / "run")
    assert classify.labels == ("bread", "sea", "sky")
    found = classify(["the sail and the tide", "warm dough", "a star, a cloud"])
    assert [result.label for result in found] == ["sea", "bread", "sky"]
    card = (tmp_path / "run" / "README.md").read_text()
    assert "labels texts with bread, sea, sky" in card and "pipeline_tag: text-classification" in card
    (row,) = (line for line in card.splitlines() if line.startswith("| accuracy |"))
    assert "| texts:30\\|labels:3\\|kind:one\\|trasluz:" in row and "texts:30|labels:3|kind:one|trasluz:" in card
    assert json.loads((tmp_path / "run" / "config.json").read_text())["architectures"] == [
        "BertForSequenceClassification"
    ]


@pytest.mark.parametrize(("kind", "metric", "least"), [("several", "micro_f1", 0.9), ("number", "spearman", 0.8)])
def test_labels_of_other_kinds(tmp_path: Path, kind: str, metric: str, least: float) -> None:
    write_texts(tmp_path / "texts.tsv", 400, kind)
    recipe = text_recipe(tmp_path, f"data.label_kind={kind}", "training.max_steps=400", "training.learning_rate=2e-3")
    assert recipe.evaluation.metric == metric
    assert chosen(run(recipe))[metric] > least
    found = trasluz.load(tmp_path / "run")("wave harbour tide wave")
    if kind == "several":
        assert found.labels == ("sea",)
    else:
        assert found.label == "label" and found.score > 1.0


def test_pairs_of_texts(tmp_path: Path) -> None:
    reports = run(text_recipe(tmp_path, "data.pairs=true"))
    assert chosen(reports)["accuracy"] > 0.9
    assert trasluz.load(tmp_path / "run")("warm dough", "some bread").label == "bread"


def test_stopped_and_resumed_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    run(text_recipe(tmp_path))
    half = text_recipe(tmp_path, "training.max_steps=50", "training.schedule=constant", name="half")
    run(text_recipe(tmp_path, "training.schedule=constant", name="whole"))
    run(half)
    again = text_recipe(tmp_path, "training.schedule=constant", name="half")
    from trasluz.training.run import run_recipe

    reports = list(run_recipe(again, resume=True))
    assert isinstance(reports[-1], Ended)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_pretrained_encoder_is_tuned(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder", "BertForMaskedLM", num_hidden_layers=2)
    overrides = (f"model={tmp_path / 'encoder'}", "training.learning_rate=2e-3", "training.max_steps=40")
    run(text_recipe(tmp_path, *overrides, "training.freeze_layers=1", "training.layer_decay=0.5"))
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("encoder", "run"))
    frozen = [key for key in before if "embeddings" in key or "layer.0." in key]
    tuned = [key for key in before if "layer.1." in key and "key.bias" not in key]
    assert frozen and all(torch.equal(before[key], after[key]) for key in frozen)
    assert tuned and not any(torch.equal(before[key], after[key]) for key in tuned)
    assert "cls.predictions.bias" not in after and "classifier.weight" in after
    # Its own tokenizer came along.
    assert (tmp_path / "run" / "tokenizer.json").read_text() == (tmp_path / "encoder" / "tokenizer.json").read_text()


def test_layers_learn_at_their_own_rates(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder", "DistilBertModel")
    model: Any = trasluz.load(tmp_path / "encoder").model
    training = text_recipe(tmp_path, "training.layer_decay=0.5").training
    shares = {
        id(parameter): group["share"]
        for group in build_optimizer(model, training).param_groups
        for parameter in group["params"]
    }
    named = {name: shares[id(parameter)] for name, parameter in model.named_parameters()}
    # Two layers without a head: the top layer learns fully, the embeddings a quarter as fast.
    assert named["encoder.1.feed_forward.expand.weight"] == 1.0
    assert named["encoder.0.self_attention.query.bias"] == 0.5
    assert named["word_embedding.weight"] == named["embedding_norm.weight"] == 0.25


def test_weights_of_classes() -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 1])
    weighted = ClassificationObjective(class_weights=(1.0, 2.0, 0.5)).loss(logits, labels)
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    assert float(weighted) == pytest.approx(float((each * torch.tensor([1.0, 2, 0.5])[labels]).sum()), rel=1e-6)


def test_balanced_weights_are_those_of_the_counts(tmp_path: Path) -> None:
    lines = ["label\ttext\n"] + [
        f"{label}\ttext {number} of {label}\n" for number in range(40) for label in ("a", "a", "b")
    ]
    (tmp_path / "texts.tsv").write_text("".join(lines))
    from trasluz.training.classification_job import ClassificationJob

    recipe = text_recipe(tmp_path, "training.class_weights=balanced")
    job = ClassificationJob(recipe, None)
    data = prepared(recipe, job.examples)
    weights = job.objective(data).class_weights
    assert weights is not None
    counts = np.bincount([int(row[2][0]) for row in data.cache])
    np.testing.assert_allclose(weights, counts.sum() / (2 * counts))
    assert float(np.dot(weights, counts)) == pytest.approx(counts.sum())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model=transformer-tiny"],
            r"transformer-tiny does not label texts; presets that do are bert-tiny, bert-mini, ",
        ),
        (["tokenizer.kind=unigram"], r"tokenizer\.kind is unigram; an encoder's is bpe or wordpiece"),
        (["training.freeze_layers=2"], r"freeze_layers is 2, but the model has 1 layers"),
        (["training.class_weights={sea: 2, land: 1}"], r"class_weights names 'land'; the labels are bread, sea, sky"),
        (["data.label_kind=several", "training.class_weights=balanced"], r"weights are for texts with one label"),
        (["evaluation.metric=bleu"], r"evaluation\.metric is bleu, by which this task is not judged: .* accuracy"),
        (["training.piece_dropout=0.1"], r"training\.piece_dropout means nothing to the task classify"),
        (["task=translate", "training.layer_decay=0.9"], r"training\.layer_decay means nothing to the task translate"),
        (["task=translate"], r"tokenizer\.kind wordpiece is for encoders"),
        (["task=translate", "tokenizer.kind=bpe"], r"bert-tiny does not translate; for an encoder the task is"),
        (["data.max_length=2"], r"data\.max_length is 2, which leaves no room for text beside 2 special tokens"),
        (["task=[classify]"], r"task"),
        (["data.labels=[sea, sea]"], "labels must be different"),
        (["data.labels=[sea]"], "labels must be at least two"),
        (["data.labels=[a, b]", "data.label_kind=number"], "labels are 2, but a number has one name"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(text_recipe(tmp_path, *overrides))


def test_bad_labels_are_named_with_their_place(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.tsv", 30)
    (tmp_path / "valid.tsv").write_text("label\ttext\nsea\ta wave\nsee\ta tide\n")
    with pytest.raises(DataError, match=r"valid\.tsv:3: there is no label 'see'; did you mean sea\?"):
        run(text_recipe(tmp_path, f"data.valid={tmp_path / 'valid.tsv'}"))
    with pytest.raises(DataError, match=r"texts\.tsv:\d+: there is no label 'sky'"):
        run(text_recipe(tmp_path, "data.labels=[sea, bread]", name="second"))
    with pytest.raises(
        DataError, match=r"texts\.tsv:2: the label is no number, which data\.label_kind says it is: '\w+'"
    ):
        run(text_recipe(tmp_path, "data.label_kind=number", name="third"))
    texts.write_text("label\ttext\nsea\ta\nsea\tb\nsea\tc\n")
    with pytest.raises(DataError, match="every text has the label 'sea'"):
        run(text_recipe(tmp_path, name="fourth"))


def test_a_label_that_only_held_out_texts_have_is_a_label(tmp_path: Path) -> None:
    lines = [f"{'ab'[row % 2] if row % 3 else f'rare{row}'}\ttext number {row}\n" for row in range(120)]
    (tmp_path / "texts.tsv").write_text("label\ttext\n" + "".join(lines))
    run(text_recipe(tmp_path, "training.max_steps=2", "data.held_out=12"))
    assert len(trasluz.load(tmp_path / "run").labels) == 42


def test_what_was_never_learnt_is_not_read(tmp_path: Path) -> None:
    run(text_recipe(tmp_path, "training.max_steps=2", "data.max_length=12"))
    found = trasluz.load(tmp_path / "run")("wave " * 30)
    assert trasluz.load(tmp_path / "run").longest_text == 12 and found.left_out >= 20


@pytest.mark.parametrize(("given", "tuned"), [(12, 24), (30, 12)])
def test_a_tuned_model_reads_what_it_was_validated_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: int, tuned: int
) -> None:
    run(text_recipe(tmp_path, "training.max_steps=2", f"data.max_length={given}", name="given"))
    draw = random.Random(7)
    long = []
    for _ in range(200):
        topic = draw.choice(sorted(TOPICS))
        # What a text is about is told behind what one of the two models reads.
        long.append(f"{topic}\t{' '.join(draw.choices(NOISE, k=16) + draw.choices(TOPICS[topic], k=3))}\n")
    (tmp_path / "long.tsv").write_text("label\ttext\n" + "".join(long))
    (tmp_path / "valid.tsv").write_text("label\ttext\n" + "".join(long[:60]))
    data = [f"data.train={tmp_path / 'long.tsv'}", f"data.valid={tmp_path / 'valid.tsv'}"]
    reports = run(
        text_recipe(tmp_path, f"model={tmp_path / 'given'}", f"data.max_length={tuned}", "training.max_steps=50", *data)
    )
    assert trasluz.load(tmp_path / "run").longest_text == tuned
    assert command(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "valid.tsv"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["accuracy"] == pytest.approx(chosen(reports)["accuracy"])


@pytest.mark.parametrize(("keep", "least", "most"), [("start", 0.0, 0.6), ("end", 0.95, 1.0), ("ends", 0.95, 1.0)])
def test_what_is_kept_of_long_texts(tmp_path: Path, keep: str, least: float, most: float) -> None:
    # What a text is about is told by its last words, which a text cut at its end has lost.
    draw = random.Random(7)
    lines = ["label\ttext\n"]
    for _ in range(300):
        topic = draw.choice(sorted(TOPICS))
        lines.append(f"{topic}\t{' '.join(draw.choices(NOISE, k=40) + draw.choices(TOPICS[topic], k=3))}\n")
    (tmp_path / "texts.tsv").write_text("".join(lines))
    reports = run(text_recipe(tmp_path, "data.max_length=16", f"data.kept_part={keep}"))
    assert least <= chosen(reports)["accuracy"] <= most
    classify = trasluz.load(tmp_path / "run")
    found = classify(" ".join(NOISE * 3) + " sail tide wave")
    assert classify.tokenizer.keep == keep and found.left_out == len(NOISE) * 3 + 3 - 14
    assert found.label == "sea" or keep == "start"


def test_labels_that_are_no_numbers_are_skipped_where_asked_for(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.tsv", 60, "number")
    texts.write_text(texts.read_text() + "sea\ta wave\t\nnan\ta tide\t\n")
    recipe = text_recipe(tmp_path, "data.label_kind=number", "data.on_error=skip")
    counts = prepared(recipe, LabelledExamples(recipe)).counts
    assert (counts.read, counts.malformed) == (62, 2) and "texts.tsv:62, " in counts.complaint


def test_unknown_labels_are_found_in_reading_and_skipped_where_asked_for(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts.tsv", 60)
    (tmp_path / "valid.tsv").write_text("label\ttext\nsea\ta wave\n7\ta tide\n")
    recipe = text_recipe(tmp_path, f"data.valid={tmp_path / 'valid.tsv'}", "data.on_error=skip")
    assert [one.label for one in prepared(recipe, LabelledExamples(recipe)).valid] == ["sea"]
    recipe = text_recipe(tmp_path, "data.labels=[sea, sky]", "data.on_error=skip")
    counts = prepared(recipe, LabelledExamples(recipe)).counts
    assert counts.malformed > 5 and "there is no label (" in counts.complaint


def test_labels_may_be_whole_numbers(tmp_path: Path) -> None:
    recipe = text_recipe(tmp_path, "data.labels=[0, 1]", "training.class_weights={0: 1, 1: 5}")
    assert recipe.data.labels == ["0", "1"] and recipe.training.class_weights == {"0": 1.0, "1": 5.0}
    assert parse_recipe(dump_recipe(recipe)).model_dump() == recipe.model_dump()


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        ("several", [",", ","], r"data\.train: no text has a label; at least some must have one"),
        ("number", ["1", "1e39"], r"texts\.tsv:3: the label is a number too large for float32: '1e39'"),
    ],
)
def test_labels_that_teach_nothing_are_refused(tmp_path: Path, kind: str, labels: list[str], message: str) -> None:
    rows = "".join(f"{label}\ttext number {number}\n" for number, label in enumerate(labels * 10))
    (tmp_path / "texts.tsv").write_text("label\ttext\n" + rows)
    recipe = text_recipe(tmp_path, f"data.label_kind={kind}")
    with pytest.raises(DataError, match=message):
        prepared(recipe, LabelledExamples(recipe))


def test_labels_of_json(tmp_path: Path) -> None:
    from trasluz.text.readers import ReadReport
    from trasluz.training.labelled_examples import label_numbers, read_labelled

    rows = [
        {"text": "a", "label": 2},
        {"text": "b", "label": ["x", "y"]},
        {"text": "c", "label": []},
        {"text": "d", "label": 1.5},
        {"text": "e", "label": [0, 2]},
        {"text": "f", "label": True},
        {"text": "g", "label": [False, True]},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = list(
        read_labelled(str(tmp_path / "a.jsonl"), pairs=False, kind="several", on_error="stop", report=ReadReport())
    )
    assert [one.label for one in read] == ["2", "x, y", ",", "1.5", "0, 2", "true", "false, true"]
    assert label_numbers(read[1], "several", ["x", "y"]) == [0, 1] and label_numbers(read[2], "several", ["x"]) == []
