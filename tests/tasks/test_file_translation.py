"""A translated file is its texts translated, in order; whenever it is killed, and whoever shares the work."""

import gzip
import json
import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.checkpoints.sentences import pairs
from tests.cli.conftest import make_model
from tests.training.small_run import in_child

import trasluz
from trasluz.errors import DataError, RequestError
from trasluz.tasks import file_translation
from trasluz.tasks.file_translation import Progress, Request, translate_file
from trasluz.tasks.translator import Translator
from trasluz.text.glossary import Glossary
from trasluz.text.parts import Part

PRESET = {"preset": "transformer-tiny", "num_layers": 2, "model_dim": 16, "num_heads": 2, "feed_forward_dim": 32}
REQUEST = Request(to="es", options={"beam": 1, "max_length": 3, "batch_tokens": 160})
KILLS = int(os.environ.get("TRASLUZ_KILLS", "3"))

SENTENCES = [english for english, _ in pairs(24, seed=4)]
# Empty lines, lines that differ in length, and no end behind the last.
CONTENT = "\n".join([*SENTENCES[:10], "", "a " * 60, "", *SENTENCES[10:], "", "the last"]).encode()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Translator:
    """An untrained model of strong words; it says nonsense, but always the same, and to each text another."""
    folder = make_model(
        tmp_path_factory.mktemp("models") / "small", {**PRESET, "max_positions": 80}, ("en", "es"), True
    )
    translator: Translator = trasluz.load(folder, device="cpu")
    with torch.no_grad():
        for parameter in translator.model.parameters():
            parameter.mul_(4)
    return translator


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window holds a few lines only, so that a short text has many."""
    monkeypatch.setattr(file_translation, "_BYTES_PER_TOKEN", 1)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.en"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(scope="module")
def wanted(small: Translator) -> str:
    """What the whole text is translated to."""
    lines = CONTENT.decode().split("\n")
    return "".join(f"{one.text}\n" for one in small(lines, REQUEST.to, **REQUEST.options))


def translate(
    small: Translator, text: Path, output: Path, request: Request = REQUEST, number: int = 1, count: int = 1
) -> Progress:
    """Translate to the end and return the last report."""
    *_, last = translate_file(small, "f00d", Part.of(str(text), number, count), output, request)
    return last


def test_lines_keep_their_order(small: Translator, text: Path, tmp_path: Path, wanted: str) -> None:
    reports = [
        replace(report) for report in translate_file(small, "f00d", Part.of(str(text)), tmp_path / "out", REQUEST)
    ]
    assert (tmp_path / "out").read_text(encoding="utf-8") == wanted
    assert len(reports) > 6
    assert [reports[0].lines, reports[-1].lines] == [0, wanted.count("\n")]
    assert reports[-1].position == len(CONTENT)
    assert len(set(wanted.splitlines())) > 10


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_parts_in_order_are_the_whole(small: Translator, text: Path, tmp_path: Path, wanted: str, count: int) -> None:
    text.with_suffix(".gz").write_bytes(gzip.compress(CONTENT))
    for path in (text, text.with_suffix(".gz")) if count < 7 else (text,):
        parts = []
        for number in range(1, count + 1):
            output = tmp_path / f"{path.suffix}-{number}"
            translate(small, path, output, number=number, count=count)
            parts.append(output.read_text(encoding="utf-8"))
        assert "".join(parts) == wanted
        assert count < 100 or "" in parts


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbfthe lamp\r\nlight", b"the lamp"])
def test_short_texts_and_odd_line_ends(small: Translator, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text").write_bytes(content)
    lines = content.decode("utf-8-sig").splitlines()
    last = translate(small, tmp_path / "text", tmp_path / "out")
    assert last.lines == len(lines)
    assert (tmp_path / "out").read_text(encoding="utf-8").splitlines() == [
        one.text for one in small(lines, REQUEST.to, **REQUEST.options)
    ]


def in_slow_steps(small: Translator, text: Path, output: Path, reports: int, delay: float) -> None:
    """Translate, and be killed a moment after so many reports."""
    for number, _ in enumerate(translate_file(small, "f00d", Part.of(str(text)), output, REQUEST), 1):
        if number == reports:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        if number >= reports:
            time.sleep(0.004)


def test_killed_at_random_moments(small: Translator, text: Path, tmp_path: Path, wanted: str) -> None:
    draw = random.Random(os.urandom(4).hex())
    kills = 0
    for _ in range(KILLS):
        output = tmp_path / f"out-{kills}"
        for attempt in range(3):
            # The first comes early enough that the timer surely ends before the work does.
            reports, delay = draw.randint(1, 6 if attempt else 3), draw.uniform(0.0, 0.01)
            status = in_child(lambda r=reports, d=delay, o=output: in_slow_steps(small, text, o, r, d))
            assert os.WIFSIGNALED(status) or output.exists()
            kills += os.WIFSIGNALED(status)
        last = translate(small, text, output)
        assert output.read_text(encoding="utf-8") == wanted
        assert last.lines == wanted.count("\n")
    assert kills >= KILLS


def test_what_is_done_is_not_done_again(
    small: Translator, text: Path, tmp_path: Path, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    begun = translate_file(small, "f00d", Part.of(str(text)), output, REQUEST)
    for _ in range(4):
        done = next(begun).lines
    begun.close()
    assert done > 0
    seen = []
    lengths = small.lengths

    def counted(texts: list[str], *given: Any, **named: Any) -> list[int]:
        seen.extend(texts)
        return lengths(texts, *given, **named)

    monkeypatch.setattr(small, "lengths", counted)
    # A batch may be of another size: that changes nothing of what is written.
    request = replace(REQUEST, options={**REQUEST.options, "batch_tokens": 90}, on_error="skip")
    translate(small, text, output, request)
    assert seen == CONTENT.decode().split("\n")[done:]
    assert output.read_text(encoding="utf-8") == wanted
    before = output.stat()
    last = translate(small, text, output, request)
    assert last.lines == wanted.count("\n") and len(seen) == last.lines - done
    assert output.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    ("another", "told"),
    [
        (replace(REQUEST, options={**REQUEST.options, "beam": 2}), r"\(beam was 1, now it is 2\)"),
        (replace(REQUEST, to="en"), r'from was "en", now it is "es"; to was "es", now it is "en"'),
        (replace(REQUEST, markup=True), r"\(markup was false, now it is true\)"),
        (replace(REQUEST, form="json"), r'\(form was "text", now it is "json"\)'),
        (replace(REQUEST, glossary=Glossary({"light": "luz"})), r"\(glossary was null, now it is \"[0-9a-f]{64}\"\)"),
    ],
)
def test_another_request_is_refused(small: Translator, text: Path, tmp_path: Path, another: Request, told: str) -> None:
    begun = translate_file(small, "f00d", Part.of(str(text)), tmp_path / "out", REQUEST)
    next(begun), next(begun)
    begun.close()
    with pytest.raises(RequestError, match=told):
        translate(small, text, tmp_path / "out", another)
    translate(small, text, tmp_path / "out")
    with pytest.raises(RequestError, match=told):
        translate(small, text, tmp_path / "out", another)


def test_another_model_and_another_part_are_refused(small: Translator, text: Path, tmp_path: Path) -> None:
    translate(small, text, tmp_path / "out", number=1, count=2)
    with pytest.raises(RequestError, match=r'model was "small f00d", now it is "small beef"'):
        list(translate_file(small, "beef", Part.of(str(text), 1, 2), tmp_path / "out", REQUEST))
    with pytest.raises(RequestError, match=r'part was "1/2", now it is "2/2"'):
        translate(small, text, tmp_path / "out", number=2, count=2)
    text.write_bytes(CONTENT + b" line")
    with pytest.raises(RequestError, match=r"size of the input was \d+, now it is \d+"):
        translate(small, text, tmp_path / "out", number=1, count=2)


def test_a_text_may_change_ahead_of_the_work_only(small: Translator, text: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    begun = translate_file(small, "f00d", Part.of(str(text)), output, REQUEST)
    next(begun), next(begun)
    begun.close()
    text.write_bytes(b"An" + CONTENT[2:])
    with pytest.raises(
        DataError, match=r"text\.en has changed since .*out\.partial was made of it: choose another out"
    ):
        translate(small, text, output)
    text.write_bytes(CONTENT + b" line\nand one more")
    assert translate(small, text, output).lines == CONTENT.count(b"\n") + 2
    text.write_bytes(CONTENT)
    with pytest.raises(DataError, match=r"text\.en has changed since .*out was made of it: .* or remove out to begin"):
        translate(small, text, output)
    text.write_bytes(CONTENT + b" line\nand one more\nand another")
    with pytest.raises(DataError, match=r"text\.en has changed since"):
        translate(small, text, output)


BAD = b"the lamp\n\xff\na\0b\n\nlight\n" + b"paper " * 100 + b"\nthe window\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_lines_that_cannot_be_used_stay_empty_and_are_counted(small: Translator, tmp_path: Path, form: Any) -> None:
    (tmp_path / "text").write_bytes(BAD)
    last = translate(small, tmp_path / "text", tmp_path / "out", replace(REQUEST, on_error="skip", form=form))
    lines = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    good = small(["the lamp", "", "light", "the window"], REQUEST.to, **REQUEST.options)
    texts = [good[0].text, "", "", "", good[2].text, "", good[3].text]
    too_long = "over 80 tokens, the most that small takes"
    assert last.skipped == {"invalid UTF-8": 1, "NUL character": 1, too_long: 1}
    assert last.examples == {"invalid UTF-8": [2], "NUL character": [3], too_long: [6]}
    if form == "text":
        assert lines == texts
        return
    objects = [json.loads(line) for line in lines]
    assert [one["text"] for one in objects] == texts
    assert objects[5] == {"text": "", "error": too_long}
    assert objects[0] == good[0].to_dict() | {
        name: pytest.approx(objects[0][name]) for name in ("score", "log_probability")
    }


def test_a_line_that_cannot_be_used_stops_with_its_place_and_all_goes_on_when_it_is_mended(
    small: Translator, tmp_path: Path
) -> None:
    text, output = tmp_path / "text", tmp_path / "out"
    many = ("\n".join(SENTENCES) + "\n").encode()
    text.write_bytes(many + BAD)
    with pytest.raises(DataError, match=r"text:26: invalid UTF-8\. Correct it, or set `on_error` to skip\.$"):
        translate(small, text, output)
    done = (tmp_path / "out.partial").read_bytes().count(b"\n")
    assert 0 < done < 26
    text.write_bytes(many + BAD.replace(b"\xff", b"good"))
    with pytest.raises(DataError, match=r"text:27: NUL character\. Correct it"):
        translate(small, text, output)
    text.write_bytes(many + BAD.replace(b"\xff", b"good").replace(b"\0", b" "))
    with pytest.raises(DataError, match=r"text:30: over 80 tokens, the most that small takes\. Correct it"):
        translate(small, text, output)
    assert translate(small, text, output, replace(REQUEST, on_error="skip")).skipped.keys() == {
        "over 80 tokens, the most that small takes"
    }
    # Lines are counted from the beginning of the file, whatever the part.
    with pytest.raises(DataError, match=r"text:30: over 80 tokens"):
        translate(small, text, tmp_path / "part", number=2, count=2)


def test_only_the_first_places_are_remembered(small: Translator, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"\xff\n" * 40)
    last = translate(small, tmp_path / "text", tmp_path / "out", replace(REQUEST, on_error="skip"))
    assert (last.skipped, last.examples) == ({"invalid UTF-8": 40}, {"invalid UTF-8": [1, 2, 3, 4, 5]})
    assert (tmp_path / "out").read_bytes() == b"\n" * 40


def test_wrong_orders_are_refused_before_anything_is_written(small: Translator, text: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"`on_error` is 'ignore'; it can be stop or skip\."):
        translate(small, text, tmp_path / "out", replace(REQUEST, on_error="ignore"))
    with pytest.raises(RequestError, match="say which, with `to`"):
        translate(small, text, tmp_path / "out", replace(REQUEST, to=None))
    assert list(tmp_path.iterdir()) == [text]


def test_glossary_and_markup_reach_the_translator(small: Translator, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("the <b>lamp</b>\n", encoding="utf-8")
    request = replace(REQUEST, glossary=Glossary({"lamp": "mesa"}), markup=True, options={"beam": 2, "max_length": 8})
    translate(small, tmp_path / "text", tmp_path / "out", request)
    line = (tmp_path / "out").read_text(encoding="utf-8")
    assert "mesa" in line and "<b>" in line and "</b>" in line


def test_memory_does_not_grow_with_the_file(small: Translator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_bytes(b"\n" * 6_000)
    longest = 0
    answers = file_translation._Work._answers

    def measured(work: Any, window: list[str]) -> list[str]:
        nonlocal longest
        longest = max(longest, len(window))
        return answers(work, window)

    monkeypatch.setattr(file_translation._Work, "_answers", measured)
    request = replace(REQUEST, options={**REQUEST.options, "batch_tokens": 1024})
    assert translate(small, tmp_path / "text", tmp_path / "out", request).lines == 6_000
    assert longest == 1024
