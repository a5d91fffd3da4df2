"""`export` writes what was asked for and says what cannot be."""

from pathlib import Path

import pytest
from tests.checkpoints.exports import program_of

import trasluz
from trasluz.checkpoints import onnx
from trasluz.cli.main import run

Captured = pytest.CaptureFixture[str]


def test_a_folder_for_ctranslate2(
    transformer_folder: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run(["export", transformer_folder, str(out), "--to", "ctranslate2"]) == 0
    assert capsys.readouterr() == ("", f"{out / 'README.md'} says how to run it\n")
    translate = program_of(out, monkeypatch, beam_size="1", max_decoding_length="20")["translate"]
    wanted = trasluz.load(transformer_folder)("the lamp", to="es", beam=1, max_length=21).text
    assert translate(["the lamp"]) == [wanted]


def test_a_folder_for_onnx(
    recurrent_folder: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What --offline sets is put back after the test.
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    asked = []
    monkeypatch.setattr(onnx, "write_onnx", lambda folder, loaded: asked.append((folder, loaded.name)))
    assert run(["export", recurrent_folder, str(tmp_path / "out"), "--to", "onnx", "--quiet", "--offline"]) == 0
    assert capsys.readouterr() == ("", "")
    assert asked == [(tmp_path / "out", "toy-rnn")]


def test_the_task_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(onnx, "write_onnx", lambda folder, loaded: asked.append((loaded.task, loaded.config.labels)))
    assert run(["export", "pocket-bert", str(tmp_path / "out"), "--to", "onnx", "--task", "tag", "--quiet"]) == 0
    assert run(["export", "pocket-bert", str(tmp_path / "out"), "--to", "onnx", "--quiet"]) == 0
    ((task, labels), (other, none)) = asked
    assert (task, other, none) == ("tag", "fill-mask", []) and "B-person" in labels


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--to", "ctranslate"], "there is no format 'ctranslate'; did you mean ctranslate2?"),
        (["--to", "gguf"], "there is no format 'gguf'; there are ctranslate2 and onnx."),
        (["--to", "onnx", "--dtype", "int8"], "--dtype is 'int8', but onnx files hold fp32; leave it out"),
        (["--to", "ctranslate2", "--dtype", "q4"], "weights cannot be stored as 'q4'; say fp32, fp16, bf16, int8."),
        (["--to", "ctranslate2"], "and CTranslate2 has only Transformers"),
        (["--to", "onnx", "--task", "tag"], "is for the task 'translate', not 'tag'."),
        ([], "Missing option '--to'"),
    ],
)
def test_what_cannot_be_is_refused(
    recurrent_folder: str, tmp_path: Path, capsys: Captured, options: list[str], sentence: str
) -> None:
    assert run(["export", recurrent_folder, str(tmp_path / "out"), *options]) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert sentence in answer.err and len(answer.err.splitlines()) <= 2
    assert not (tmp_path / "out").exists()
