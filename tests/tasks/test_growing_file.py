"""A growing file loses no piece that counts, whenever it is killed, and is gone on with by its own command only."""

import errno
import json
import os
from pathlib import Path

import pytest
from tests.training.small_run import in_child, kill_at_call

from trasluz.errors import RequestError, WriteError
from trasluz.tasks.growing_file import grow

PIECES = [b"one\n", b"two\n\n", b"", b"three\n"]
MADE_OF = {"beam": 4, "to": "es", "sizes": (1, 2)}


def write(path: Path, pieces: list[bytes] = PIECES) -> None:
    """Add the pieces that are still missing."""
    with grow(path, MADE_OF) as file:
        if not file.complete:
            for number in range(file.memory.get("pieces", 0), len(pieces)):
                file.append(pieces[number], {"pieces": number + 1})
            file.finish()


def begin(path: Path) -> None:
    """Write two pieces and leave."""
    with grow(path, MADE_OF) as file:
        for number in range(2):
            file.append(PIECES[number], {"pieces": number + 1})


def test_it_has_its_name_when_it_is_complete_and_its_state_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.es"
    begin(path)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["out.es.partial", "out.es.state.json"]
    write(path)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["out.es", "out.es.state.json"]
    assert path.read_bytes() == b"".join(PIECES)
    state = json.loads((path.parent / "out.es.state.json").read_text(encoding="utf-8"))
    assert state["made_of"] == {"beam": 4, "to": "es", "sizes": [1, 2]}
    assert (state["bytes"], state["memory"]) == (path.stat().st_size, {"pieces": 4})
    with grow(path, MADE_OF) as file:
        assert file.complete and file.memory == {"pieces": 4}


def test_a_piece_that_was_cut_short_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "out.es"
    begin(path)
    with (tmp_path / "out.es.partial").open("ab") as file:
        file.write(b"thr")
    write(path)
    assert path.read_bytes() == b"".join(PIECES)


def test_killed_before_every_call_that_changes_the_disk(tmp_path: Path) -> None:
    lives = 0
    for call in range(1, 100):
        path = tmp_path / str(call) / "out.es"

        def live(call: int = call, path: Path = path) -> None:
            kill_at_call(call)
            write(path)

        killed = os.WIFSIGNALED(in_child(live))
        lives += killed
        write(path)
        assert path.read_bytes() == b"".join(PIECES)
        assert {entry.name for entry in path.parent.iterdir()} >= {"out.es", "out.es.state.json"}
        if not killed:
            break
    assert lives > 10


def test_nobody_else_writes_it_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "out.es"
    refusal = r"out\.es is being written by another process: wait for it, or give each process a part of its own with"
    with grow(path, MADE_OF) as file:
        file.append(PIECES[0], {"pieces": 1})
        with pytest.raises(RequestError, match=refusal), grow(path, MADE_OF):
            pass
        file.append(PIECES[1], {"pieces": 2})
    write(path)
    assert path.read_bytes() == b"".join(PIECES)


def test_what_was_begun_by_another_command_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.es"
    begin(path)
    refusal = (
        r"out\.es\.partial was begun by another command \(beam was 4, now it is 5; to was \"es\", now it is null\): "
        r"repeat that one, choose another output, or remove out\.es\.partial to begin anew\."
    )
    with pytest.raises(RequestError, match=refusal), grow(path, {"beam": 5, "sizes": [1, 2]}):
        pass
    write(path)
    with (
        pytest.raises(RequestError, match=r"out\.es was begun by another command \(to was \"es\", now it is \"en\"\)"),
        grow(path, MADE_OF | {"to": "en"}),
    ):
        pass
    assert path.read_bytes() == b"".join(PIECES)
    # Whoever removes the file begins anew, whatever its state said.
    path.unlink()
    with grow(path, {"beam": 5}) as file:
        assert not file.complete and not file.memory


@pytest.mark.parametrize("name", ["out.es", "out.es.partial"])
def test_a_file_of_somebody_else_is_never_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"a poem\n")
    refusal = r"is there already, and no out\.es\.state\.json tells what it was made of: remove it, or choose another"
    with pytest.raises(RequestError, match=refusal), grow(tmp_path / "out.es", MADE_OF):
        pass
    (tmp_path / "out.es.state.json").write_text('{"size": 3}')
    refusal = r"state\.json is nothing that this version of trasluz has written: remove it and out\.es"
    with pytest.raises(RequestError, match=refusal), grow(tmp_path / "out.es", MADE_OF):
        pass
    (tmp_path / "out.es.state.json").write_text('{"format": 99, "made_of": {}, "bytes": 1, "memory": {}}')
    with pytest.raises(RequestError, match=refusal), grow(tmp_path / "out.es", MADE_OF):
        pass
    assert (tmp_path / name).read_bytes() == b"a poem\n"


def test_a_partial_file_that_was_shortened_is_refused(tmp_path: Path) -> None:
    begin(tmp_path / "out.es")
    (tmp_path / "out.es.partial").write_bytes(b"on")
    refusal = (
        r"out\.es\.partial has 2 bytes, but out\.es\.state\.json counts 9: it was changed\. Remove it to begin anew"
    )
    with pytest.raises(RequestError, match=refusal), grow(tmp_path / "out.es", MADE_OF):
        pass


def test_a_piece_for_which_there_is_no_room_is_cut_off_again(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "out.es"
    begin(path)

    def live() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with (
            pytest.raises(WriteError, match=r"cannot write .*out\.es\.partial: File too large"),
            grow(path, MADE_OF) as file,
        ):
            file.append(b"long" * 1000, {"pieces": 3})

    assert in_child(live) == 0
    assert (tmp_path / "out.es.partial").stat().st_size == 1000
    write(path)
    assert path.read_bytes() == b"".join(PIECES)


def test_a_disk_that_refuses_is_said_and_costs_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "out.es"
    with (
        pytest.raises(WriteError, match=r"cannot write .*out\.es\.partial: No space left"),
        grow(path, MADE_OF) as file,
    ):
        file.append(PIECES[0], {"pieces": 1})
        monkeypatch.setattr(os, "fsync", full)
        file.append(PIECES[1], {"pieces": 2})
    monkeypatch.undo()
    with pytest.raises(WriteError, match=r"cannot write .*out\.es: No space left"), grow(path, MADE_OF) as file:
        assert file.memory == {"pieces": 1}
        monkeypatch.setattr(os, "replace", full)
        file.finish()
    monkeypatch.undo()
    write(path)
    assert path.read_bytes() == b"".join(PIECES)
    with (
        pytest.raises(WriteError, match=r"cannot write .*out\.es/out: (Not a directory|File exists)"),
        grow(path / "out", MADE_OF),
    ):
        pass
