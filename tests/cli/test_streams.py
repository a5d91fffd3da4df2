"""Texts arrive in order and in groups, from arguments, pipes and terminals."""

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from trasluz.cli.streams import MOST_TOGETHER, answer, answer_json, input_texts
from trasluz.errors import DataError


def stdin_of(content: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(content))


def read_all(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[str]:
    monkeypatch.setattr(sys, "stdin", stdin_of(content))
    return [text for group in input_texts([]) for text in group]


def test_an_answer_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = "a\nb\rc\vd\fe\x1cf\x1dg\x1eh\x85i\u2028j\u2029k"
    answer(text)
    assert capsys.readouterr().out == "a b c d e f g h i j k\n"
    answer_json({"text": text})
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"text": text}


def test_arguments_are_one_group() -> None:
    assert list(input_texts(["one", "two"])) == [["one", "two"]]


def test_lines_of_a_pipe_come_in_order_empty_ones_included(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_all(monkeypatch, "uno\n\ndos, señor\n\n".encode()) == ["uno", "", "dos, señor", ""]


def test_windows_line_ends_byte_order_mark_and_a_missing_last_line_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_all(monkeypatch, b"\xef\xbb\xbfone\r\n\r\ntwo") == ["one", "", "two"]


def test_only_a_line_feed_ends_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = "one\u2028still one\x85still\x0cone\n"
    assert read_all(monkeypatch, odd.encode()) == [odd[:-1]]


def test_no_group_is_larger_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"line {number}" for number in range(3 * MOST_TOGETHER + 5)]
    monkeypatch.setattr(sys, "stdin", stdin_of("\n".join(lines).encode()))
    groups = list(input_texts([]))
    assert [text for group in groups for text in group] == lines
    assert max(len(group) for group in groups) <= MOST_TOGETHER


def test_bytes_that_are_no_text_are_refused_with_their_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"standard input:2: byte 3 of the line is not UTF-8; convert it first\."):
        read_all(monkeypatch, b"one\ntw\xff\nthree\n")


def test_a_slow_writer_is_answered_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    receiving, sending = os.pipe()
    with os.fdopen(receiving) as stdin, os.fdopen(sending, "wb", buffering=0) as writer:
        monkeypatch.setattr(sys, "stdin", stdin)
        groups = input_texts([])
        writer.write(b"first\n")
        assert next(groups) == ["first"]
        writer.write(b"second\n")
        assert next(groups) == ["second"]
        threading.Timer(0.05, writer.close).start()
        assert list(groups) == []


def test_a_terminal_is_prompted_until_ctrl_d(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed: Iterator[str] = iter(["one", ""])

    def answer_prompt(prompt: str = "") -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    terminal = stdin_of(b"")
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr("builtins.input", answer_prompt)
    assert list(input_texts([], prompt="en> ")) == [["one"], [""]]
    answer = capsys.readouterr()
    assert answer.out == ""  # the answers may go to a file: prompts do not belong into it
    assert answer.err.startswith("en> en> ")


def test_an_argument_that_is_no_text_is_refused() -> None:
    with pytest.raises(DataError, match=r"text:2: the text is not UTF-8; convert it first\."):
        list(input_texts(["one", os.fsdecode(b"caf\xe9")]))


def test_whoever_leaves_while_the_pipe_is_open_leaves_with_his_own_code() -> None:
    command = [sys.executable, "-m", "trasluz", "fill-mask", "pocket-bert", "--threads", "1"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(b"no gap here\n")
    process.stdin.flush()
    told = process.stderr.read().decode()
    assert process.wait(timeout=60) == 2
    assert "standard input:1: " in told and "Fatal" not in told
    process.stdin.close()
