"""ONNX Runtime continues texts as we do: prompts read at once, steps, and the program in the README."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from tests.checkpoints.exports import program_of, shapes_unchecked
from tests.checkpoints.hub_gpts import write_gpt
from tests.checkpoints.hub_llamas import write_llama
from tests.checkpoints.sentences import pairs
from transformers.utils import logging

import trasluz
from trasluz.checkpoints.model_folder import save_loaded
from trasluz.checkpoints.onnx import write_onnx
from trasluz.models.gpt import Gpt
from trasluz.tasks.loading import read_model

PROMPTS = ["", "a", *(text for text, _ in pairs(8, seed=5))]


def write_banded(folder: Path, dense: Path) -> None:
    """Write a random model whose second layer sees more positions than an example has; `dense`: without a band."""
    write_gpt(dense, n_layer=2)
    loaded = read_model(dense)
    model = Gpt(type(loaded.config)(**{**loaded.config.model_dump(), "band": 10})).eval()
    model.load_state_dict(loaded.model.state_dict())
    save_loaded(folder, replace(loaded, model=model, config=model.config))


def whole(text: str) -> str:
    """Return a text without the half of a character at its end, which we leave out and the library marks."""
    return text.rstrip("\ufffd")


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="module", params=["gpt2", "banded", "llama"])
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("generators")
    if request.param == "gpt2":
        write_gpt(place / "model", n_layer=1)
    elif request.param == "banded":
        write_banded(place / "model", place / "dense")
    else:
        write_llama(place / "model", num_hidden_layers=1)
    with shapes_unchecked():
        write_onnx(place / "out", read_model(place / "model"))
    return place / "model", place / "out"


def test_greedy_texts(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model, out = folders
    generate = program_of(out, monkeypatch)["generate"]
    # As many as the window has room for, and fewer.
    for most in (100, 7):
        wanted = [whole(one.text) for one in trasluz.load(model)(PROMPTS, max_tokens=most, beam=1)]
        assert [whole(generate(text, most)) for text in PROMPTS] == wanted
    assert len(set(wanted)) > 4


@torch.inference_mode()
def test_logits_of_every_step(folders: tuple[Path, Path]) -> None:
    loaded = read_model(folders[0])
    model: Any = loaded.model
    prompt, step = (onnxruntime.InferenceSession(folders[1] / f"{name}.onnx") for name in ("prompt", "decoder_step"))
    config = json.loads((folders[1] / "config.json").read_text(encoding="utf-8"))
    for num_sources, length in ((1, 2), (3, 9)):
        source = torch.randint(0, loaded.config.vocab_size, (num_sources, length))
        ours = model.start(source, torch.full((num_sources,), length), 2, 6)
        theirs = dict(zip(config["carried"], prompt.run(None, {"source": source.numpy()}), strict=True))
        theirs = {name: part.repeat(2, axis=0) for name, part in theirs.items()}
        ids = source[:, -1].repeat_interleave(2)
        for _ in range(6):
            logits, ours = model.step(ids, ours)
            found, *carried = step.run(None, {"ids": ids.numpy(), **theirs})
            assert float((torch.from_numpy(found) - logits).abs().max()) < 2e-5
            rows = torch.cat([torch.randint(2, (2,)) + 2 * place for place in range(num_sources)])
            ours.select_rows(rows)
            theirs = {name: part[rows.numpy()] for name, part in zip(config["carried"], carried, strict=True)}
            ids = torch.randint(0, loaded.config.vocab_size, rows.shape)
