"""A question that fails wholly is told of in its place, and in the exit code."""

import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import alternate
import pytest
import write_tables

OPTIONS = Namespace(questions=list(write_tables.QUESTIONS), minutes=1, seed=1, quick=True, threads=1)


def failed(question: str) -> dict[str, Any]:
    return {"question": question, "failed": "Its last words: `no model`", "command": f"python benchmarks/{question}.py"}


def test_the_page_says_what_failed_and_why() -> None:
    page = write_tables.page([failed("encoder_speed"), failed("decoding_speed")])
    assert "## Reading with an encoder\n\n**Nothing was measured.** Its last words: `no model`" in page
    assert "```sh\npython benchmarks/decoding_speed.py\n```" in page


def test_a_question_that_ends_badly_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_tables, "HERE", tmp_path)
    (tmp_path / "encoder_speed.py").write_text("import sys\nprint('getting on', file=sys.stderr)\nsys.exit('no model')")
    report = write_tables.ask("encoder_speed", OPTIONS, tmp_path)
    assert "exit code 1" in report["failed"] and "`no model`" in report["failed"]
    assert report["command"].startswith("python benchmarks/encoder_speed.py --minutes")
    assert str(tmp_path) not in report["command"]


@pytest.mark.parametrize(("bad", "code", "written"), [(0, 0, True), (1, 1, True), (2, 1, False)])
def test_the_exit_code_counts_questions_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int, code: int, written: bool
) -> None:
    questions = ["encoder_speed", "decoding_speed"]
    reports = [failed(name) if number < bad else {"question": name} for number, name in enumerate(questions)]
    for name, report in zip(questions, reports, strict=True):
        (tmp_path / name).write_text(json.dumps(report))
    monkeypatch.setattr(write_tables, "page", lambda found: f"{len(found)} questions")
    out, tables = tmp_path / "page.md", [str(tmp_path / name) for name in questions]
    monkeypatch.setattr(sys, "argv", ["write_tables.py", "--out", str(out), "--tables", *tables])
    assert write_tables.main() == code
    assert out.exists() == written


@pytest.mark.parametrize("found", [{"replies": {}}, {"replies": {"greedy, 1": {"limits": [{}], "ours": []}}}])
def test_a_question_nobody_could_be_measured_in_has_failed(found: dict[str, Any]) -> None:
    ours = alternate.Contender("ours", "encoder_speed.py", {})
    with pytest.raises(SystemExit, match="nobody could be measured: ours: out of memory"):
        alternate.report_of("encoder_speed.py", OPTIONS, [ours], ["ours: out of memory"], **found)
