"""Made-up pairs and a recipe small enough that a whole run takes a second."""

import os
import random
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trasluz.training.data import PreparedData, prepare_data
from trasluz.training.examples import Examples
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import parse_recipe
from trasluz.training.reports import Report
from trasluz.training.run import run_recipe

WORDS = "ant bee cat dog eel fox gnu hen".split()


def write_pairs(path: Path, count: int = 240, seed: int = 5) -> Path:
    """Write a TSV of sentences and their words reversed, upper-cased."""
    generator = random.Random(seed)
    lines = []
    for _ in range(count):
        words = [generator.choice(WORDS) for _ in range(generator.randint(2, 6))]
        lines.append(" ".join(words) + "\t" + " ".join(reversed(words)).upper() + "\n")
    path.write_text("".join(lines))
    return path


def small_recipe(folder: Path, *overrides: str, name: str = "run") -> Recipe:
    """Return a recipe over `pairs.tsv` of a folder, its output beside it."""
    pairs = folder / "pairs.tsv"
    if not pairs.exists():
        write_pairs(pairs)
    text = f"""
model: {{preset: transformer-tiny, model_dim: 16, num_heads: 2, feed_forward_dim: 32, num_layers: 1}}
data:
  train: {{path: {pairs}, columns: {{en: 1, es: 2}}, header: false}}
  held_out: 20
  max_length: 20
tokenizer: {{kind: word, vocab_size: 40}}
training: {{max_steps: 24, batch_tokens: 200, warmup_steps: 4, learning_rate: 5e-3, threads: 1, device: cpu}}
evaluation: {{every: 5 steps, metric: loss, keep: 3, average: last-3, patience: null}}
output: {folder / name}
"""
    return parse_recipe(text, overrides)


def run(recipe: Recipe, resume: bool = False) -> list[Report]:
    return list(run_recipe(recipe, resume))


def prepared(recipe: Recipe, examples: Examples[Any]) -> PreparedData[Any]:
    """Return the data of a recipe, whatever is said on the way."""
    preparing = prepare_data(recipe, examples)
    while True:
        try:
            next(preparing)
        except StopIteration as end:
            return end.value


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def started(size: int, work: Callable[[int], object]) -> list[int]:
    """Start some work in forked processes that find each other as torchrun's do; return their numbers by rank."""
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    sys.stdout.flush()
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.environ.update(shared, RANK=str(rank), LOCAL_RANK=str(rank))
                work(rank)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)
    return children


def together(size: int, work: Callable[[int], object]) -> list[int]:
    """Do some work in such processes; return their exit statuses by rank."""
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in started(size, work)]


def in_child(work: Callable[[], object]) -> int:
    """Do some work in a forked process, which may be killed; return its wait status."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def kill_at_call(number: int) -> None:
    """Make this process kill itself right before its n-th call that changes what is on disk."""
    calls = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def before(*arguments: object, **keywords: object) -> object:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)

        return before

    for name in ("replace", "fsync", "rmdir", "unlink", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
