"""What several tasks change of one encoder, stored beside it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.checkpoints.hub_encoders import write_encoder

import trasluz
from trasluz.checkpoints.model_folder import load_model, save_loaded, save_model
from trasluz.checkpoints.task_folders import add_task, task_folders
from trasluz.errors import ModelError, RequestError
from trasluz.tasks.embedder import Embedder

TEXT = "A light in the window."


def tuned(base: Path, folder: Path, heads: list[str], **fields: Any) -> Any:
    """Write a model that was tuned from an encoder of three layers, of which two stayed as they were."""
    given = load_model(base)
    encoder: Any = given.model
    model = encoder.with_heads(heads, **fields)
    with torch.no_grad():
        for parameter in [*model.encoder[2].parameters(), *model.heads.parameters()]:
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_model(folder, model.eval(), given.source_tokenizer, given.target_tokenizer)
    return model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with an encoder that guesses words, in 16 bits, and two more tasks beside."""
    write_encoder(tmp_path / "whole", "BertForMaskedLM")
    save_loaded(tmp_path / "base", load_model(tmp_path / "whole"), "fp16")
    tuned(tmp_path / "base", tmp_path / "classify", ["classify"], labels=["near", "far"])
    tuned(tmp_path / "base", tmp_path / "tag", ["tag"], labels=["O", "B-x"])
    for task in ("classify", "tag"):
        assert add_task(tmp_path / "base", tmp_path / task, task) == tmp_path / "base" / "heads" / task
    return tmp_path / "base"


def test_each_task_is_the_model_that_was_tuned(base: Path, tmp_path: Path) -> None:
    assert list(task_folders(base)) == ["classify", "tag"]
    whole, there = trasluz.load(tmp_path / "classify"), trasluz.load(base, task="classify")
    assert there.labels == whole.labels == ("near", "far")
    scores, expected = there(TEXT).scores, whole(TEXT).scores
    assert all(abs(scores[label] - expected[label]) < 1e-3 for label in expected)
    stored = load_file(base / "heads" / "classify" / "model.safetensors")
    assert all(tensor.dtype == torch.float16 for tensor in stored.values())
    assert not any("embeddings" in name or "layer.0." in name or "layer.1." in name for name in stored)
    assert trasluz.load(base).head_name == "fill-mask" and trasluz.load(base, task="tag").head_name == "tag"
    assert trasluz.load(base, task="embed")(TEXT).vector.shape == (21,)


def test_each_task_reads_as_much_of_a_text_as_it_was_tuned_with(base: Path, tmp_path: Path) -> None:
    before = trasluz.load(base).longest_text
    loaded = load_model(tmp_path / "classify")
    loaded.source_tokenizer.max_length, loaded.source_tokenizer.keep = 5, "end"
    save_loaded(tmp_path / "classify", loaded)
    add_task(base, tmp_path / "classify", "classify")
    there = trasluz.load(base, task="classify")
    assert there.longest_text == 5 and there.tokenizer.keep == "end"
    assert there(TEXT).scores == pytest.approx(trasluz.load(tmp_path / "classify")(TEXT).scores, abs=1e-3)
    there.save(tmp_path / "alone")
    assert trasluz.load(tmp_path / "alone").longest_text == 5
    for task in ("fill-mask", "tag"):
        other = trasluz.load(base, task=task)
        assert other.longest_text == before and other.tokenizer.keep == "start"


def test_a_task_is_saved_as_a_whole_model(base: Path, tmp_path: Path) -> None:
    there = trasluz.load(base, task="classify")
    there.save(tmp_path / "alone")
    assert trasluz.load(tmp_path / "alone")(TEXT).scores == there(TEXT).scores
    assert "base" not in json.loads((tmp_path / "alone" / "config.json").read_text())["trasluz"]


def test_what_is_not_there_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match="is for the task 'fill-mask' or 'embed' or 'classify' or 'tag', not 'answer'"
    ):
        trasluz.load(base, task="answer")
    write_encoder(tmp_path / "other", "BertForSequenceClassification", seed=9)
    with pytest.raises(ModelError, match=r"other shares no weights with .*base: a model that was tuned from it"):
        add_task(base, tmp_path / "other", "classify")
    with pytest.raises(ModelError, match=r"base changes nothing of .*base"):
        add_task(base, base, "fill-mask")
    (base / "heads" / "tag" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        trasluz.load(base, task="tag")
    config = base / "heads" / "classify" / "config.json"
    config.write_text(config.read_text().replace("../..", "/etc"))
    with pytest.raises(ModelError, match=r"trasluz\.base is '/etc'"):
        trasluz.load(base, task="classify")


def test_what_is_saved_stays_for_its_task_and_keeps_the_others(base: Path, tmp_path: Path) -> None:
    embed = trasluz.load(base, task="embed")
    embed.save(tmp_path / "saved")
    again = trasluz.load(tmp_path / "saved")
    assert type(again) is Embedder and again.pooling == embed.pooling
    assert list(task_folders(tmp_path / "saved")) == ["classify", "tag"]
    scores = trasluz.load(base, task="classify")(TEXT).scores
    assert trasluz.load(tmp_path / "saved", task="classify")(TEXT).scores == pytest.approx(scores, abs=1e-4)
    again.save(tmp_path / "saved")
    assert list(task_folders(tmp_path / "saved")) == ["classify", "tag"]
