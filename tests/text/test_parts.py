"""The parts of a file are the file, however many there are and wherever its lines end."""

import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trasluz.errors import DataError
from trasluz.text.lines import INVALID_UTF8, LINE_LIMIT, NUL, TOO_LONG, Fault, read_lines
from trasluz.text.parts import Part

CONTENTS = {
    "usual": "the lamp\nuna lámpara\nlight\n".encode(),
    "no end": b"the lamp\nlight",
    "Windows": b"the lamp\r\n\r\nlight\r\n",
    "empty lines": b"\n\n\na\n\n",
    "nothing": b"",
    "one line": b"only this one, which is longer than any part of it\n",
    "mark": b"\xef\xbb\xbfthe lamp\nlight\n",
    "mark alone": b"\xef\xbb\xbf",
    "faults": b"good\n\xff\na\0b\ngood\n",
}
ENDINGS: dict[str, Callable[[bytes], bytes]] = {".txt": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def lines_of_parts(path: str, count: int) -> list[str | Fault]:
    return [text for number in range(1, count + 1) for text, _ in Part.of(path, number, count).lines()]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", CONTENTS)
def test_all_parts_in_order_are_the_file(tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"text{ending}"
    path.write_bytes(ENDINGS[ending](CONTENTS[name]))
    for count in (1, 2, 3, 7, 100):
        assert lines_of_parts(str(path), count) == list(read_lines(str(path)))


@settings(max_examples=60)
@given(content=st.text("a\r\n", max_size=12), count=st.integers(1, 15))
def test_wherever_lines_end(tmp_path_factory: pytest.TempPathFactory, content: str, count: int) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(content.encode())
    assert lines_of_parts(str(path), count) == list(read_lines(str(path)))


@pytest.mark.parametrize("ending", ENDINGS)
def test_places_are_true(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"text{ending}"
    content = b"".join(b"line %d\n" % number for number in range(1000))
    path.write_bytes(ENDINGS[ending](content))
    before = 0
    for number in range(1, 8):
        part = Part.of(str(path), number, 7)
        assert (part.size, part.lines_before()) == (len(content), before)
        for text, position in part.lines():
            assert text == f"line {before}"
            before += 1
            assert content[:position].count(b"\n") == before and content[position - 1 : position] == b"\n"
    assert before == 1000


def test_what_stands_before_a_part_of_a_plain_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        # 64 GB of nothing, which take no room on the disk and a minute to read.
        file.truncate(1 << 36)
        file.seek(0, os.SEEK_END)
        file.write(b"\nthe lamp\nlight\n")
    part = Part(str(path), size=(1 << 36) + 16, begin=(1 << 36) + 1, end=(1 << 36) + 16)
    assert [text for text, _ in part.lines()] == ["the lamp", "light"]
    assert Part.of(str(path), 2, 3).begin == ((1 << 36) + 16) // 3


def test_a_line_that_is_too_long_is_one_fault_of_one_part(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xff\n" + b"a" * (3 * LINE_LIMIT) + b"\nc\0\nd\n")
    for count in (1, 2, 5):
        assert lines_of_parts(str(path), count) == [INVALID_UTF8, TOO_LONG, NUL, "d"]


def test_what_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"pipe is no regular file, which could be read in parts; pipe it to standard"):
        Part.of(str(tmp_path / "pipe"))
    with pytest.raises(DataError, match=r"^there is no file .*gone\.txt\.$"):
        Part.of(str(tmp_path / "gone.txt"))
    with pytest.raises(DataError, match=r"cannot be read: Is a directory\.$"):
        Part.of(str(tmp_path))
    (tmp_path / "text.txt").write_bytes("uno\ndos\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"text\.txt is UTF-16; a UTF-8 file was expected\.$"):
        Part.of(str(tmp_path / "text.txt"), 2, 2)
