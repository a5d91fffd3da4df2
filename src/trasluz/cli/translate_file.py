"""`trasluz translate --input FILE --output FILE`: what goes together, which shard, and the last line that counts."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trasluz.cli.streams import remark

if TYPE_CHECKING:
    from trasluz.tasks.file_translation import Progress
    from trasluz.tasks.translator import Translator

# Number, how many there are, and number on the machine of a process, counted from 0: torchrun's words, then srun's.
# SLURM_NTASKS would not do: a batch script, which runs once, has it too, and is process 0.
_LAUNCHERS = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"))


@dataclass(frozen=True)
class Shard:
    """Part `number`, counted from 1, of `count`."""

    number: int
    count: int

    def name(self, output: Path) -> Path:
        """Return where this part of an output goes; names in order are parts in order."""
        return output.with_name(f"{output.name}.{self.number:0{len(str(self.count))}}-of-{self.count}")


def refuse_mixed(
    texts: list[str] | None,
    input_: Path | None,
    output: Path | None,
    *,
    shard: str | None,
    on_error: str,
    attention: Path | None,
    nbest: int | None,
    as_json: bool,
) -> None:
    """Refuse options that do not go together; RequestError says which."""
    from trasluz.errors import RequestError

    if (input_ is None) != (output is None):
        given, missing = ("--input", "--output") if output is None else ("--output", "--input")
        raise RequestError(f"{given} is given without {missing}; a file is translated from the one into the other.")
    if input_ is None:
        for option, is_given in (("--shard", shard is not None), ("--on-error", on_error != "stop")):
            if is_given:
                raise RequestError(f"{option} is for files: name them with --input and --output.")
        return
    if texts:
        raise RequestError(f"there are a text and --input {input_}; give one or the other.")
    if attention is not None:
        raise RequestError("--attention is for texts that are typed or piped, not for a file of --input.")
    if nbest is not None and nbest > 1 and not as_json:
        raise RequestError(
            f"--nbest {nbest} makes several lines of a text, but a file is translated line for line: add --json, whose "
            "one line holds them all."
        )


def find_shard(words: str | None) -> Shard | None:
    """Return the shard that --shard asks for; `auto` also takes the GPU of this process's number on its machine."""
    from trasluz.errors import RequestError

    if words is None:
        return None
    if words == "auto":
        return _launched(os.environ)
    match = re.fullmatch(r"(\d+)/(\d+)", words)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise RequestError(f"--shard is {words!r}; it is auto, or I/N with I from 1 to N, such as 1/4.")
    return Shard(int(match[1]), int(match[2]))


def _launched(environment: Mapping[str, str]) -> Shard:
    from trasluz.errors import RequestError

    for rank, size, local_rank in _LAUNCHERS:
        if environment.get(rank, "").isdecimal() and environment.get(size, "").isdecimal():
            from trasluz.devices import share_gpus

            share_gpus(int(environment.get(local_rank, "0")))
            return Shard(int(environment[rank]) + 1, int(environment[size]))
    if "SLURM_JOB_ID" in environment:
        raise RequestError(
            "--shard is auto, but srun has not started this process, which Slurm therefore runs only once: put srun "
            "before it, or say which part, such as --shard 1/4."
        )
    raise RequestError(
        "--shard is auto, but neither torchrun (RANK, WORLD_SIZE) nor srun (SLURM_PROCID, SLURM_STEP_NUM_TASKS) has "
        "started this process: say which part, such as --shard 1/4."
    )


def translate_file(
    translator: "Translator",
    model: str,
    input_: Path,
    output: Path,
    shard: Shard | None,
    *,
    quiet: bool,
    **request: Any,
) -> None:
    """Translate a file, or its shard, and tell how it goes; `request` has the fields of a `Request`."""
    from rich.console import Console

    from trasluz.cli.file_progress import watch
    from trasluz.cli.progress import clock
    from trasluz.tasks import file_translation
    from trasluz.tasks.loading import find_model, fingerprint
    from trasluz.text.parts import Part

    part = Part.of(str(input_), shard.number, shard.count) if shard else Part.of(str(input_))
    path = shard.name(output) if shard else output
    was_complete = path.exists()
    reports = file_translation.translate_file(
        translator, fingerprint(find_model(model)), part, path, file_translation.Request(**request)
    )
    try:
        last = watch(reports, part, path.name, console=None if quiet else Console(stderr=True))
    except KeyboardInterrupt:
        remark(f"{path}: stopped; the same command goes on from there.", quiet=quiet)
        raise
    ended = "complete already, nothing was done" if was_complete else clock(last.seconds)
    remark(f"{path}: {last.lines:,} lines, {ended}{skipped(last, part.path)}", quiet=quiet)


def skipped(progress: "Progress", path: str) -> str:
    """Return how many lines were skipped, by reason and with the first places of each."""
    parts = []
    for reason, count in progress.skipped.items():
        shown = [f"{path}:{line}" for line in progress.examples[reason]]
        parts.append(f"{count:,} skipped: {reason} ({', '.join(shown)}{', ...' if count > len(shown) else ''})")
    return "".join(f"; {part}" for part in parts)
