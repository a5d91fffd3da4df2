"""Programs measured side by side: each in a process of its own, in short turns, one after the other, round after round.

A shared machine is fast at one moment and slow at the next. All contenders of a round meet the same moment, so what is
believed is the ratio inside a round; every figure is a median over rounds, with the lowest and the highest beside it.
While one measures the others wait for their turn. The talk between driver and worker is one line of JSON each way:

    driver   {"updates": 4}                                             ->  worker
    driver   <-  {"amount": 14210, "seconds": 3.1, "peak_mb": 812.4}        worker

A worker that fails is named with the first line of its error, and the others go on.
"""

import argparse
import contextlib
import ctypes
import datetime
import json
import os
import select
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TextIO

HERE = Path(__file__).resolve().parent

# After a turn threads go on spinning for a fifth of a second, hoping for more.
_PAUSE = 0.3
# A turn takes seconds, getting ready at most some minutes; later than this it hangs.
_PATIENCE = 900.0

# glibc gives large buffers back at every step and faults them in again, unless it is told not to before the start.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}

Reply = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """One program at one setting; what is not `ours` is a peer, and a peer that does other work is not `compared`.

    A peer that needs other versions than ours has a `python` of its own, which `made_by` says how to get.
    """

    name: str
    script: str
    settings: Mapping[str, Any]
    precision: str = "fp32"
    packages: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    compared: bool = True
    python: str = sys.executable
    made_by: str = ""

    @property
    def ours(self) -> bool:
        """Tell whether this is trasluz."""
        return "trasluz" in self.packages


def without_kernels(contender: Contender) -> Contender:
    """Return trasluz as it is on a machine where nothing compiled its kernels."""
    name, _, precision = contender.name.rpartition(", ")
    settings = {**contender.settings, "without_kernels": True}
    return replace(contender, name=f"{name} without compiled kernels, {precision}", settings=settings)


class WorkerFailed(Exception):
    """A contender cannot go on."""


class Worker:
    """A contender's process."""

    def __init__(self, contender: Contender) -> None:
        """Start it; its first answer says that it can take a turn."""
        if not Path(contender.python).exists():
            raise WorkerFailed(f"its environment is not there; {contender.made_by}")
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen(
            [contender.python, str(HERE / contender.script), "--serve", json.dumps(contender.settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **contender.environment},
            # Ctrl-C is the driver's alone: it then ends its workers.
            start_new_session=True,
        )

    def ask(self, request: Mapping[str, Any]) -> Reply:
        """Give it a turn."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(self._last_words()) from None
        return self.answer()

    def answer(self) -> Reply:
        """Wait for its line."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], _PATIENCE)[0]:
            raise WorkerFailed(f"no answer within {_PATIENCE:.0f} seconds")
        line = self.process.stdout.readline()
        if not line:
            raise WorkerFailed(self._last_words())
        reply: Reply = json.loads(line)
        if "error" in reply:
            raise WorkerFailed(reply["error"])
        return reply

    def close(self) -> None:
        """End it, gently where it listens."""
        with contextlib.suppress(OSError):
            if self.process.stdin is not None:
                self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()

    def _last_words(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        return lines[-1] if lines else f"ended with exit code {code}"


class Contest:
    """Contenders that stay alive, and take turns.

    What all hold between turns may be more than there is. With a `warm_up`, everybody gives back after each turn what
    it does not need to go on, and before the next takes one that is asked for by this and does not count.
    """

    def __init__(self, contenders: Sequence[Contender], warm_up: Mapping[str, Any] | None = None) -> None:
        """Start all, and leave out those that cannot get ready; `notes` says which and why."""
        self.notes: list[str] = []
        self._warm_up = warm_up
        self._workers: dict[str, Worker] = {}
        try:
            for contender in contenders:
                try:
                    self._workers[contender.name] = Worker(contender)
                except WorkerFailed as failure:
                    self._tell(contender.name, failure)
            for name in list(self._workers):
                self._try(name)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Contest":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rounds(
        self, request: Mapping[str, Any], minutes: float, least: int, left_out: Container[str] = ()
    ) -> dict[str, list[Reply]]:
        """Return everybody's replies, one a round, of at least so many rounds; a first round warms up, uncounted.

        Whom a request does not fit is `left_out`, and waits.
        """
        replies: dict[str, list[Reply]] = {name: [] for name in self._workers if name not in left_out}
        end, number = time.monotonic() + 60 * minutes, 0
        while (names := [name for name in self._workers if name not in left_out]) and (
            number <= least or time.monotonic() < end
        ):
            asked, shift = {**request, "round": number}, number % len(names)
            # Nobody always follows the same one.
            for name in names[shift:] + names[:shift]:
                time.sleep(_PAUSE)
                reply = self._turn(name, asked)
                if reply is not None and number:
                    replies[name].append(reply)
            number += 1
            say(f"  round {number - 1}: {_speeds(replies)}" if number > 1 else "  warmed up")
        return {name: found for name, found in replies.items() if name in self._workers and found}

    def close(self) -> None:
        """End all."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def _turn(self, name: str, asked: Mapping[str, Any]) -> Reply | None:
        if self._warm_up is None:
            return self._try(name, asked)
        if self._try(name, {**asked, **self._warm_up}) is None:
            return None
        return self._try(name, {**asked, "give_back": True})

    def _try(self, name: str, request: Mapping[str, Any] | None = None) -> Reply | None:
        worker = self._workers[name]
        try:
            return worker.answer() if request is None else worker.ask(request)
        except WorkerFailed as failure:
            self._tell(name, failure)
            self._workers.pop(name).close()
            return None

    def _tell(self, name: str, failure: WorkerFailed) -> None:
        self.notes.append(f"{name}: {failure}")
        say(f"  {name} fails: {failure}")


def write_first(kind: str, script: str, settings: Mapping[str, Any], notes: list[str]) -> None:
    """Let a process of its own write or convert the model: what that needs is no engine's memory.

    What the kind "write" makes is needed by all; another that fails is named in `notes`.
    """
    worker = Worker(Contender(kind, script, {**settings, "kind": kind}))
    try:
        worker.answer()
    except WorkerFailed as failure:
        if kind == "write":
            raise SystemExit(f"the model cannot be written: {failure}") from None
        notes.append(f"{kind}: {failure}")
        say(f"  {kind} fails: {failure}")
    finally:
        worker.close()


def serve(prepare: Callable[[dict[str, Any]], Callable[[dict[str, Any]], Reply]]) -> None:
    """Be a worker: get ready by the settings on the command line, then take turns until the driver is gone."""
    # Libraries print where they like; the driver's line must stay its own.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        settings = json.loads(sys.argv[sys.argv.index("--serve") + 1])
        if settings.get("without_kernels"):
            _hide_kernels()
        turn = prepare(settings)
        _answer(answers, {"ready": True})
        for line in sys.stdin:
            request = json.loads(line)
            reply = _watched(turn, request) if request.get("watch") else turn(request)
            _answer(answers, {**reply, "peak_mb": peak_mb()})
            if request.get("give_back"):
                _trim_heap()
    except Exception as error:
        traceback.print_exc()
        _answer(answers, {"error": f"{type(error).__name__}: {first_line(error)}"})


def _trim_heap() -> None:
    # By the C library alone: a peer's environment need not have trasluz.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _watched(turn: Callable[[dict[str, Any]], Reply], request: dict[str, Any]) -> Reply:
    from where_time_goes import watched

    with watched() as times:
        reply = turn(request)
    return {**reply, "times": times}


def _hide_kernels() -> None:
    from trasluz.layers import kernels

    kernels.LIBRARY = Path(os.devnull)
    if kernels.load_kernels() is not None:
        raise RuntimeError("the compiled kernels were loaded before they could be hidden")


def serving() -> bool:
    """Tell whether this process was started as a worker."""
    return "--serve" in sys.argv


def _answer(answers: TextIO, reply: Reply) -> None:
    answers.write(json.dumps(reply) + "\n")
    answers.flush()


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line that is not too long."""
    lines = str(error).strip().splitlines() or ["no message"]
    return lines[0].strip()[:200]


def peak_mb() -> float:
    """Return the most memory that this process has held so far."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _speeds(replies: Mapping[str, list[Reply]]) -> str:
    rated = {name: speed(found[-1]) for name, found in replies.items() if found and "amount" in found[-1]}
    return ", ".join(f"{name} {figure(rate)}" for name, rate in rated.items())


def say(text: str) -> None:
    """Tell how it goes, on standard error."""
    print(text, file=sys.stderr, flush=True)


def speed(reply: Reply) -> float:
    """Return what was done a second."""
    return float(reply["amount"] / reply["seconds"])


@dataclass(frozen=True)
class Spread:
    """A median, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of some values."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        """Write it for a table."""
        return f"{figure(self.median)} ({figure(self.low)} to {figure(self.high)})"


def figure(value: float) -> str:
    """Return a number with as many digits as are worth reading."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Return the ratio inside each round; a contender that has failed on the way leaves the later rounds out."""
    return Spread.of([mine / other for mine, other in zip(ours, theirs, strict=False)])


def fastest(rates: Mapping[str, Sequence[float]], names: Iterator[str] | Sequence[str]) -> str | None:
    """Return the name with the highest median, None where none of them has a figure."""
    there = [name for name in names if rates.get(name)]
    return max(there, key=lambda name: statistics.median(rates[name])) if there else None


def versions(contenders: Sequence[Contender]) -> dict[str, str]:
    """Return the versions of everything that takes part, and of what all stand on."""
    found = {}
    for package in dict.fromkeys(["torch", *(name for one in contenders for name in one.packages)]):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    elsewhere = {one.python: one.packages for one in contenders if one.python != sys.executable}
    for python, packages in elsewhere.items():
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            told = subprocess.run([python, "-c", _VERSIONS, "torch", *packages], check=True, capture_output=True)
            torch, *others = json.loads(told.stdout)
            found |= dict(zip(packages, others, strict=True)) | {f"torch of {packages[0]}": torch}
    return found


_VERSIONS = "import json, sys; from importlib.metadata import version; print(json.dumps([*map(version, sys.argv[1:])]))"


def question_parser(description: str | None, minutes: float) -> argparse.ArgumentParser:
    """Return the options that every question has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=minutes, help=f"time for all rounds, getting ready not counted ({minutes:g})"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and two rounds: does it run? Proves no speed")
    parser.add_argument("--threads", type=int, help="threads of each contender (as many as there are cores)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16", "int8"), help="only these")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="only contenders whose name has one of these in it")
    parser.add_argument("--json", type=Path, help="write what was measured to this file too, for write_tables.py")
    return parser


def chosen(options: argparse.Namespace, contenders: Sequence[Contender], notes: list[str]) -> list[Contender]:
    """Return the contenders that were asked for and can run here; where a precision is left out, a note says so."""
    from trasluz.devices import choose_device, multiplies_bf16

    kept = [
        one
        for one in contenders
        if (not options.only or any(text.lower() in one.name.lower() for text in options.only))
        and (not options.precisions or one.precision in options.precisions)
    ]
    if not options.precisions and not multiplies_bf16(choose_device("cpu")):
        if any(one.precision == "bf16" for one in kept):
            notes.append("This CPU has no instructions for bf16, so nobody was measured in it.")
        kept = [one for one in kept if one.precision != "bf16"]
    return kept


def command_line(script: str, options: argparse.Namespace) -> str:
    """Return the command that measures the same again."""
    words = ["TRASLUZ_DATA=..."] if "TRASLUZ_DATA" in os.environ else []
    words += ["python", f"benchmarks/{script}"]
    for name, value in vars(options).items():
        if name == "json" or value is None or value is False or (name == "minutes" and options.quick):
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words += [f"{one:g}" if isinstance(one, float) else shlex.quote(str(one)) for one in _listed(value)]
    return " ".join(words)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def threads_of(options: argparse.Namespace) -> int:
    """Return how many threads everybody gets."""
    return options.threads or len(os.sched_getaffinity(0))


def report_of(
    script: str,
    options: argparse.Namespace,
    contenders: Sequence[Contender],
    notes: Sequence[str],
    **found: Any,
) -> dict[str, Any]:
    """Return what a question writes down: how it was measured, by whom, and what was found.

    Where nobody was measured the question has failed, and ends with what its contenders said.
    """
    from machine_limits import describe

    if not _anybody(found, {one.name for one in contenders}):
        raise SystemExit(f"nobody could be measured: {'; '.join(notes) or 'no contender was asked for'}")
    return {
        "question": Path(script).stem,
        "command": command_line(script, options),
        "date": datetime.date.today().isoformat(),
        "quick": options.quick,
        "threads": threads_of(options),
        "machine": describe(),
        "versions": versions(contenders),
        "contenders": [
            {"name": one.name, "precision": one.precision, "ours": one.ours, "compared": one.compared}
            for one in contenders
        ],
        "notes": list(notes),
        **found,
    }


def _anybody(found: Any, names: Container[str]) -> bool:
    """Tell whether one of these has a turn that counted, however deep the cases of a question are nested."""
    if not isinstance(found, Mapping):
        return False
    return any(
        (name in names and isinstance(value, list) and value) or _anybody(value, names) for name, value in found.items()
    )


def print_report(options: argparse.Namespace, report: Mapping[str, Any], table: Callable[[Any], str]) -> None:
    """Print a question's table, and keep what was measured where that was asked for."""
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("\n".join([table(report), "", *(f"- {note}" for note in report["notes"])]).rstrip())
