import gzip
import lzma

import pytest

from trasluz.errors import DataError
from trasluz.text.lines import INVALID_UTF8, LINE_LIMIT, NUL, TOO_LONG, Fault, read_lines


def lines_of(tmp_path, content, name="text.txt"):
    path = tmp_path / name
    path.write_bytes(content)
    return list(read_lines(str(path)))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"\n\n", ["", ""]),
        (b"\xef\xbb\xbfone\n", ["one"]),
        (b"\xef\xbb\xbf", []),
        (b"one\r\rtwo\n", ["one\r\rtwo"]),
        # Only LF ends a line: other separators are part of the text.
        ("one\u2028two\x0bthree\x85\n".encode(), ["one\u2028two\x0bthree\x85"]),
        ("¿qué? 日本 שלום 👍🏽\n".encode(), ["¿qué? 日本 שלום 👍🏽"]),
        (b"a\0b\nc\n", [NUL, "c"]),
        (b"\xff\nc\n", [INVALID_UTF8, "c"]),
        (b"caf\xe9\nc\n", [INVALID_UTF8, "c"]),
        # Half of a surrogate pair is no UTF-8 either.
        (b"\xed\xa0\x80\nc", [INVALID_UTF8, "c"]),
    ],
)
def test_lines_and_faults(tmp_path, content, expected):
    found = lines_of(tmp_path, content)
    assert found == expected
    assert [isinstance(line, Fault) for line in found] == [isinstance(line, Fault) for line in expected]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_of_the_limit_is_read_and_one_beyond_is_a_fault(tmp_path, end):
    content = b"a" * LINE_LIMIT + end + b"b" * (LINE_LIMIT + 1) + end + b"c" * (3 * LINE_LIMIT) + end + b"d"
    found = lines_of(tmp_path, content)
    assert found == ["a" * LINE_LIMIT, TOO_LONG, TOO_LONG, "d"]


def test_a_line_of_the_limit_may_end_the_file(tmp_path):
    assert lines_of(tmp_path, b"a" * LINE_LIMIT) == ["a" * LINE_LIMIT]
    assert lines_of(tmp_path, b"a" * (LINE_LIMIT + 2)) == [TOO_LONG]


def test_compressed_files_open_by_their_ending(tmp_path):
    assert lines_of(tmp_path, gzip.compress(b"one\ntwo\n"), "a.gz") == ["one", "two"]
    assert lines_of(tmp_path, lzma.compress(b"one\ntwo\n"), "a.XZ") == ["one", "two"]


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_a_damaged_archive_is_named(tmp_path, compress):
    name = "a.gz" if compress is gzip.compress else "a.xz"
    whole = compress(b"".join(b"line %d\n" % number for number in range(10_000)))
    with pytest.raises(DataError, match=rf"{name} cannot be read: "):
        lines_of(tmp_path, whole[: len(whole) // 2], name)
    with pytest.raises(DataError, match=rf"{name} cannot be read: "):
        lines_of(tmp_path, b"no archive at all", name)


def test_other_encodings_and_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"text\.txt is UTF-16; a UTF-8 file was expected\.$"):
        lines_of(tmp_path, "uno\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"^there is no file .*gone\.txt\.$"):
        list(read_lines(str(tmp_path / "gone.txt")))
    with pytest.raises(DataError, match=r"cannot be read: Is a directory\.$"):
        list(read_lines(str(tmp_path)))
