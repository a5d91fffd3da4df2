"""ONNX Runtime computes what we compute: logits of every step, and the texts of the program in the README."""

import functools
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.checkpoints.exports import (
    TO_ENGLISH,
    TO_SPANISH,
    program_of,
    random_model,
    random_sources,
    shapes_unchecked,
)
from tests.checkpoints.sentences import pairs
from tests.models.zoo import SMALL_MODELS

import trasluz
from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.checkpoints.onnx import write_onnx
from trasluz.checkpoints.onnx_graph import OPSET
from trasluz.checkpoints.state_parts import parts_of, with_parts
from trasluz.errors import RequestError
from trasluz.tasks.loading import read_model
from trasluz.tasks.translator import Translator
from trasluz.text.batching import pad_sequences

NUM_BEAMS, NUM_STEPS = 3, 7

# Drawing a graph takes seconds. All small models with TRASLUZ_ONNX_MODELS=all.
EVERY_MODEL = os.environ.get("TRASLUZ_ONNX_MODELS") == "all"
NAMES = tuple(SMALL_MODELS) if EVERY_MODEL else ("transformer-pre", "rnn-encdec-lstm", "rnnsearch")


def drawn(folder: Path, loaded: LoadedModel) -> Path:
    with shapes_unchecked():
        write_onnx(folder, loaded)
    return folder


@functools.cache
def small(name: str) -> LoadedModel:
    torch.manual_seed(0)
    generation = {
        "bad_words_ids": [[0], [1], [4], [5]],
        "max_length": 30,
        "no_repeat_ngram_size": 2,
        "normalization": "gnmt",
        "num_beams": 1,
    }
    return random_model(
        SMALL_MODELS[name], languages=("en", "es"), both_directions=True, generation=generation, card="# small\n"
    )


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    place = tmp_path_factory.mktemp("onnx")
    return functools.cache(lambda name: drawn(place / name, small(name)))


class Engine:
    """Both files of a folder, opened."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(folder / f"{name}.onnx", options) for name in ("encoder", "decoder_step")
        )
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))

    def start(self, source: torch.Tensor, lengths: torch.Tensor, num_beams: int) -> dict[str, Any]:
        found = self.encoder.run(None, {"source": source.numpy(), "source_lengths": lengths.numpy()})
        state = dict(zip([output.name for output in self.encoder.get_outputs()], found, strict=True))
        return state | {name: np.repeat(state[name], num_beams, axis=0) for name in self.config["carried"]}

    def step(self, ids: torch.Tensor, state: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
        logits, *carried = self.decoder.run(None, {"ids": ids.numpy(), **state})
        return torch.from_numpy(logits), state | dict(zip(self.config["carried"], carried, strict=True))


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_logits_of_every_step(name: str, folder_of: Callable[[str], Path]) -> None:
    loaded, engine = small(name), Engine(folder_of(name))
    model: Any = loaded.model
    for count in (1, 4):
        source, lengths = pad_sequences(random_sources(loaded, count), pad_id=0, last_id=2)
        ours, theirs = model.start(source, lengths, NUM_BEAMS, NUM_STEPS), engine.start(source, lengths, NUM_BEAMS)
        ids = torch.full((count * NUM_BEAMS,), 1)
        for _ in range(NUM_STEPS):
            logits, ours = model.step(ids, ours)
            found, theirs = engine.step(ids, theirs)
            assert float((found - logits).abs().max()) < 2e-5
            # As a beam does: rows change places within their source and go on with different tokens.
            rows = torch.cat([torch.randint(NUM_BEAMS, (NUM_BEAMS,)) + NUM_BEAMS * place for place in range(count)])
            ours.select_rows(rows)
            theirs |= {part: theirs[part][rows.numpy()] for part in engine.config["carried"]}
            ids = torch.randint(4, loaded.config.target_vocab_size, rows.shape)


def test_greedy_texts(folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Translator(small("transformer-pre"))
    translate = program_of(folder_of("transformer-pre"), monkeypatch)["translate"]
    texts = [text for text, _ in pairs(20, seed=3)]
    for to in ("es", "en"):
        wanted = [one.text for one in ours(texts, to=to)]
        assert [translate(text, to=to) for text in texts] == wanted
        assert len(set(wanted)) > 4


def test_the_files_are_what_they_say(folder_of: Callable[[str], Path]) -> None:
    loaded, folder = small("transformer-pre"), folder_of("transformer-pre")
    tokenizer_files = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    files = {"encoder.onnx", "decoder_step.onnx", "config.json", "README.md", "MODEL_CARD.md", *tokenizer_files}
    assert {path.name for path in folder.iterdir()} == files
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tags = {language: loaded.source_tokenizer.id_of(f"<2{language}>") for language in ("es", "en")}
    assert (config["source_tags"], config["forbidden_ids"], config["max_length"]) == (tags, [0, 1, 4, 5], 29)
    assert config["carried"] == ["caches.0.key", "caches.0.value"]
    assert config["held"] == ["memories.0.key", "memories.0.value", "memory_mask.key_lengths"]
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for name in ("encoder", "decoder_step"):
        graph = onnx.load(folder / f"{name}.onnx")
        onnx.checker.check_model(graph, full_check=True)
        assert [entry.version for entry in graph.opset_import if entry.domain == ""] == [OPSET]
        assert str(Path(__file__).parents[2]).encode() not in (folder / f"{name}.onnx").read_bytes()
        for value in (*graph.graph.input, *graph.graph.output):
            axes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            row = next(line for line in readme.splitlines() if f"`{value.name}`" in line)
            assert len(axes) == len(row.split("|")[3].split(","))
    assert "| in | `caches.0.key` | rows, 2, past, 8 | float32 |" in readme
    assert "| out | `next.caches.0.key` | rows, 2, past + 1, 8 | float32 |" in readme
    assert "Neither a text nor its translation may have more than 40 tokens." in " ".join(readme.split())


@pytest.mark.parametrize("name", SMALL_MODELS)
@torch.inference_mode()
def test_a_state_put_together_again_goes_on_alike(name: str) -> None:
    loaded = random_model(SMALL_MODELS[name])
    model: Any = loaded.model
    source, lengths = pad_sequences(random_sources(loaded, 2), pad_id=0, last_id=2)
    whole, pieces = model.start(source, lengths, 2, 4), model.start(source, lengths, 2, 0)
    for ids in torch.randint(4, loaded.config.target_vocab_size, (4, 4)):
        logits, whole = model.step(ids, whole)
        found, pieces = model.step(ids, with_parts(pieces, parts_of(pieces).values()))
        torch.testing.assert_close(found, logits, rtol=0, atol=2e-5)


def test_the_bundled_model_writes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translate = program_of(drawn(tmp_path / "out", read_model("pocket-en-es")), monkeypatch)["translate"]
    pocket = trasluz.load("pocket-en-es")
    for to, texts in (("es", TO_SPANISH), ("en", TO_ENGLISH)):
        assert [translate(text, to=to) for text in texts] == [one.text for one in pocket(texts, to=to, beam=1)]


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_without_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    message = rf"with the package {missing}, which is not installed: pip install 'trasluz\[onnx\]'\."
    with pytest.raises(RequestError, match=message):
        write_onnx(tmp_path / "out", random_model(SMALL_MODELS["rnnsearch"]))


def test_what_stands_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(RequestError, match=r"holds files already: choose a new folder, or empty this one\."):
        write_onnx(tmp_path, random_model(SMALL_MODELS["rnnsearch"]))
