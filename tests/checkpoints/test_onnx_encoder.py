"""ONNX Runtime reads as we do: every task of an encoder, by the program in the README of its folder."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.checkpoints.exports import program_of, shapes_unchecked
from tests.checkpoints.hub_encoders import HEADS, SIZES, family_of, write_encoder
from tests.checkpoints.sentences import pairs
from transformers.utils import logging

import trasluz
from trasluz.checkpoints.onnx import write_onnx
from trasluz.checkpoints.onnx_graph import OPSET
from trasluz.checkpoints.sentence_vectors import Pooling, write_pooling
from trasluz.errors import RequestError
from trasluz.models.bert import Bert
from trasluz.models.bigbird import lengthened
from trasluz.tasks.loading import bundled_models, read_model

# Drawing a graph takes seconds. All families with all heads, and the bundled model, with TRASLUZ_ONNX_MODELS=all.
EVERY_MODEL = os.environ.get("TRASLUZ_ONNX_MODELS") == "all"
FAMILIES = tuple(SIZES) if EVERY_MODEL else ()

TEXTS = [text for pair in pairs(6, seed=3) for text in pair]
# Nothing, what is no word, and more than a model of 40 positions reads.
ODD_TEXTS = ["", "[SEP] a </s> [CLS]", "ñandú 日本 -- ?!", " ".join(TEXTS)]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def exported(place: Path, class_name: str, task: str, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Any:
    """Write a random model and export it; return our task and what the exported program defines."""
    layers = "n_layers" if family_of(class_name) == "DistilBert" else "num_hidden_layers"
    write_encoder(place / "model", class_name, **{layers: 1, **changes})
    return both(place / "model", place / "out", task, monkeypatch)


def both(model: Path | str, out: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, Any]]:
    with shapes_unchecked():
        write_onnx(out, read_model(model, task))
    return trasluz.load(model, task=task), program_of(out, monkeypatch)


@pytest.mark.parametrize("family", FAMILIES or ["Roberta"])
def test_vectors_and_states(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embed, program = exported(tmp_path, f"{family}Model", "embed", monkeypatch)
    texts = [*TEXTS, *ODD_TEXTS]
    np.testing.assert_allclose(program["embed"](texts), embed.vectors(texts), rtol=0, atol=1e-6)
    np.testing.assert_allclose(program["embed"](["a"]), embed.vectors(["a"]), rtol=0, atol=1e-6)
    batch = embed.batch(texts)
    given = {"ids": batch.ids, "lengths": batch.lengths, "segments": batch.segments}
    # More padding than any text needs, and what stands there does not matter.
    longer = torch.nn.functional.pad(batch.ids, (0, 0), value=0)
    longer[torch.arange(longer.shape[1]) >= batch.lengths[:, None]] = 5
    session = program["session"]
    names = [one.name for one in session.get_inputs()]
    given["ids"] = longer
    vectors, states = session.run(None, {name: given[name].long().numpy() for name in names})
    np.testing.assert_allclose(vectors, embed.vectors(texts), rtol=0, atol=1e-6)
    with torch.inference_mode():
        ours = embed.model(batch)
    for number, length in enumerate(batch.lengths.tolist()):
        np.testing.assert_allclose(states[number, :length], ours[number, :length], rtol=0, atol=2e-5)


@pytest.mark.skipif(not EVERY_MODEL, reason="TRASLUZ_ONNX_MODELS is not all")
@pytest.mark.parametrize("kind", ["cls", "max"])
def test_vectors_as_the_folder_says(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_encoder(tmp_path / "model", "BertModel")
    write_pooling(tmp_path / "model", 21, Pooling(kind, normalized=False, max_tokens=12))
    embed, program = both(tmp_path / "model", tmp_path / "out", "embed", monkeypatch)
    texts = [*TEXTS, *ODD_TEXTS]
    np.testing.assert_allclose(program["embed"](texts), embed.vectors(texts), rtol=0, atol=2e-5)
    assert json.loads((tmp_path / "out/config.json").read_text())["max_length"] == 12


@pytest.mark.parametrize("family", FAMILIES or ["Bert"])
def test_masked_words(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill, program = exported(tmp_path, f"{family}ForMaskedLM", "fill-mask", monkeypatch)
    mask = fill.mask_token
    texts = [f"the {mask} sees {mask} .", f"{mask}", "", f"nobody liked [SEP] the old {mask}", TEXTS[0] + mask]
    found = program["fill"](texts, top=3)
    for ours, theirs in zip(fill(texts, top=3), found, strict=True):
        assert len(ours.masks) == len(theirs)
        for wanted, told in zip(ours.masks, theirs, strict=True):
            names = [fill.tokenizer.backend.id_to_token(one.token_id) for one in wanted.candidates]
            assert [name for name, _ in told] == names
            assert [p for _, p in told] == pytest.approx([one.probability for one in wanted.candidates], abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES or ["Bert"])
def test_labels(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classify, program = exported(tmp_path, f"{family}ForSequenceClassification", "classify", monkeypatch)
    texts = [*TEXTS, *ODD_TEXTS]
    for second in (None, texts[::-1]):
        for ours, scores in zip(classify(texts, second), program["classify"](texts, second), strict=True):
            assert scores == pytest.approx(ours.scores, abs=1e-5)


def test_a_long_text_loses_its_beginning_where_the_model_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_encoder(tmp_path / "model", "BertForSequenceClassification", num_hidden_layers=1)
    settings = tmp_path / "model" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"truncation_side": "left"}))
    classify, program = both(tmp_path / "model", tmp_path / "out", "classify", monkeypatch)
    text = f"{TEXTS[0]} " * 30
    (scores,) = program["classify"]([text])
    assert classify(text).left_out > 0 and scores == pytest.approx(classify(text).scores, abs=1e-5)
    assert "is cut at its beginning." in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.skipif(not EVERY_MODEL, reason="TRASLUZ_ONNX_MODELS is not all")
@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_labels_of_other_kinds(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {"num_labels": 1} if kind == "regression" else {}
    classify, program = exported(
        tmp_path, "BertForSequenceClassification", "classify", monkeypatch, problem_type=kind, **labels
    )
    for ours, scores in zip(classify(TEXTS), program["classify"](TEXTS), strict=True):
        assert scores == pytest.approx(ours.scores, abs=2e-5)


@pytest.mark.parametrize("family", FAMILIES or ["Roberta"])
def test_tags(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = dict(enumerate(["O", "B-person", "I-person", "B-place", "I-place"]))
    tag, program = exported(tmp_path, f"{family}ForTokenClassification", "tag", monkeypatch, id2label=names)
    texts = [*TEXTS, *ODD_TEXTS]
    for ours, theirs in zip(tag(texts), program["tag"](texts), strict=True):
        assert [one[:2] for one in theirs] == [(one.text, one.tag) for one in ours.words]
        assert [one[2] for one in theirs] == pytest.approx([one.score for one in ours.words], abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES or ["DistilBert"])
def test_answers(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, program = exported(tmp_path, f"{family}ForQuestionAnswering", "answer", monkeypatch)
    # One context that fits, one that is read in windows, and one without a token.
    for context in (TEXTS[0], " ".join(TEXTS), ""):
        ours = answer("who sees it?", context)
        text, score = program["answer"]("who sees it?", context)
        assert text == ours.text
        if text:
            assert score == pytest.approx(ours.score, abs=1e-5)


def test_the_files_are_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, program = exported(tmp_path, "BertForTokenClassification", "tag", monkeypatch)
    folder = tmp_path / "out"
    tokenizer_files = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "config.json", "README.md", *tokenizer_files}
    labels = [f"LABEL_{number}" for number in range(5)]
    assert program["config"] == {
        "model": "model",
        "task": "tag",
        "pad_id": 0,
        "labels": labels,
        "max_length": 40,
        "opset": OPSET,
    }
    onnx.checker.check_model(onnx.load(folder / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    shapes = {one.name: one.shape for one in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {
        "ids": ["texts", "length"],
        "lengths": ["texts"],
        "segments": ["texts", "length"],
        "logits": ["texts", "length", 5],
    }
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "| in | `ids` | texts, length | int64 |" in readme and "more than 40 tokens" in readme


@pytest.mark.skipif(not EVERY_MODEL, reason="TRASLUZ_ONNX_MODELS is not all")
@pytest.mark.parametrize("task", ["fill-mask", "classify", "tag", "answer", "embed"])
def test_the_bundled_model_answers_the_same(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "pocket-bert" not in bundled_models():
        pytest.skip("the bundled model is not in this tree")
    ours, program = both("pocket-bert", tmp_path / "out", task, monkeypatch)
    text = "When evening came, Irene lit the [MASK] in Lima."
    if task == "answer":
        wanted = ours("Who lit it?", text)
        assert program["answer"]("Who lit it?", text) == (wanted.text, pytest.approx(wanted.score, abs=1e-4))
    elif task == "classify":
        assert program["classify"]([text])[0] == pytest.approx(ours(text).scores, abs=1e-5)
    elif task == "tag":
        assert [one[1] for one in program["tag"]([text])[0]] == [one.tag for one in ours(text).words]
    elif task == "fill-mask":
        shown = [name for name, _ in program["fill"]([text])[0][0]]
        assert shown == [one.token for one in ours(text).masks[0].candidates]
    else:
        np.testing.assert_allclose(program["embed"]([text])[0], ours(text).vector, rtol=0, atol=1e-6)


def test_a_head_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path / "model", "BertForMaskedLM")
    loaded = read_model(tmp_path / "model")
    loaded.task = "tag"
    with pytest.raises(RequestError, match=r"model has no head for the task 'tag'; it has fill-mask\."):
        write_onnx(tmp_path / "out", loaded)
    assert not (tmp_path / "out").exists()


assert len(HEADS) == 5, "each has its test above"


def test_block_sparse_attention_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path / "model", "BertModel")
    loaded = read_model(tmp_path / "model")
    longer = lengthened(cast(Bert, loaded.model), 90, block_size=8)
    with pytest.raises(RequestError, match="has block-sparse attention, for which no graph can be drawn"):
        write_onnx(tmp_path / "out", replace(loaded, model=longer, config=longer.config))
    assert not (tmp_path / "out").exists()
