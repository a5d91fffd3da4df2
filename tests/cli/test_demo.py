"""`demo` and `models`, with a bundled model or without one."""

import json
from pathlib import Path

import pytest

from trasluz.cli.main import run
from trasluz.tasks import loading

Captured = pytest.CaptureFixture[str]


def test_the_demo_draws_translations_and_writes_page_and_picture(
    transformer_folder: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "bundled_models", lambda: {"pocket-en-es": Path(transformer_folder)})
    monkeypatch.chdir(tmp_path)
    assert run(["demo"]) == 0
    answer = capsys.readouterr()
    for word in ("She opened the old book and began to read.", "hermana", "cross attention"):
        assert word in answer.out
    page = (tmp_path / "demo/alignment.html").read_text(encoding="utf-8")
    assert "book" in page and "vestido" in page
    assert (tmp_path / "demo/alignment.png").read_bytes().startswith(b"\x89PNG")
    assert "demo/alignment.html" in answer.err and "demo/alignment.png" in answer.err


def test_a_copy_without_the_bundled_model_says_so(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "bundled_models", dict)
    assert run(["demo"]) == 2
    assert "the bundled model pocket-en-es is not part of this copy" in capsys.readouterr().err


def test_models_lists_presets_with_sizes_bundled_models_and_loadable_types(
    transformer_folder: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "bundled_models", lambda: {"pocket-en-es": Path(transformer_folder)})
    assert run(["models", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    presets = {row["name"]: row for row in rows if row["kind"] == "preset"}
    assert {
        "rnn-encdec",
        "rnnsearch",
        "transformer-tiny",
        "transformer-small",
        "transformer-base",
        "transformer-big",
    } <= set(presets)
    assert 60e6 < presets["transformer-base"]["parameters"] < 67e6
    assert [row["summary"] for row in rows if row["kind"] == "bundled"] == ["translate: en and es, either way"]
    assert "marian" in {row["name"] for row in rows if row["kind"] == "model_type"}
    assert run(["models"]) == 0
    shown = capsys.readouterr().out
    for row in rows:
        assert f"  {row['name']} " in shown
