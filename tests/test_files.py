"""Files are written whole or not at all."""

import os
import stat
import sys
from pathlib import Path

import pytest

from trasluz.errors import WriteError
from trasluz.files import atomic_folder, atomic_write, lock


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path, "w") as file:
        file.write("luz")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "luz"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    for text in ("one", "two"):
        with atomic_folder(path) as folder:
            (folder / "part").write_text(text, encoding="utf-8")
    assert (path / "part").read_text(encoding="utf-8") == "two"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ZeroDivisionError), atomic_folder(path) as folder:
        (folder / "part").write_text("three", encoding="utf-8")
        raise ZeroDivisionError
    assert (path / "part").read_text(encoding="utf-8") == "two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_refused_write_names_path_and_cause(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"")
    with (
        pytest.raises(WriteError, match=r"cannot write .*/file/model: .*Not a directory|File exists"),
        atomic_write(in_the_way / "model"),
    ):
        pass
    with pytest.raises(WriteError, match=r"cannot write .*/file/model"), atomic_folder(in_the_way / "model"):
        pass


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    path = tmp_path / "file"
    with (
        pytest.raises(WriteError, match=r"cannot write .*/file: No space left on device\. Free some space"),
        atomic_write(path),
    ):
        with open("/dev/full", "wb") as full:
            full.write(b"x")
            full.flush()
    assert not list(tmp_path.iterdir())


def test_a_lock_is_held_by_one_open_file_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("a") as one, path.open("a") as other:
        assert lock(one)
        assert not lock(other)
    with path.open("a") as again:
        assert lock(again)


def test_where_nothing_can_be_locked_nothing_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (tmp_path / "file").open("a") as file:
        assert lock(file)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with (tmp_path / "file").open("a") as file:
        assert lock(file)


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(path, "w") as file:
        file.write("luz")
    assert os.read(reader, 10) == b"luz"
    assert path.is_fifo()
    os.close(reader)


@pytest.mark.parametrize("follows", [False, True])
def test_a_link_is_replaced_or_followed(tmp_path: Path, follows: bool) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    with atomic_write(link, "w", follow_links=follows) as file:
        file.write("new")
    assert link.read_text() == "new"
    assert (real.read_text(), link.is_symlink()) == (("new", True) if follows else ("old", False))
