"""Models by their id on a hub: fetched once and no more than is read; offline, what is there; and every refusal."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from tests.checkpoints.hub_encoders import write_encoder
from tests.hub_server import HubServer, ask_this_hub

import trasluz
from trasluz.errors import ModelError
from trasluz.tasks.loading import bundled_models

TEXT = "the old miller has forgotten the bread."
POOLING = '[{"type": "m.Transformer", "path": ""}, {"type": "m.Pooling", "path": "1_Pooling"}]'
# What lies beside the weights in many a repository, and is of no use here.
LEFT = ["pytorch_model.bin", "training_args.bin", "tf_model.h5", "onnx/model.onnx", "onnx/config.json", "train.py"]
LEFT += ["openvino/model.safetensors", "adapter.safetensors"]
READ = {"config.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repositories: `encoder` with much beside it, `shards`, and `pickled`, which has no other weights."""
    root = tmp_path_factory.mktemp("hub")
    model = write_encoder(root / "encoder", "BertModel")
    (root / "encoder" / "modules.json").write_text(POOLING)
    shutil.copytree(root / "encoder", root / "shards")
    (root / "shards" / "model.safetensors").unlink()
    model.save_pretrained(root / "shards", max_shard_size="20KB")
    for name, content in dict.fromkeys(LEFT, "{}").items() | {("1_Pooling/config.json", '{"pooling_mode": "cls"}')}:
        place = root / "encoder" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text(content)
    shutil.copytree(root / "encoder" / "1_Pooling", root / "shards" / "1_Pooling")
    shutil.copytree(root / "encoder", root / "pickled")
    (root / "pickled" / "model.safetensors").unlink()
    return root


@pytest.fixture
def hub(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that this process asks, with an empty place to keep what it gives."""
    with HubServer() as hub:
        for path in folders.iterdir():
            hub.add(f"someone/{path.name}", path)
        hub.add("someone/gated", folders / "encoder", gated=True)
        ask_this_hub(hub, tmp_path / "home", monkeypatch)
        monkeypatch.chdir(tmp_path)
        yield hub


def test_an_encoder_is_fetched_once(hub: HubServer, folders: Path) -> None:
    embed = trasluz.load("someone/encoder")
    assert embed.name == "someone/encoder" and embed.pooling.kind == "cls"
    assert hub.fetched() == {*READ, "model.safetensors", "modules.json", "1_Pooling/config.json"}
    assert np.array_equal(embed(TEXT).vector, trasluz.load(folders / "encoder")(TEXT).vector)
    hub.requests.clear()
    trasluz.load("someone/encoder")
    # Whether there is something new is asked; nothing is fetched again.
    assert not hub.fetched() and any("/api/models/someone/encoder/" in request for request in hub.requests)


def test_shards(hub: HubServer, folders: Path) -> None:
    embed = trasluz.load("someone/shards")
    assert len([name for name in hub.fetched() if name.startswith("model-")]) > 1
    assert np.array_equal(embed(TEXT).vector, trasluz.load(folders / "encoder")(TEXT).vector)


def test_further_tasks_are_fetched_too(hub: HubServer) -> None:
    bundled = bundled_models()["pocket-bert"]
    hub.add("someone/tasks", bundled)
    found = trasluz.load("someone/tasks", task="tag")("Ana Ruiz moved from Lima to Lisbon.")
    assert found == trasluz.load(bundled, task="tag")("Ana Ruiz moved from Lima to Lisbon.")


def test_offline_it_is_what_was_fetched(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    before = trasluz.load("someone/encoder")(TEXT).vector
    hub.requests.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert np.array_equal(trasluz.load("someone/encoder")(TEXT).vector, before)
    with pytest.raises(
        ModelError,
        match=r"^there is no folder someone/shards, and a whole copy from the Hugging Face hub is not on this machine: "
        r"offline, nothing is downloaded\.$",
    ):
        trasluz.load("someone/shards")
    assert hub.requests == []


def test_a_fetch_that_was_cut_short(
    hub: HubServer, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trasluz.load("someone/shards")
    (shard, *_) = sorted((tmp_path / "home").glob("hub/*shards/snapshots/*/model-*.safetensors"))
    shard.unlink()
    with monkeypatch.context() as offline, pytest.raises(ModelError, match=r"a whole copy .* is not on this machine"):
        offline.setenv("HF_HUB_OFFLINE", "1")
        trasluz.load("someone/shards")
    trasluz.load("someone/shards")


def test_a_hub_that_is_down(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trasluz.load("someone/encoder")
    with HubServer() as gone:
        pass
    ask_this_hub(gone, tmp_path / "home", monkeypatch)
    trasluz.load("someone/encoder")
    with pytest.raises(
        ModelError,
        match=r"^there is no folder someone/shards, and it could not be fetched from the Hugging Face hub: .*Connection"
        r" refused\.$",
    ):
        trasluz.load("someone/shards")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nobody",
            r"^there is no folder someone/nobody, and no model of this name on the Hugging Face hub; if it is a",
        ),
        ("gated", r"^someone/gated is given by its owners only to whom they know: ask for access .* `hf auth login`"),
        (
            "pickled",
            r"^someone/pickled has no safetensors on the Hugging Face hub, and trasluz reads no pickle\. Where",
        ),
    ],
)
def test_what_a_hub_does_not_give(hub: HubServer, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        trasluz.load(f"someone/{name}")
    assert not any(file.endswith((".bin", ".h5", ".onnx", ".safetensors")) for file in hub.fetched())


def test_how_a_pickle_is_converted_is_true(
    hub: HubServer, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r'BertModel\.from_pretrained\("someone/pickled"\)\.save_pretrained\("FOLDER"'):
        trasluz.load("someone/pickled")
    # With the library's own words, of the same model where it is no pickle.
    transformers.BertModel.from_pretrained(folders / "encoder").save_pretrained("FOLDER")
    transformers.AutoTokenizer.from_pretrained(folders / "encoder").save_pretrained("FOLDER")
    theirs = trasluz.load(folders / "encoder")(TEXT, pooling="mean").vector
    assert np.array_equal(trasluz.load("FOLDER")(TEXT, pooling="mean", normalize=False).vector, theirs)


def test_the_command_line(hub: HubServer, folders: Path, tmp_path: Path) -> None:
    def embed(*options: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "trasluz", "embed", *options]
        # Read where the libraries are imported, so that only a process of its own can show it.
        place: dict[str, Any] = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
        return subprocess.run(command, env={**os.environ, **place}, capture_output=True, text=True, cwd=tmp_path)

    fetched = embed("someone/encoder", TEXT)
    assert fetched.returncode == 0, fetched.stderr
    vector = trasluz.load(folders / "encoder")(TEXT).vector
    np.testing.assert_allclose(np.fromstring(fetched.stdout, sep=" "), vector, atol=1e-5)
    assert "model.safetensors" in hub.fetched()
    hub.requests.clear()
    offline = embed("someone/encoder", TEXT, "--offline")
    assert (offline.returncode, offline.stdout, offline.stderr) == (0, fetched.stdout, "")
    assert hub.requests == []
