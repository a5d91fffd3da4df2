"""CTranslate2 continues texts as we do, by the program in the README."""

from dataclasses import replace
from pathlib import Path

import ctranslate2
import pytest
from tests.checkpoints.exports import program_of
from tests.checkpoints.hub_gpts import ODD_SIZES, write_gpt
from tests.checkpoints.sentences import pairs
from transformers.utils import logging

import trasluz
from trasluz.checkpoints.ctranslate2 import write_ctranslate2
from trasluz.errors import ModelError
from trasluz.tasks.loading import read_model

PROMPTS = ["", "a", *(text for text, _ in pairs(8, seed=5))]


def whole(text: str) -> str:
    """Return a text without the half of a character at its end, which we leave out and the library marks."""
    return text.rstrip("\ufffd")


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.mark.parametrize("shape", ODD_SIZES)
def test_greedy_texts(shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gpt(tmp_path / "model", **ODD_SIZES[shape])
    write_ctranslate2(tmp_path / "out", read_model(tmp_path / "model"))
    program = program_of(tmp_path / "out", monkeypatch)
    # As many as the window has room for, and fewer.
    for most in (100, 7):
        wanted = [whole(one.text) for one in trasluz.load(tmp_path / "model")(PROMPTS, max_tokens=most, beam=1)]
        assert [whole(program["generate"](prompt, most)) for prompt in PROMPTS] == wanted
    assert len(set(wanted)) > 4
    assert isinstance(program["generator"], ctranslate2.Generator)


def test_weights_in_eight_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gpt(tmp_path / "model", n_embd=64, n_head=4)
    for dtype in ("fp32", "int8"):
        write_ctranslate2(tmp_path / dtype, read_model(tmp_path / "model"), dtype)
    whole, small = ((tmp_path / dtype / "model.bin").stat().st_size for dtype in ("fp32", "int8"))
    assert small < 0.4 * whole
    assert len(program_of(tmp_path / "int8", monkeypatch)["generate"]("the old miller", 9)) > 1


def test_a_model_without_an_end_is_refused(tmp_path: Path) -> None:
    write_gpt(tmp_path / "model")
    loaded = read_model(tmp_path / "model")
    loaded.config = loaded.config.model_copy(update={"eos_id": None})
    with pytest.raises(ModelError, match=r"model has no token that ends a text, but CTranslate2 asks for one; use on"):
        write_ctranslate2(tmp_path / "out", loaded)


def test_encoders_are_refused(tmp_path: Path) -> None:
    message = r"pocket-bert is for the task 'fill-mask'; models that translate or continue texts can be .* go to onnx\."
    with pytest.raises(ModelError, match=message):
        write_ctranslate2(tmp_path / "out", read_model("pocket-bert"))


def test_parts_that_the_engine_has_not_are_refused(tmp_path: Path) -> None:
    write_gpt(tmp_path / "model")
    loaded = read_model(tmp_path / "model")
    banded = loaded.config.model_copy(update={"band": 4})
    with pytest.raises(ModelError, match=r"has parts that GPT-2 has not \(a band, rotary positions and the like\)"):
        write_ctranslate2(tmp_path / "out", replace(loaded, config=banded))
