import errno
import json
import subprocess
import sys

import numpy as np
import pytest

from trasluz.errors import DataError, WriteError
from trasluz.text.token_cache import TokenCache

ROWS = [([4, 5, 6], [7]), ([], [8, 9]), ([10], [])]


def contents(cache):
    return [tuple(column.tolist() for column in row) for row in cache]


def test_rows_come_back_as_they_went_in(tmp_path):
    cache = TokenCache.build(tmp_path / "tokens", iter(ROWS), fingerprint="abc")
    assert len(cache) == 3
    assert contents(cache) == ROWS
    assert contents(TokenCache.open(tmp_path / "tokens")) == ROWS
    assert cache[-1][0].tolist() == [10]
    assert cache.fingerprint == "abc"
    assert cache.names == ("source", "target")


def test_lengths_and_counts_are_known_without_reading_ids(tmp_path):
    cache = TokenCache.build(tmp_path / "tokens", ROWS, fingerprint="abc")
    assert cache.lengths("source").tolist() == [3, 0, 1]
    assert cache.lengths("target").dtype == np.int32
    assert cache.num_ids("target") == 3


def test_an_index_beyond_the_end_is_refused(tmp_path):
    cache = TokenCache.build(tmp_path / "tokens", ROWS, fingerprint="abc")
    with pytest.raises(IndexError):
        cache[3]


def test_no_rows_make_an_empty_cache(tmp_path):
    cache = TokenCache.build(tmp_path / "tokens", [], fingerprint="abc")
    assert len(cache) == 0
    assert cache.lengths("source").tolist() == []


def test_any_number_of_columns(tmp_path):
    rows = [([1], [2], [0, 100_000])]
    cache = TokenCache.build(tmp_path / "tokens", rows, fingerprint="abc", names=("source", "target", "place"))
    assert contents(cache) == rows
    assert [column.dtype.itemsize for column in cache[0]] == [2, 2, 4]


def test_ids_take_two_bytes_until_one_needs_four(tmp_path, monkeypatch):
    monkeypatch.setattr("trasluz.text.token_cache._BUFFERED_ROWS", 2)
    rows = [([65_535], [1]), ([2], [3]), ([65_536], [4]), ([5], [6])]
    cache = TokenCache.build(tmp_path / "tokens", rows, fingerprint="abc")
    assert contents(cache) == rows
    assert cache[0][0].dtype.itemsize == 4
    assert cache[0][1].dtype.itemsize == 2
    assert not list((tmp_path / "tokens").glob("*.wide"))


def test_arrays_are_stored_as_lists_are(tmp_path, monkeypatch):
    monkeypatch.setattr("trasluz.text.token_cache._BUFFERED_ROWS", 2)
    rows = [([65_535], [1]), ([], [3]), ([65_536], [])]
    arrays = [(np.array(a, dtype=np.uint32), np.array(b, dtype=np.uint16)) for a, b in rows]
    cache = TokenCache.build(tmp_path / "tokens", arrays, fingerprint="abc")
    assert contents(cache) == rows
    assert [column.dtype.itemsize for column in cache[0]] == [4, 2]


def test_letting_pages_go_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("trasluz.text.token_cache._LOOKS", 3)
    rows = [([number] * (number % 7), [number]) for number in range(500)]
    cache = TokenCache.build(tmp_path / "tokens", rows, fingerprint="abc")
    first = cache[3][0]
    assert contents(cache) == rows
    assert first.tolist() == [3, 3, 3]


def test_a_build_that_fails_leaves_nothing_and_spoils_nothing(tmp_path):
    def rows():
        yield [1], [2]
        raise DataError("corpus.en:2: invalid UTF-8")

    with pytest.raises(DataError, match=r"^corpus\.en:2: invalid UTF-8$"):
        TokenCache.build(tmp_path / "tokens", rows(), fingerprint="abc")
    assert list(tmp_path.iterdir()) == []
    TokenCache.build(tmp_path / "tokens", ROWS, fingerprint="old")
    with pytest.raises(DataError):
        TokenCache.build(tmp_path / "tokens", rows(), fingerprint="new")
    assert TokenCache.open(tmp_path / "tokens").fingerprint == "old"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match=r"^cannot write .*tokens"):
        TokenCache.build(tmp_path / "file" / "tokens", ROWS, fingerprint="abc")


def test_what_is_no_whole_cache_is_refused_with_advice(tmp_path):
    folder = tmp_path / "tokens"
    with pytest.raises(DataError, match=r"tokens\.json is missing, so that .*tokens is no token cache\.$"):
        TokenCache.open(folder)
    TokenCache.build(folder, ROWS, fingerprint="abc")
    ids = folder / "source.ids"
    whole = ids.read_bytes()
    ids.write_bytes(whole[:-2])
    with pytest.raises(DataError, match=r"source\.ids has 6 bytes where 8 were expected: delete the folder"):
        TokenCache.open(folder)
    ids.unlink()
    with pytest.raises(DataError, match=r"source\.ids is missing, so that"):
        TokenCache.open(folder)
    ids.write_bytes(whole)
    description = json.loads((folder / "tokens.json").read_text())
    (folder / "tokens.json").write_text(json.dumps({**description, "format": 99}))
    with pytest.raises(DataError, match=r"tokens\.json has format 99; 1 was expected: delete the folder"):
        TokenCache.open(folder)
    (folder / "tokens.json").write_text('{"format": 1')
    with pytest.raises(DataError, match=r"tokens\.json cannot be read \(.*\): delete the folder"):
        TokenCache.open(folder)
    (folder / "tokens.json").write_text('{"format": 1}')
    with pytest.raises(DataError, match=r"tokens\.json cannot be read \('fingerprint'\)"):
        TokenCache.open(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's peak memory from the system")
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    measure = """
import resource, sys
from pathlib import Path
from trasluz.text.token_cache import TokenCache
def peak(): return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024
row = (list(range(200)), list(range(200)))
TokenCache.build(Path(sys.argv[1]) / "small", (row for _ in range(20_000)), "x")
before = peak()
cache = TokenCache.build(Path(sys.argv[1]) / "large", (row for _ in range(100_000)), "x")
for index in range(0, len(cache), 7):
    cache[index * 31 % len(cache)]
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", measure, str(tmp_path)], capture_output=True, text=True, check=True)
    # The larger one has 80 MB of ids.
    assert float(done.stdout) < 30


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def write(self, sequences):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trasluz.text.token_cache._ColumnWriter.write", write)
    with pytest.raises(WriteError, match=r"^cannot write .*tokens: No space left on device"):
        TokenCache.build(tmp_path / "tokens", ROWS, fingerprint="abc")
    assert list(tmp_path.iterdir()) == []


def test_ids_are_found_by_their_place_in_the_whole_column(tmp_path):
    cache = TokenCache.build(tmp_path / "tokens", ROWS, fingerprint="abc")
    assert cache.ids_at("source", np.array([[0, 3], [2, 1]])).tolist() == [[4, 10], [6, 5]]
    assert [cache.row_of("source", place) for place in range(4)] == [0, 0, 0, 2]


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_rows_that_begin_with_an_id(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr("trasluz.text.token_cache._BUFFERED_IDS", at_once)
    rows = [*ROWS, ([9, 4], [4]), ([4], []), ([], [])]
    cache = TokenCache.build(tmp_path / "tokens", rows, fingerprint="abc")
    for column, name in enumerate(cache.names):
        for token in (4, 8, 11):
            expected = [row[column][:1] == [token] for row in rows]
            assert cache.begins_with(name, token).tolist() == expected
