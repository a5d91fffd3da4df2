"""Contenders take turns in processes of their own; one that cannot be started is named, and the others go on."""

from pathlib import Path

import alternate
import pytest
from alternate import Contender, Contest, without_kernels

from trasluz.layers.kernels import load_kernels

# The settings are the amount of a turn.
WORKER = """
import sys
sys.path.insert(0, {folder!r})
from alternate import serve
serve(lambda settings: lambda request: {{"amount": settings["amount"], "seconds": 1.0}})
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(alternate, "_PAUSE", 0.0)
    path = tmp_path / "worker.py"
    path.write_text(WORKER.format(folder=str(Path(alternate.__file__).parent)))
    return str(path)


def test_whom_a_request_does_not_fit_waits(script: str) -> None:
    with Contest([Contender(str(amount), script, {"amount": amount}) for amount in (1, 2)]) as contest:
        alone = contest.rounds({}, 0, 2, left_out={"2"})
        both = contest.rounds({}, 0, 2)
    assert {name: len(found) for name, found in alone.items()} == {"1": 2}
    assert {name: [reply["amount"] for reply in found] for name, found in both.items()} == {"1": [1, 1], "2": [2, 2]}
    assert contest.notes == []


def test_nobody_left_to_ask_is_no_endless_round(script: str) -> None:
    with Contest([Contender("1", script, {"amount": 1})]) as contest:
        assert contest.rounds({}, 1, 2, left_out={"1"}) == {}


def test_a_peer_without_its_environment_says_how_to_get_it(script: str, tmp_path: Path) -> None:
    peer = Contender("peer", script, {"amount": 1}, python=str(tmp_path / "bin/python"), made_by="`make peer` makes it")
    with Contest([peer, Contender("1", script, {"amount": 1})]) as contest:
        assert list(contest.rounds({}, 0, 1)) == ["1"]
        assert contest.notes == ["peer: its environment is not there; `make peer` makes it"]
    assert "peer" not in alternate.versions([peer])


def test_who_gives_memory_back_warms_up_before_each_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alternate, "_PAUSE", 0.0)
    script = tmp_path / "worker.py"
    # Above many pieces that are free lies one that is not, so that glibc keeps them until it is asked.
    turn = """
asked, held, kept = [], [], []
def turn(request):
    asked.append(request["updates"])
    held.append(int(open("/proc/self/statm").read().split()[1]) * 4096)
    pieces = [bytes(1000) for _ in range(100_000)]
    kept.append(bytes(1000))
    return {"amount": 1, "seconds": 1.0, "asked": list(asked), "held": list(held)}
"""
    folder = str(Path(alternate.__file__).parent)
    beginning = f"import sys\nsys.path.insert(0, {folder!r})\nfrom alternate import serve\n"
    script.write_text(f"{beginning}{turn}serve(lambda settings: turn)\n")
    with Contest([Contender("1", str(script), {})], warm_up={"updates": 1}) as contest:
        (replies,) = contest.rounds({"updates": 4}, 0, 2).values()
    assert [reply["asked"] for reply in replies] == [[1, 4, 1, 4], [1, 4, 1, 4, 1, 4]]
    before_warm_up, before_turn = replies[-1]["held"][2::2], replies[-1]["held"][3::2]
    assert all(turn - warm_up > 60e6 for warm_up, turn in zip(before_warm_up, before_turn, strict=True))


def test_trasluz_without_compiled_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alternate, "_PAUSE", 0.0)
    script = tmp_path / "worker.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(alternate.__file__).parent)!r})\n"
        "from alternate import serve\n"
        "def prepare(settings):\n"
        "    from trasluz.layers.kernels import load_kernels\n"
        '    return lambda request: {"amount": int(load_kernels() is not None), "seconds": 1.0}\n'
        "serve(prepare)\n"
    )
    ours = Contender("trasluz, fp32", str(script), {}, packages=("trasluz",))
    with Contest([ours, without_kernels(ours)]) as contest:
        found = contest.rounds({}, 0, 1)
    assert contest.notes == []
    assert found["trasluz without compiled kernels, fp32"][0]["amount"] == 0
    assert found["trasluz, fp32"][0]["amount"] == int(load_kernels() is not None)
