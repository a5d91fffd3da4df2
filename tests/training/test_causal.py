"""Training on documents: windows in which none sees another, every token guessed once, and runs that go on."""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_run import prepared, run
from small_text import WEEK
from tests.checkpoints.hub_gpts import write_gpt
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

import trasluz
from trasluz.checkpoints.model_folder import load_model
from trasluz.errors import DataError, RecipeError
from trasluz.objectives.next_words import NextWordsObjective
from trasluz.text.batching import make_causal_batch
from trasluz.training.causal_job import CausalJob
from trasluz.training.causal_stream import CausalStream
from trasluz.training.data import PreparedData
from trasluz.training.processes import ALONE
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import parse_recipe
from trasluz.training.reports import Chosen
from trasluz.training.run import run_recipe


def causal_recipe(folder: Path, *overrides: str, name: str = "run") -> Recipe:
    """Return a recipe over lines in which every day follows from the one before."""
    lines = folder / "text.txt"
    if not lines.exists():
        days = [" then ".join(WEEK[(first + step) % 5] for step in range(2 + first % 3)) for first in range(5)]
        lines.write_text("".join(f"{day} ¡{number % 7}!\n" for number, day in enumerate(days * 40)))
    text = f"""
task: generate
model: {{preset: gpt2, model_dim: 32, num_heads: 2, feed_forward_dim: 64, num_layers: 2, max_positions: 24,
  dropout: 0.0, embedding_dropout: 0.0, attention_dropout: 0.0}}
data: {{train: {lines}, held_out: 5, max_length: 16}}
tokenizer: {{kind: bpe, vocab_size: 300}}
training: {{max_steps: 150, batch_tokens: 320, warmup_steps: 20, learning_rate: 1e-2, schedule: linear, threads: 1,
  label_smoothing: 0.0}}
evaluation: {{every: 75 steps, patience: null}}
output: {folder / name}
"""
    return parse_recipe(text, overrides)


def prepare(recipe: Recipe) -> tuple[CausalJob, PreparedData[Any]]:
    job = CausalJob(recipe, None)
    return job, prepared(recipe, job.examples)


def prepared_stream(recipe: Recipe) -> tuple[CausalStream, Any, PreparedData[Any]]:
    """Return a stream, a model, and what they are made of."""
    job, data = prepare(recipe)
    model = job.build_model(data)
    stream = job.stream(data, model, ALONE)
    assert isinstance(stream, CausalStream)
    return stream, model, data


MODERN = ("model.preset=gpt-modern-small", "model.num_memory_heads=1")


@pytest.mark.parametrize(
    ("changes", "their_class"), [((), "GPT2LMHeadModel"), (MODERN, "LlamaForCausalLM")], ids=["gpt2", "modern"]
)
def test_a_language_is_learnt_and_the_folder_is_everybodys(
    tmp_path: Path, changes: tuple[str, ...], their_class: str
) -> None:
    reports = run(causal_recipe(tmp_path, *changes))
    metrics = next(report.metrics for report in reports if isinstance(report, Chosen))
    assert set(metrics) == {"loss", "perplexity"} and metrics["perplexity"] < 2.0
    generate: Any = trasluz.load(tmp_path / "run")
    assert generate("monday then", beam=1, max_tokens=1).text == " tuesday"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["architectures"] == [their_class]
    assert generate.attention_place == load_model(tmp_path / "run").attention_default is not None
    card = (tmp_path / "run" / "README.md").read_text()
    assert "continues texts" in card and "text-generation" in card and "training documents" in card
    assert "\\|windows:end-to-end\\|document:line\\|trasluz:" in card
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "run").eval()
    ids = AutoTokenizer.from_pretrained(tmp_path / "run")("friday then monday ¡2!", return_tensors="pt").input_ids
    ours = generate.model(generate.batch(["friday then monday ¡2!"]))
    with torch.no_grad():
        torch.testing.assert_close(generate.model.output_head(ours), theirs(ids).logits, rtol=0, atol=2e-5)


@pytest.mark.parametrize("changes", [(), ("model.band=4",), MODERN], ids=["dense", "banded", "modern"])
def test_documents_of_a_window_see_nothing_of_each_other(tmp_path: Path, changes: tuple[str, ...]) -> None:
    stream, model, data = prepared_stream(causal_recipe(tmp_path, *changes))
    with torch.no_grad():
        for parameter in model.parameters():
            # Far from each other, so that a wrong position or neighbour shows; norms stay what they are.
            parameter.mul_(10.0 if parameter.ndim > 1 else 1.0)
    end = data.source_tokenizer.end_id
    batch = stream.batch(range(8), 3)
    assert batch.positions is not None and batch.inputs.shape == (8, 16)
    parts = [
        (row, begin, finish)
        for row, inputs in enumerate(batch.inputs.tolist())
        for cuts in [[0, *(place for place in range(1, 16) if inputs[place] == end), 16]]
        for begin, finish in itertools.pairwise(cuts)
    ]
    assert len(parts) > 16
    texts = [[*batch.inputs[row, a:b].tolist(), int(batch.targets[row, b - 1])] for row, a, b in parts]
    states, alone = model(batch), make_causal_batch(texts, pad_id=0)
    for (row, a, b), own in zip(parts, model(alone), strict=True):
        torch.testing.assert_close(states[row, a:b], own[: b - a], rtol=0, atol=1e-5)
    objective, parameters = NextWordsObjective(), list(model.parameters())
    losses = objective(model, batch), objective(model, alone)
    assert losses[0].count == losses[1].count == 128
    torch.testing.assert_close(losses[0].total, losses[1].total)
    for one, other in zip(*(torch.autograd.grad(loss.total, parameters) for loss in losses), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [(), ("model.band=140",), MODERN], ids=["dense", "banded", "modern"])
def test_long_rows_take_the_same_mask_through_the_other_kernel(tmp_path: Path, changes: tuple[str, ...]) -> None:
    longer = "model.max_positions=200", "data.max_length=150"
    _, model, data = prepared_stream(causal_recipe(tmp_path, *longer, *changes))
    generator = np.random.default_rng(1)
    ids, end = torch.from_numpy(generator.integers(0, 250, (1, 151))), data.source_tokenizer.end_id
    ids[0, 90] = end
    whole = make_causal_batch(ids.tolist(), pad_id=0)
    positions = torch.cat([torch.arange(90), torch.arange(60)])[None]
    states = model(dataclasses.replace(whole, positions=positions))
    alone = make_causal_batch([ids[0, 90:].tolist()], pad_id=0)
    torch.testing.assert_close(states[:, 90:], model(alone), rtol=0, atol=1e-5)
    torch.testing.assert_close(states[:, :90], model(whole)[:, :90], rtol=0, atol=1e-5)


def test_every_token_is_guessed_once_an_epoch_from_the_one_before(tmp_path: Path) -> None:
    stream, _, data = prepared_stream(causal_recipe(tmp_path))
    ring = np.concatenate([row[0] for row in data.cache])
    follows = set(zip(np.roll(ring, 1).tolist(), ring.tolist(), strict=True))
    seen = []
    for epoch in (0, 1, 0):
        windows = [batch for update in stream.updates(epoch, 0) for batch in update if batch is not None]
        targets = torch.cat([batch.targets.flatten() for batch in windows])
        assert 0 <= len(ring) - len(targets) < 16
        # As many of each as there are, less what is cut off.
        left = np.bincount(ring, minlength=300) - np.bincount(targets, minlength=300)
        assert left.min() >= 0 and left.sum() == len(ring) - len(targets)
        for batch in windows:
            assert set(zip(batch.inputs.flatten().tolist(), batch.targets.flatten().tolist(), strict=True)) <= follows
        seen.append(targets)
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])
    assert len(stream.places(0, 0)) == 20 and str(tmp_path / "text.txt:") in stream.places(0, 0)[0]
    # The document of a window's first target is the one that is named.
    place = stream.places(1, 2)[3]
    first = next(iter(stream.updates(1, 2)))[0].targets[3]  # type: ignore[union-attr]
    row = next(row for row in data.cache if row[1][1] == int(place.rsplit(":", 1)[1]))
    assert int(first[0]) in row[0].tolist()


def test_processes_and_pieces_share_an_update(tmp_path: Path) -> None:
    whole, _, data = prepared_stream(causal_recipe(tmp_path))
    settings = {"window_length": 16, "end_id": whole.end_id, "batch_tokens": 320, "seed": 1}
    parts = [
        CausalStream(data.cache, data.files, micro_batch_tokens=48, rank=rank, size=2, **settings) for rank in (0, 1)
    ]
    for update, *shares in zip(whole.updates(0, 0), *(part.updates(0, 0) for part in parts), strict=True):
        assert len(shares[0]) == len(shares[1]) == -(-len(update[0].inputs) // 6)  # type: ignore[union-attr]
        rows = [row for share in shares for batch in share if batch is not None for row in batch.inputs.tolist()]
        assert sorted(rows) == sorted(update[0].inputs.tolist())  # type: ignore[union-attr]
    assert whole.stand_in().inputs.shape == (1, 16)


def test_the_loss_is_that_of_all_real_targets(tmp_path: Path) -> None:
    _, model, _ = prepared_stream(causal_recipe(tmp_path))
    batch = make_causal_batch([[5, 9, 7, 1], [4, 8]], pad_id=0)
    loss = NextWordsObjective()(model, batch)
    logits = model.output_head(model(batch))
    expected = cross_entropy(logits[0], torch.tensor([9, 7, 1]), reduction="sum") + cross_entropy(
        logits[1, :1], torch.tensor([8]), reduction="sum"
    )
    assert loss.count == 4
    torch.testing.assert_close(loss.total, expected)


def test_validation_is_every_token_in_windows_one_behind_the_other(tmp_path: Path) -> None:
    job, data = prepare(causal_recipe(tmp_path))
    model: Any = job.build_model(data).eval()
    metrics = job.evaluator(data, model, torch.device("cpu"), ALONE)(model)
    end = data.source_tokenizer.end_id
    ids = [end, *(token for one in data.valid for token in [*data.source_tokenizer.encode(one.text), end])]
    total = 0.0
    with torch.no_grad():
        for begin in range(0, len(ids) - 1, 16):
            window = ids[begin : begin + 17]
            for place in range(1, len(window)):
                text = window[:place]
                last = max((at for at, token in enumerate(text) if token == end), default=0)
                batch = make_causal_batch([[*text[last:], window[place]]], pad_id=0)
                logits = model.output_head(model(batch))[0, -1]
                total += float(cross_entropy(logits, torch.tensor(window[place])))
    assert metrics["loss"] == pytest.approx(total / (len(ids) - 1), rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["loss"]))


def test_stopped_and_resumed_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    short = ("training.schedule=constant", "evaluation.every=20 steps")
    run(causal_recipe(tmp_path, *short, "training.max_steps=40", name="whole"))
    run(causal_recipe(tmp_path, *short, "training.max_steps=20", name="half"))
    list(run_recipe(causal_recipe(tmp_path, *short, "training.max_steps=40", name="half"), resume=True))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_whole_files_keep_their_line_ends(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.txt").write_bytes("Irene lit the lamp.\r\n\r\n  It was nine. ñ\n".encode() * 9)
    recipe = causal_recipe(
        tmp_path,
        f"data.train={tmp_path / 'first.txt'}",
        f"data.valid={tmp_path / 'second.txt'}",
        "data.document=file",
        "tokenizer.kind=character",
        "data.max_length=24",
    )
    _, data = prepare(recipe)
    assert len(data.cache) == 1 and len(data.valid) == 1
    expected = "Irene lit the lamp.\n\n  It was nine. ñ\n" * 9
    assert data.source_tokenizer.decode(data.cache[0][0]) == expected == data.valid[0].text
    assert len(data.cache[0][0]) == len(expected) + 1 and data.cache[0][0][-1] == data.source_tokenizer.end_id
    # Where fewer tokens are than a window holds, all of them are one.
    stream = CausalStream(
        data.cache, [], window_length=999, end_id=0, batch_tokens=999, micro_batch_tokens=None, seed=1
    )
    assert stream.num_updates(0) == 1 and stream.batch([0], 0).inputs.shape == (1, len(expected) + 1)


def test_a_trained_model_goes_on(tmp_path: Path) -> None:
    write_gpt(tmp_path / "gpt")
    run(causal_recipe(tmp_path, f"model={tmp_path / 'gpt'}", "training.max_steps=3"))
    generate: Any = trasluz.load(tmp_path / "run")
    assert generate.config.vocab_size == 330 and generate.config.max_positions == 48
    assert f"base_model: {tmp_path / 'gpt'}" in (tmp_path / "run" / "README.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=bert-tiny"], r"bert-tiny does not continue texts; presets that do are gpt2"),
        (["data.max_length=64"], r"data\.max_length is 64, but the model takes 24 tokens"),
        (["tokenizer.kind=wordpiece"], r"tokenizer\.kind is wordpiece; where texts are continued it is bpe or char"),
        (["tokenizer.vocab_size=99"], r"tokenizer\.vocab_size: vocab_size is 99, too small"),
        (["tokenizer.lowercase=true"], r"tokenizer\.lowercase is true, but a text that is continued is read as it"),
        (["evaluation.metric=accuracy"], r"evaluation\.metric is accuracy, .* it can be loss, perplexity"),
        (["task=classify", "data.document=file"], r"data\.document means nothing to the task classify"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(causal_recipe(tmp_path, *overrides))


def test_models_and_tokenizers_of_other_kinds_are_refused(tmp_path: Path) -> None:
    write_gpt(tmp_path / "gpt", eos_token_id=7)
    with pytest.raises(RecipeError, match=r"gpt has no token between documents that its tokenizer knows, too"):
        run(causal_recipe(tmp_path, f"model={tmp_path / 'gpt'}"))
    config = tmp_path / "gpt" / "tokenizer.json"
    config.write_text(config.read_text().replace("<|endoftext|>", "<none>"))
    (tmp_path / "gpt" / "tokenizer_config.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"tokenizer\.load: the tokenizer in .* names no token between documents"):
        run(causal_recipe(tmp_path, f"tokenizer.load={tmp_path / 'gpt'}"))


def test_of_one_document_none_is_held_out(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"data\.train is a single document, of which none can be held out: name another"
    ):
        run(causal_recipe(tmp_path, "data.document=file"))
