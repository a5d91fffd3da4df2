"""Measure trasluz beside its peers and write the tables: `make bench`, or `python benchmarks/write_tables.py`.

    TRASLUZ_DATA=... python benchmarks/write_tables.py --minutes 60 --out docs/benchmarks.md

The questions: training a Transformer, a recurrent model and an encoder, translating, reading with an encoder,
continuing a text, long texts. Each can be asked alone, by its own program with --json; what it wrote can then be put
together:

    python benchmarks/write_tables.py --tables training.json recurrent.json decoding.json

The environment needs benchmarks/requirements.txt; a peer that is missing or fails is named below its table, with why. A
question that fails wholly keeps its place on the page, with what it said last, and the command ends with code 1.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import block_sparse_speed
import decoding_speed
import encoder_speed
import generation_speed
import masked_training_speed
import recurrent_training_speed
import training_speed
from alternate import HERE, say

# Title, module, and the share of the time: decoding has six cases.
QUESTIONS: dict[str, tuple[str, Any, float]] = {
    "training_speed": ("Training a Transformer", training_speed, 0.16),
    "recurrent_training_speed": ("Training a recurrent model", recurrent_training_speed, 0.14),
    "masked_training_speed": ("Training an encoder by masked words", masked_training_speed, 0.14),
    "decoding_speed": ("Translating", decoding_speed, 0.3),
    "encoder_speed": ("Reading with an encoder", encoder_speed, 0.08),
    "generation_speed": ("Continuing a text", generation_speed, 0.08),
    "block_sparse_speed": ("Long texts", block_sparse_speed, 0.1),
}

_OPENING = """# Benchmarks

trasluz beside its peers, on one machine, in one run: every program in a process of its own, in short turns one after
the other, round after round, so that all meet the same moments of the machine. A figure is the median over the rounds,
in brackets the lowest and the highest; "times as fast" is the median of the ratios inside each round. What a peer can
be given to be faster it is given: batches of like lengths, an allocator that keeps its buffers, bf16 where the
processor has it, eight bits where it knows them. Peak memory is the process's, Python and libraries included.

A limit is the best of many short trials within its turn, the median of that over the rounds. A share of reading counts
every weight as often as it is used. A cache that holds part of the weights spares the memory that part, so that the
share is of what a program would have to read without caches: a model not much larger than the last cache can come near
the limit, or beyond it, without all of that being read from memory.
"""


def page(reports: list[Mapping[str, Any]]) -> str:
    """Return the whole page."""
    parts = [_OPENING]
    if any(report.get("quick") for report in reports):
        parts.append("**A quick run: sizes are small, rounds are few, and no figure here means anything.**\n")
    for report in reports:
        title, module, _ = QUESTIONS[report["question"]]
        if "failed" in report:
            parts.append(f"## {title}\n\n**Nothing was measured.** {report['failed']}\n")
            parts.append(f"```sh\n{report['command']}\n```\n")
            continue
        parts += [f"## {title}\n", _method(module) + "\n", module.table(report) + "\n"]
        if report["notes"]:
            parts.append("\n".join(f"- {note}" for note in report["notes"]) + "\n")
        parts.append(f"{_machine(report)}\n\n```sh\n{report['command']}\n```\n")
    return "\n".join(parts)


def _method(module: Any) -> str:
    """Return what a question's program says of itself, behind its title and its command."""
    return "\n\n".join(str(module.__doc__).strip().split("\n\n")[2:])


def _machine(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    compiled = machine.get("compiled_kernels")
    kernels = "" if compiled is None else f"trasluz with{'' if compiled else 'out'} its compiled kernels; "
    cache = f"last cache {machine['last_cache']}, " if machine.get("last_cache") else ""
    return (
        f"{report['date']}; {machine['cpu']}, {machine['cores']} cores ({', '.join(machine['flags']) or 'no flags'}), "
        f"{cache}{machine['memory_gb']:g} GB of memory, {machine['system']}; {report['threads']} thread(s) each; "
        f"{kernels}"
        f"Python {machine['python']}, {versions}."
    )


def ask(question: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Let a question's own program measure; where it fails, return what it said last and how to ask it again."""
    path = folder / f"{question}.json"
    share = QUESTIONS[question][2] / sum(QUESTIONS[name][2] for name in options.questions)
    asked = ["--minutes", f"{options.minutes * share:.3g}", "--seed", str(options.seed)]
    if options.quick:
        asked.append("--quick")
    if options.threads:
        asked += ["--threads", str(options.threads)]
    code, said = _run([sys.executable, str(HERE / f"{question}.py"), "--json", str(path), *asked])
    if code:
        say(f"{question} fails")
        why = f"The question ended with exit code {code}; its last words: `{said}`" if said else f"Exit code {code}."
        return {
            "question": question,
            "failed": why,
            "command": " ".join(["python", f"benchmarks/{question}.py", *asked]),
        }
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def _run(command: list[str]) -> tuple[int, str]:
    """Run a program, show what it tells of itself as it goes, and return its exit code and its last words."""
    said = ""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            say(line.rstrip("\n"))
            said = line.strip() or said
    return process.returncode, said


def main() -> int:
    """Measure what was asked for, or take what was measured, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="the page to write (standard output)")
    parser.add_argument("--tables", type=Path, nargs="+", help="put these together instead of measuring")
    parser.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--minutes", type=float, default=60, help="time for all rounds of all questions (60)")
    parser.add_argument("--quick", action="store_true", help="small sizes and two rounds: does it run? Proves no speed")
    parser.add_argument("--threads", type=int, help="threads of each contender (as many as there are cores)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.tables:
        reports = [json.loads(path.read_text(encoding="utf-8")) for path in options.tables]
    else:
        with tempfile.TemporaryDirectory() as name:
            reports = [ask(question, options, Path(name)) for question in options.questions]
    failed = [report["question"] for report in reports if "failed" in report]
    if len(failed) == len(reports):
        say("every question failed, so no page is written")
        return 1
    text = page(reports)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
        say(f"written to {options.out}")
    else:
        print(text)
    if failed:
        say(f"failed wholly: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
