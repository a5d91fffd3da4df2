"""`translate --input --output`: the same lines as from a pipe, by any number of processes, and told to people."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.cli.conftest import TEXTS

from trasluz.cli.main import run
from trasluz.cli.translate_file import Shard, find_shard
from trasluz.errors import RequestError
from trasluz.tasks import file_translation

Captured = pytest.CaptureFixture[str]
OPTIONS = ("--to", "es", "--beam", "1", "--max-length-ratio", "0")


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of some lines; the working folder is its own."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") or name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    path = tmp_path / "text.en"
    path.write_text("\n".join([*TEXTS[::2], "", *TEXTS[::2], ""]), encoding="utf-8")
    return path


def translated(capsys: Captured, *arguments: str, code: int = 0) -> list[str]:
    """Run `translate` on the file and return the lines of standard error."""
    assert run(["translate", *arguments]) == code
    answer = capsys.readouterr()
    assert answer.out == ""
    return answer.err.splitlines()


def piped(capsys: Captured, monkeypatch: pytest.MonkeyPatch, content: bytes, *arguments: str) -> str:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert run(["translate", *arguments]) == 0
    return capsys.readouterr().out


def test_a_file_is_translated_as_a_pipe_is(
    transformer_folder: str, text: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = piped(capsys, monkeypatch, text.read_bytes(), transformer_folder, *OPTIONS)
    command = (transformer_folder, "--input", "text.en", "--output", "text.es", *OPTIONS)
    assert translated(capsys, *command)[-1] == "text.es: 7 lines, 0:00"
    assert Path("text.es").read_text(encoding="utf-8") == wanted
    assert translated(capsys, *command) == ["text.es: 7 lines, complete already, nothing was done"]
    assert translated(capsys, *command, "--quiet") == []
    (refusal,) = translated(capsys, *command, "--no-repeat-ngram", "2", code=2)
    assert "text.es was begun by another command (no_repeat_ngram was 0, now it is 2)" in refusal


def test_shards_in_the_order_of_their_names_are_the_whole(
    transformer_folder: str, text: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = piped(capsys, monkeypatch, text.read_bytes(), transformer_folder, *OPTIONS)
    command = (transformer_folder, "--input", "text.en", "--output", "text.es", "--quiet", *OPTIONS)
    for number in range(1, 12):
        assert translated(capsys, *command, "--shard", f"{number}/11") == []
    parts = sorted(Path().glob("text.es.*-of-11"))
    assert [part.name for part in parts] == [f"text.es.{number:02}-of-11" for number in range(1, 12)]
    assert "".join(part.read_text(encoding="utf-8") for part in parts) == wanted
    # What changes the bytes of the model's folder changes the model.
    monkeypatch.setattr("trasluz.tasks.loading.fingerprint", lambda folder: "another")
    (refusal,) = translated(capsys, *command, "--shard", "1/11", code=2)
    assert 'now it is "toy-en-es another"' in refusal


def test_json_holds_all_translations_in_one_line(transformer_folder: str, text: Path, capsys: Captured) -> None:
    command = (transformer_folder, "--input", "text.en", "--output", "text.jsonl", "--to", "es", "--json", "--quiet")
    translated(capsys, *command, "--nbest", "2", "--max-length-ratio", "0")
    objects = [json.loads(line) for line in Path("text.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [one["source"] for one in objects] == text.read_text(encoding="utf-8").split("\n")[:-1]
    assert len(objects[0]["alternatives"]) == 1


def test_lines_that_cannot_be_used(transformer_folder: str, text: Path, capsys: Captured) -> None:
    text.write_bytes(b"the lamp\n" + b"\xff\n" * 6 + b"\0\n")
    command = (transformer_folder, "--input", "text.en", "--output", "text.es", *OPTIONS)
    assert translated(capsys, *command, code=2) == [
        "trasluz: text.en:2: invalid UTF-8. Correct it, or set --on-error to skip."
    ]
    assert translated(capsys, *command, "--on-error", "skip")[-1] == (
        "text.es: 8 lines, 0:00; 6 skipped: invalid UTF-8 (text.en:2, text.en:3, text.en:4, text.en:5, text.en:6, ...)"
        "; 1 skipped: NUL character (text.en:8)"
    )
    assert Path("text.es").read_bytes().endswith(b"\n" * 7)
    (refusal,) = translated(capsys, *command, "--on-error", "cry", code=2)
    assert "--on-error is 'cry'; it can be stop or skip." in refusal


FILES = ("--input", "text.en", "--output", "text.es")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (FILES[:2], "--input is given without --output; a file is translated from the one into the other."),
        (FILES[2:], "--output is given without --input; a file is"),
        (("--shard", "1/2"), "--shard is for files: name them with --input and --output."),
        (("--on-error", "skip"), "--on-error is for files: name them"),
        (("a text", *FILES), "there are a text and --input text.en; give one or the other."),
        (
            (*FILES, "--attention", "a.png"),
            "--attention is for texts that are typed or piped, not for a file of --input.",
        ),
        (
            (*FILES, "--nbest", "3"),
            "--nbest 3 makes several lines of a text, but a file is translated line for line: add",
        ),
        ((*FILES, "--shard", "0/2"), "--shard is '0/2'; it is auto, or I/N with I from 1 to N, such as 1/4."),
        ((*FILES, "--shard", "3/2"), "--shard is '3/2'; it is auto"),
        ((*FILES, "--shard", "half"), "--shard is 'half'; it is auto"),
        (
            (*FILES, "--shard", "auto"),
            "neither torchrun (RANK, WORLD_SIZE) nor srun (SLURM_PROCID, SLURM_STEP_NUM_TASKS) has started",
        ),
        (("--input", "gone.en", *FILES[2:]), "there is no file gone.en."),
        (("--input", "text.en", "--output", "text.en"), "text.en is there already, and no text.en.state.json tells"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    transformer_folder: str, text: Path, capsys: Captured, arguments: tuple[str, ...], told: str
) -> None:
    before = text.read_bytes()
    (refusal,) = translated(capsys, transformer_folder, "--to", "es", *arguments, code=2)
    assert told in refusal
    assert text.read_bytes() == before and not Path("text.es").exists()


def test_launchers_number_their_processes(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for name, value in (("SLURM_PROCID", "6"), ("SLURM_STEP_NUM_TASKS", "7"), ("SLURM_LOCALID", "3")):
        monkeypatch.setenv(name, value)
    assert find_shard("auto") == Shard(7, 7)
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "12"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    assert find_shard("auto") == Shard(1, 12)
    assert chosen == [1, 0]
    assert find_shard("2/3") == Shard(2, 3) and find_shard(None) is None
    assert Shard(3, 120).name(Path("a/b.es")) == Path("a/b.es.003-of-120")
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS")
    with pytest.raises(RequestError, match=r"--shard is auto, but neither torchrun"):
        find_shard("auto")


def test_a_batch_script_of_slurm_is_no_process_of_srun(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("JOB_ID", "17"), ("PROCID", "0"), ("NTASKS", "8"), ("LOCALID", "0")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(RequestError, match=r"srun has not started this process, .*: put srun before it, or say which"):
        find_shard("auto")


def test_ctrl_c_says_that_nothing_is_lost(
    transformer_folder: str, text: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(file_translation._Work, "_answers", stopped)
        (line,) = translated(capsys, transformer_folder, *FILES, *OPTIONS, code=130)
    assert line == "text.es: stopped; the same command goes on from there."
    assert not Path("text.es").exists()
    translated(capsys, transformer_folder, *FILES, *OPTIONS)
    assert Path("text.es").exists()


def test_sigterm_and_the_same_command_again(transformer_folder: str, text: Path, capsys: Captured) -> None:
    # Windows of a few lines, so that the process cannot be done before the signal comes.
    text.write_text("\n".join(TEXTS[::2] * 30), encoding="utf-8")
    command = ("translate", transformer_folder, *FILES, *OPTIONS, "--batch-tokens", "2", "--threads", "1")
    process = subprocess.Popen([sys.executable, "-m", "trasluz", *command], stderr=subprocess.PIPE, text=True)
    state = Path("text.es.state.json")
    limit = time.monotonic() + 60
    while not (state.exists() and json.loads(state.read_text(encoding="utf-8"))["bytes"]):
        assert time.monotonic() < limit and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert not Path("text.es").exists() and Path("text.es.partial").stat().st_size > 0
    lines = translated(capsys, *command[1:])
    assert "going on after" in lines[0]
    assert translated(capsys, transformer_folder, "--input", "text.en", "--output", "whole.es", *OPTIONS, "-q") == []
    assert Path("text.es").read_bytes() == Path("whole.es").read_bytes()
    assert os.path.getsize("text.es") > 0
