"""Next sentences: what pairs are made of, that they are learnt, and that a run goes on as it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from small_run import run
from small_text import document_recipe, prepare, write_documents

import trasluz
from trasluz.errors import DataError, RecipeError
from trasluz.text.batching import make_text_batch
from trasluz.training.next_sentence_stream import PairDrawer
from trasluz.training.processes import ALONE
from trasluz.training.reports import Chosen
from trasluz.training.run import run_recipe


def stretches(documents: int = 6, each: int = 3) -> list[tuple[Any, ...]]:
    """Return stretches of eight numbers in sentences of two, which tell document, stretch and place."""
    return [
        (np.arange(8) + 10 * stretch + 100 * document, np.array([2, 4, 6, 8]), (document,))
        for document in range(documents)
        for stretch in range(each)
    ]


def test_half_of_the_pairs_follow_and_half_are_from_another_document() -> None:
    drawer = PairDrawer(stretches(), "data.train")
    labels = []
    for number in range(18):
        ids = drawer.stretches[number][0]
        for seed in range(40):
            first, second, label = drawer.draw(number, np.random.default_rng([seed, number]))
            labels.append(label)
            assert len(first) in (2, 4, 6) and first.tolist() == ids[: len(first)].tolist()
            if label == 0:
                assert second.tolist() == ids[len(first) :].tolist()
            else:
                # Whole sentences, from one place of another document, as long as what would follow.
                assert second[0] // 100 != ids[0] // 100 and second[0] % 2 == 0
                assert second.tolist() == list(range(second[0], second[0] + 8 - len(first)))
    assert 0.45 < np.mean(labels) < 0.55


def test_sentences_of_other_lengths_are_cut_where_nothing_fits() -> None:
    rows = [(np.arange(6), np.array([1, 2, 6]), (0,)), (np.arange(50, 59), np.array([5, 9]), (1,))]
    drawer = PairDrawer(rows, "data.train")
    seconds = [drawer.draw(0, np.random.default_rng(seed)) for seed in range(60)]
    elsewhere = {tuple(second.tolist()) for _, second, label in seconds if label}
    # Five are wanted: one sentence; four are: the last.
    assert elsewhere == {(50, 51, 52, 53, 54), (55, 56, 57, 58)}
    assert all(len(first) + len(second) <= 6 for first, second, _ in seconds)
    longer = PairDrawer([(np.arange(4), np.array([2, 4]), (0,)), rows[1]], "data.train")
    cut = {tuple(longer.draw(0, np.random.default_rng(seed)).second.tolist()) for seed in range(60)}
    assert {(50, 51), (55, 56)} <= cut


def test_every_epoch_draws_otherwise_and_the_same_epoch_alike(tmp_path: Path) -> None:
    job, data = prepare(document_recipe(tmp_path))
    model: Any = job.build_model(data)
    stream, again = (job.stream(data, model, ALONE) for _ in range(2))
    first, second, same = stream.batch(range(40), 0), stream.batch(range(40), 1), again.batch(range(40), 0)
    for name in ("rows", "columns", "targets", "labels"):
        assert torch.equal(getattr(first, name), getattr(same, name))
    assert torch.equal(first.texts.ids, same.texts.ids)
    assert not torch.equal(first.labels, second.labels)
    assert first.texts.lengths.max() <= 30
    tokenizer = data.source_tokenizer
    for row, length in enumerate(first.texts.lengths.tolist()):
        ids, segments = first.texts.ids[row, :length], first.texts.segments[row, :length]
        assert ids[0] == tokenizer.cls_id and ids[-1] == tokenizer.sep_id
        assert (ids == tokenizer.sep_id).sum() == 2 and ids[segments == 0][-1] == tokenizer.sep_id
    # In place of what was masked stands what is to be guessed, and that is text of the stretch or of another.
    restored = first.texts.ids.clone()
    restored[first.rows, first.columns] = first.targets
    assert not torch.isin(restored, torch.tensor([tokenizer.mask_id])).any()
    for row in range(40):
        ids, segments = restored[row], first.texts.segments[row]
        begin = ids[1 : int((ids == tokenizer.sep_id).nonzero()[0])]
        assert begin.tolist() == data.cache[row][0][: len(begin)].tolist()
        if first.labels[row] == 0:
            follows = ids[segments == 1][:-1].tolist()
            assert begin.tolist() + follows == data.cache[row][0].tolist()


def test_pairs_are_learnt_and_the_model_is_bert_for_pre_training(tmp_path: Path) -> None:
    things = "lamp door boat rose kite".split()
    # What follows begins with "then"; what is from elsewhere begins half of the time with "once".
    documents = [f"once there was a {one}\nthen there was a {other}\n" for one in things for other in things]
    (tmp_path / "documents.txt").write_text("\n".join(documents * 15))
    # Held out, a text would take all that are like it along.
    (tmp_path / "valid.txt").write_text("\n".join(documents * 8))
    valid = f"data.valid={tmp_path / 'valid.txt'}"
    # Large weights begin with opinions: at this size the usual ones wait for hundreds of updates.
    quick = ("model.initial_deviation=0.2", "model.head_dropout=0", "training.max_steps=100")
    reports = run(document_recipe(tmp_path, valid, *quick, "evaluation.every=100 steps"))
    metrics = next(report.metrics for report in reports if isinstance(report, Chosen))
    assert set(metrics) == {"loss", "perplexity", "accuracy", "next_sentence_accuracy"}
    words_alone = np.log(metrics["perplexity"])
    assert words_alone < metrics["loss"] < words_alone + np.log(2.0)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["architectures"] == ["BertForPreTraining"]
    fill = trasluz.load(tmp_path / "run")
    ours: Any = fill.model
    once, then = (fill.tokenizer.encode(f"{word} there was a kite").ids for word in ("once", "then"))
    pairs = [fill.tokenizer.join(once, second) for second in (then, once)]
    batch = make_text_batch([ids for ids, _ in pairs], [segments for _, segments in pairs], pad_id=0)
    theirs = transformers.BertForPreTraining.from_pretrained(tmp_path / "run").eval()
    with torch.no_grad():
        logits = ours.heads["next-sentence"](ours(batch))
        answer = theirs(batch.ids, token_type_ids=batch.segments).seq_relationship_logits
    torch.testing.assert_close(logits, answer, rtol=0, atol=1e-4)
    from_elsewhere = logits.softmax(-1)[:, 1]
    assert from_elsewhere[0] < 0.6 and from_elsewhere[1] > 0.8
    assert fill("then there was a [MASK]").masks[0].candidates[0].token in things


def test_stopped_and_resumed_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    short = ("training.schedule=constant", "evaluation.every=8 steps")
    run(document_recipe(tmp_path, *short, "training.max_steps=16", name="whole"))
    run(document_recipe(tmp_path, *short, "training.max_steps=8", name="half"))
    list(run_recipe(document_recipe(tmp_path, *short, "training.max_steps=16", name="half"), resume=True))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_tables_have_a_document_a_row_and_bpe_is_learnt_on_them(tmp_path: Path) -> None:
    rows = [{"text": "the lamp is lit\nthe room is warm\nthe door is shut"}, {"text": "one long line about boats"}] * 9
    (tmp_path / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = str(tmp_path / "table.jsonl")
    recipe = document_recipe(tmp_path, f"data.train={table}", f"data.valid={table}", "tokenizer.kind=bpe")
    job, data = prepare(recipe)
    assert [len(ends) for _, ends, _ in data.cache][:2] == [3, 2]
    batch = job.stream(data, job.build_model(data), ALONE).batch(range(18), 0)
    assert set(batch.labels.tolist()) == {0, 1}
    # Pieces of bytes come with RoBERTa's template, which has no segments, but two marks between the texts.
    assert ((batch.texts.ids == data.source_tokenizer.sep_id).sum(1) == 3).all() and not batch.texts.segments.any()


def test_one_document_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("the lamp is lit\nthe room is warm\n" * 20)
    alone = document_recipe(tmp_path, f"data.train={tmp_path / 'one.txt'}", f"data.valid={tmp_path / 'documents.txt'}")
    job, data = prepare(alone)
    with pytest.raises(DataError, match=r"data\.train: next sentences need two documents at least, and there are not"):
        job.stream(data, job.build_model(data), ALONE)
    lacking = document_recipe(tmp_path, f"data.valid={tmp_path / 'one.txt'}")
    job, data = prepare(lacking)
    with pytest.raises(DataError, match=r"data\.valid: next sentences need two documents .* put an empty line between"):
        job.evaluator(data, job.build_model(data), torch.device("cpu"), ALONE)


def test_of_few_documents_two_are_held_out(tmp_path: Path) -> None:
    write_documents(tmp_path / "documents.txt", 6)
    job, data = prepare(document_recipe(tmp_path, "data.held_out=1"))
    assert len(data.valid) == 2
    assert job.evaluator(data, job.build_model(data), torch.device("cpu"), ALONE).pairs


def test_where_two_documents_cannot_be_held_out_it_is_said_before_tokens_are_made(tmp_path: Path) -> None:
    write_documents(tmp_path / "documents.txt", 3)
    with pytest.raises(
        DataError,
        match=r"data\.train: no text can be held out, since next sentences need two documents to train on and two to "
        r"choose by, with an empty line .*: name others in data\.valid",
    ):
        prepare(document_recipe(tmp_path))
    assert not list((tmp_path / "run" / "cache").glob("*/tokens"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.num_segments=1"],
            r"masking\.next_sentence is true, but .* has no segments by which to tell",
        ),
        (["data.packing=true"], r"data\.packing and masking\.next_sentence are true, but a pair of texts fills a row"),
        (
            ["masking.next_sentence=false", "evaluation.metric=next_sentence_accuracy"],
            r"evaluation\.metric is next_sentence_accuracy, but masking\.next_sentence is false",
        ),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run(document_recipe(tmp_path, *overrides))
