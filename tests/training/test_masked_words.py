"""Pre-training on made-up text: what is masked, that words are guessed, and that a run goes on as it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_run import run
from small_text import WEEK, prepare, text_recipe
from tests.checkpoints.hub_encoders import write_encoder
from torch.nn.functional import cross_entropy

import trasluz
from trasluz.checkpoints.model_folder import load_model, usual_attention
from trasluz.cli import main as cli
from trasluz.errors import DataError, RecipeError
from trasluz.objectives.masked_words import MaskedWordsObjective
from trasluz.text.batching import make_masked_batch
from trasluz.training.processes import ALONE
from trasluz.training.reports import Chosen
from trasluz.training.run import run_recipe


def test_words_are_learnt_from_their_neighbours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = run(text_recipe(tmp_path))
    metrics = next(report.metrics for report in reports if isinstance(report, Chosen))
    assert set(metrics) == {"loss", "perplexity", "accuracy"} and metrics["accuracy"] > 0.5
    fill = trasluz.load(tmp_path / "run")
    assert fill("monday then [MASK] then wednesday, 2 times").masks[0].candidates[0].token == "tuesday"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]
    loaded = load_model(tmp_path / "run")
    assert loaded.attention_default == loaded.attention_place == usual_attention(loaded.model)
    card = (tmp_path / "run" / "README.md").read_text()
    assert "guesses masked words" in card and "\\|masked:words\\|rate:0.15\\|next_sentence:false\\|" in card
    # The validation text, scored by itself, has the figures of the card, under the same signature.
    (tmp_path / "valid.txt").write_text("".join(f"{one.text}\n" for one in prepare(text_recipe(tmp_path))[1].valid))
    capsys.readouterr()
    assert cli.run(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "valid.txt"), "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert {name: scored[name] for name in metrics} == pytest.approx(metrics, rel=1e-5)
    assert scored["signature"].replace("|", "\\|") in card


def test_every_epoch_masks_otherwise_and_the_same_epoch_alike(tmp_path: Path) -> None:
    recipe = text_recipe(tmp_path, "masking.rate=0.3")
    job, data = prepare(recipe)
    model = job.build_model(data)
    stream, again = (job.stream(data, model, ALONE) for _ in range(2))
    first, second = stream.batch(range(40), 0), stream.batch(range(40), 1)
    assert all(
        torch.equal(getattr(first, name), getattr(again.batch(range(40), 0), name)) for name in ("rows", "targets")
    )
    assert not torch.equal(first.columns, second.columns) if len(first.columns) == len(second.columns) else True
    # What is to be guessed is what stands in the cache at that place.
    for row, column, target in zip(first.rows.tolist(), first.columns.tolist(), first.targets.tolist(), strict=True):
        assert data.cache[row][0][column - 1] == target
    special = {data.source_tokenizer.cls_id, data.source_tokenizer.sep_id}
    ends = first.texts.ids[torch.arange(40), first.texts.lengths - 1]
    assert set(first.texts.ids[:, 0].tolist()) | set(ends.tolist()) == special


def test_the_loss_is_that_of_the_masked_positions(tmp_path: Path) -> None:
    write_encoder(tmp_path / "bert", "BertForMaskedLM")
    model: Any = trasluz.load(tmp_path / "bert").model
    generator = np.random.default_rng(0)
    pieces = [
        (generator.integers(5, 90, length), np.array([1, length - 2]), generator.integers(5, 90, 2))
        for length in (7, 12, 5)
    ]
    batch = make_masked_batch(pieces, pad_id=0)
    loss = MaskedWordsObjective()(model, batch)
    logits = model.heads["fill-mask"](model(batch.texts))
    written_out = sum(
        cross_entropy(logits[row, places], torch.tensor(targets), reduction="sum")
        for row, (_, places, targets) in enumerate(pieces)
    )
    assert loss.count == 6 and batch.num_target_tokens == 24
    torch.testing.assert_close(loss.total, written_out)
    # The gradient reaches the embeddings from both ends, since they are one matrix.
    ours = torch.autograd.grad(loss.total, model.word_embedding.weight)[0]
    theirs = torch.autograd.grad(written_out, model.word_embedding.weight)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_long_texts_become_several_pieces(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("monday then tuesday\n" * 9 + " ".join(WEEK * 10) + "\n")
    (tmp_path / "valid.txt").write_text("friday then monday\n")
    _, data = prepare(text_recipe(tmp_path, "data.max_length=12", f"data.valid={tmp_path / 'valid.txt'}"))
    lengths = data.cache.lengths("ids")
    assert lengths.max() == 10 and len(lengths) > 9
    assert {int(row[1][1]) for row in data.cache} <= set(range(1, 11))


def test_what_the_given_model_reads_stays_readable(tmp_path: Path) -> None:
    run(text_recipe(tmp_path, "training.max_steps=2", "data.max_length=12", name="given"))
    for length, reads in ((16, 16), (8, 12)):
        name = f"further-{length}"
        given = [f"model={tmp_path / 'given'}", f"data.max_length={length}"]
        run(text_recipe(tmp_path, *given, "training.max_steps=2", name=name))
        assert trasluz.load(tmp_path / name).longest_text == reads


def test_stopped_and_resumed_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    short = ("training.schedule=constant", "evaluation.every=20 steps")
    run(text_recipe(tmp_path, *short, "training.max_steps=40", name="whole"))
    run(text_recipe(tmp_path, *short, "training.max_steps=20", name="half"))
    list(run_recipe(text_recipe(tmp_path, *short, "training.max_steps=40", name="half"), resume=True))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_pre_training_goes_on_and_tuning_follows(tmp_path: Path) -> None:
    run(text_recipe(tmp_path, "training.max_steps=20"))
    run(text_recipe(tmp_path, f"model={tmp_path / 'run'}", "training.max_steps=10", "masking.unit=spans", name="on"))
    assert trasluz.load(tmp_path / "on", task="embed")("monday").vector.shape == (32,)


def test_validation_texts_of_which_nothing_is_left_are_refused(tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text("\u200b\n")
    job, data = prepare(text_recipe(tmp_path, f"data.valid={tmp_path / 'valid.txt'}"))
    with pytest.raises(DataError, match=r"data\.valid: nothing is left to guess in the validation texts, since"):
        job.evaluator(data, job.build_model(data), torch.device("cpu"), ALONE)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=rnnsearch"], r"rnnsearch does not guess masked words; presets that do are bert-tiny"),
        (["data.max_length=64"], r"data\.max_length is 64, but the model takes 40 tokens"),
        (["masking.masked_share=0.95"], r"masked_share and random_share are 0\.95 and 0\.1, together more than 1"),
        (["masking.unit=letters"], r"masking\.unit"),
        (["evaluation.metric=bleu"], r"evaluation\.metric is bleu, .* it can be loss, perplexity, accuracy"),
        (["task=classify", "masking.rate=0.2"], r"masking means nothing to the task classify"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(text_recipe(tmp_path, *overrides))
