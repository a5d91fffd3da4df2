"""`init`, `train`, `translate`, `evaluate`: the README's way from two text files to a translator, on a toy corpus."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trasluz.cli.main import run
from trasluz.cli.options import CommonOptions
from trasluz.cli.train import overrides_of

Captured = pytest.CaptureFixture[str]
WORDS = [("one", "uno"), ("two", "dos"), ("three", "tres"), ("four", "cuatro"), ("five", "cinco"), ("six", "seis")]
TINY = [
    "model.num_layers=1",
    "model.model_dim=32",
    "model.num_heads=2",
    "model.feed_forward_dim=64",
    "model.dropout=0.0",
]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Counting: every word has one translation, so little is to be learnt."""
    monkeypatch.chdir(tmp_path)
    rows = [[WORDS[(row * (step + 1) + step) % 6] for step in range(1 + row % 5)] for row in range(300)]
    for side, language in enumerate(("en", "es")):
        lines = [" ".join(pair[side] for pair in row) for row in rows]
        (tmp_path / f"corpus.{language}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def write_recipe(corpus: Path, capsys: Captured) -> None:
    assert run(["init", "translate", "--data", "corpus.{en,es}"]) == 0
    (corpus / "recipe.yaml").write_text(capsys.readouterr().out, encoding="utf-8")


def test_from_two_text_files_to_a_translator(corpus: Path, capsys: Captured) -> None:
    write_recipe(corpus, capsys)
    budget = ["training.max_steps=6", "evaluation.every=3 steps", "evaluation.beam=1"]
    assert run(["train", "recipe.yaml", *TINY, *budget, "--threads", "1", "--seed", "7"]) == 0
    answer = capsys.readouterr()
    assert answer.out == ""
    assert "update 3: loss" in answer.err and "training.max_steps, 6, is reached: 6 updates" in answer.err
    assert "seed: 7" in (corpus / "runs/en-es/recipe.yaml").read_text(encoding="utf-8")
    assert run(["translate", "runs/en-es", "one two three"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert run(["evaluate", "runs/en-es", "--data", "corpus.{en,es}", "--beam", "1"]) == 0
    assert "en-es  bleu" in capsys.readouterr().out
    # Once more into the same folder is refused; on from there is not.
    assert run(["train", "recipe.yaml", *TINY, *budget, "--threads", "1", "--seed", "7"]) == 2
    assert "go on with --resume, or choose another folder" in capsys.readouterr().err
    resumed = ["training.max_steps=8", *budget[1:], "--threads", "1", "--seed", "7", "--resume", "--quiet"]
    assert run(["train", "recipe.yaml", *TINY, *resumed]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_misspelt_key_is_refused_with_its_line(corpus: Path, capsys: Captured) -> None:
    write_recipe(corpus, capsys)
    lines = (corpus / "recipe.yaml").read_text(encoding="utf-8").splitlines()
    place = next(number for number, line in enumerate(lines, start=1) if line.startswith("  batch_tokens:"))
    lines[place - 1] = "  batch_tokns: 512"
    (corpus / "recipe.yaml").write_text("\n".join(lines), encoding="utf-8")
    assert run(["train", "recipe.yaml"]) == 2
    assert (
        f"recipe.yaml:{place}: unknown key training.batch_tokns; did you mean batch_tokens?" in capsys.readouterr().err
    )
    assert not (corpus / "runs").exists()


def test_a_run_that_is_refused_leaves_no_folder(corpus: Path, capsys: Captured) -> None:
    write_recipe(corpus, capsys)
    assert run(["train", "recipe.yaml", "data.train=nowhere.{en,es}"]) == 2
    assert "there is no file nowhere.en" in capsys.readouterr().err
    assert not (corpus / "runs/en-es").exists()
    (corpus / "runs/en-es").mkdir(parents=True)
    assert run(["train", "recipe.yaml", "data.train=nowhere.{en,es}"]) == 2
    assert (corpus / "runs/en-es").exists()


def test_ctrl_c_saves_and_leaves_without_a_traceback(corpus: Path, capsys: Captured) -> None:
    write_recipe(corpus, capsys)
    command = [sys.executable, "-m", "trasluz", "train", "recipe.yaml", *TINY, "evaluation.every=5 steps"]
    process = subprocess.Popen([*command, "--threads", "1"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (corpus / "runs/en-es/checkpoints/step-5").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told and "stopped as asked" in told
    assert "--resume" in told


def test_common_options_win_over_the_recipe() -> None:
    assert overrides_of(CommonOptions()) == []
    assert overrides_of(CommonOptions(device="auto")) == ["training.device=auto"]
    given = CommonOptions(device="cpu", dtype="fp32", threads=1, batch_tokens=256, seed=0)
    assert overrides_of(given) == [
        "training.device=cpu",
        "training.precision=fp32",
        "training.threads=1",
        "training.batch_tokens=256",
        "training.seed=0",
    ]
