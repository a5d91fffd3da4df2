"""How well, and how fast, are Shakespeare's characters learnt: recipes of trasluz beside a plain PyTorch loop.

    TRASLUZ_DATA=... python benchmarks/cut_sets.py shakespeare runs/sets/shakespeare
    python benchmarks/character_training.py --threads 1

The peer is plain_character_gpt.py, whose design and setting are nanoGPT's for a CPU. All train from nothing to their
ends, each in a process of its own, in turns. Each makes the same share of its updates in a turn, so that all meet the
same moments of the machine. Counted is the time of updates, with all that is between them; not reading the text, and
not the one look at the validation part at the end, in windows one after the other, each as long as those of training.
Ours counts one token more there, the end of the document.

With --part 0.1 all make only the first tenth of their updates: that tells, sooner, what whole runs would take, and no
loss.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alternate import Contender, Reply, Worker, say, serve, serving

SCRIPT = "character_training.py"
PEER = "plain loop"
RECIPES = ("shakespeare", "shakespeare-fast", "shakespeare-best")
TURNS = 50


def contenders(options: argparse.Namespace, work: str) -> list[Contender]:
    """Return the peer and the recipes."""
    told = {"folder": str(options.folder.resolve()), "threads": options.threads, "seed": options.seed, "work": work}
    peer = Contender(PEER, SCRIPT, {**told, "recipe": None}, packages=("torch",))
    ours = [
        Contender(f"trasluz, {path.stem}", SCRIPT, {**told, "recipe": str(path)}, packages=("trasluz",))
        for path in options.recipes
    ]
    return [peer, *ours]


def _prepare(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    updates, number, validation_loss = (_plain if settings["recipe"] is None else _trasluz)(settings)
    begun, done = time.perf_counter(), 0
    first = next(updates)
    # What comes before the first update is not counted, but that update is: as much as the second.
    started, seconds = time.perf_counter(), 0.0
    say(f"ready after {started - begun:.1f} seconds")
    kept = itertools.chain([first], updates)

    def turn(request: dict[str, Any]) -> Reply:
        nonlocal done, seconds
        wanted = round(number * request["share"])
        start = time.perf_counter()
        for _ in itertools.islice(kept, wanted - done):
            done += 1
        seconds += time.perf_counter() - start
        loss = validation_loss() if wanted == number else None
        # The first update was made while getting ready.
        whole = seconds / max(done - 1, 1) * number
        return {"updates": number, "seconds": whole, "loss": loss}

    return turn


Parts = tuple[Iterator[Any], int, Callable[[], float]]


def _plain(settings: dict[str, Any]) -> Parts:
    import torch
    from plain_character_gpt import UPDATES, PlainRun

    from trasluz.devices import tune_allocator

    # A plain loop can have that, too.
    tune_allocator()
    torch.set_num_threads(settings["threads"])
    run = PlainRun(Path(settings["folder"]), settings["seed"])
    return run.updates(), UPDATES, run.validation_loss


def _trasluz(settings: dict[str, Any]) -> Parts:
    from trasluz.training.recipe_file import read_recipe
    from trasluz.training.reports import Evaluated, Update
    from trasluz.training.run import run_recipe

    folder, path = Path(settings["folder"]), Path(settings["recipe"])
    recipe = read_recipe(
        path,
        [
            *(f"data.{part}={folder / f'{part}.txt'}" for part in ("train", "valid")),
            *(f"training.{name}={settings[name]}" for name in ("threads", "seed")),
            f"output={Path(settings['work']) / path.stem}",
        ],
    )
    steps = recipe.training.max_steps
    assert steps is not None
    # Looks on the way would be counted.
    recipe = recipe.model_copy(
        update={
            "evaluation": recipe.evaluation.model_copy(update={"every": type(recipe.evaluation.every)(steps, "steps")})
        }
    )
    reports = run_recipe(recipe)
    return (
        (report for report in reports if isinstance(report, Update)),
        steps,
        lambda: next(report.metrics["loss"] for report in reports if isinstance(report, Evaluated)),
    )


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Let all train in turns, and return what each came to."""
    last: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as work:
        workers = {one.name: Worker(one) for one in contenders(options, work)}
        try:
            for worker in workers.values():
                worker.answer()
            for number in range(1, TURNS + 1):
                for name, worker in workers.items():
                    last[name] = worker.ask({"share": options.part * number / TURNS})
                told = ", ".join(f"{name} {reply['seconds']:.1f} s" for name, reply in last.items())
                say(f"  {number} of {TURNS}: {told}")
        finally:
            for worker in workers.values():
                worker.close()
    return last


def table(found: dict[str, dict[str, Any]], threads: int) -> str:
    """Return what came out as Markdown."""
    whole = found[PEER]["seconds"]
    rows = [
        f"| {name} | {one['updates']:,} | {one['seconds']:.1f} | {one['seconds'] / whole:.2f} | {_told(one['loss'])} |"
        for name, one in found.items()
    ]
    return "\n".join(
        [
            f"Characters of Shakespeare's plays, {threads} thread(s), fp32:",
            "",
            "| | updates | seconds | of the peer's | validation loss, nats a character |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def _told(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.4f}"


def main() -> None:
    """Measure, and print the table."""
    usual = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/sets/shakespeare"), help="where the two parts lie")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--recipes",
        type=Path,
        nargs="*",
        default=[usual / "recipes" / f"{name}.yaml" for name in RECIPES],
        help="recipes to train beside the peer (those of the repository)",
    )
    parser.add_argument("--part", type=float, default=1.0, help="share of all updates to make (1)")
    parser.add_argument("--json", type=Path, help="write what was measured to this file, too")
    options = parser.parse_args()
    found = measure(options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found, options.threads))


if __name__ == "__main__":
    serve(_prepare) if serving() else main()
