"""Train on a synthetic corpus of several gigabytes: how much memory it takes, and how soon the first update comes.

    python benchmarks/big_corpus.py --gigabytes 5

The same recipe runs on a corpus of 5 MB and on the big one, each in a process of its own: once from nothing, stopped
after some updates by SIGTERM, and once more with --resume, when the tokens are stored already. Words follow Zipf's law;
one in fifty is new. Prints one line of JSON with seconds until the first update and the peak of resident memory in MB,
of training and of the processes it starts together, looked at twenty times a second.
"""

import argparse
import itertools
import json
import os
import platform
import random
import signal
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SMALL_BYTES = 5_000_000
NUM_WORDS = 200_000
UPDATES = 20

RECIPE = """
model: {{preset: transformer-tiny, num_layers: 2}}
data: {{train: {corpus}, valid: {valid}, languages: [here, there]}}
tokenizer: {{kind: bpe, vocab_size: 8000}}
training: {{max_steps: 100000, log_every: 1, threads: {threads}, precision: bf16}}
evaluation: {{every: 1000000 steps, metric: loss, patience: null}}
output: {output}
"""


def vocabulary(draw: random.Random) -> list[str]:
    """Return made-up words, the frequent ones short, as languages have it."""
    found: dict[str, None] = {}
    while len(found) < NUM_WORDS:
        longest = 2 + len(found).bit_length() // 2
        length = draw.randint(max(1, longest - 3), longest + 1)
        found["".join(draw.choices(string.ascii_lowercase, k=length))] = None
    return list(found)


def write_corpus(path: Path, size: int, seed: int) -> int:
    """Write pairs until the file has `size` bytes; return their number."""
    draw = random.Random(seed)
    numbers = np.random.default_rng(seed)
    words = vocabulary(random.Random(0))
    written = pairs = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("here\tthere\n")
        while written < size:
            ranks = np.minimum(numbers.zipf(1.15, 1 << 18) - 1, NUM_WORDS - 1).tolist()
            drawn = map(words.__getitem__, ranks)
            lines = []
            while True:
                length = draw.randint(4, 20)
                source = list(itertools.islice(drawn, length))
                target = list(itertools.islice(drawn, length))
                if len(target) < length:
                    break
                if draw.random() < length / 50:
                    source[draw.randrange(length)] = "".join(draw.choices(string.ascii_letters, k=8))
                lines.append(f"{' '.join(source)}\t{' '.join(target)}\n")
            block = "".join(lines)
            file.write(block)
            written += len(block)
            pairs += len(lines)
    return pairs


def updates_logged(run: Path) -> int:
    """Return how many updates the run has told of."""
    try:
        return (run / "metrics.jsonl").read_bytes().count(b'"kind": "update"')
    except FileNotFoundError:
        return 0


def resident_mb(pid: int) -> float:
    """Return the memory of a process and all that descend from it; 0 for one that has ended."""
    try:
        task = Path(f"/proc/{pid}")
        children = (task / f"task/{pid}/children").read_text().split()
        pages = int((task / "statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGESIZE") / 1e6 + sum(resident_mb(int(child)) for child in children)


def life(recipe: Path, run: Path) -> tuple[float, float]:
    """Train for some updates, ask the run to leave; return seconds to the first update and peak memory in MB."""
    before = updates_logged(run)
    began = time.monotonic()
    command = [sys.executable, "-m", "trasluz", "train", str(recipe), "--resume", "--quiet"]
    process = subprocess.Popen(command)
    first = peak = 0.0
    while updates_logged(run) < before + UPDATES:
        # wait4 alone tells the peak memory of this one child; without WNOHANG it would block.
        ended, status, _ = os.wait4(process.pid, os.WNOHANG)
        if ended:
            raise SystemExit(f"training ended by itself, with wait status {status}")
        peak = max(peak, resident_mb(process.pid))
        if not first and updates_logged(run) > before:
            first = time.monotonic() - began
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, _, usage = os.wait4(process.pid, 0)
    # The kernel has seen this process all the time, which may be more than was seen of all now and then.
    return first, max(peak, usage.ru_maxrss / 1024)


def measure(work: Path, name: str, size: int, threads: int) -> dict[str, float | int]:
    """Write a corpus, train on it twice, and return what was measured."""
    corpus, recipe, run = work / f"{name}.tsv", work / f"{name}.yaml", work / name
    began = time.monotonic()
    pairs = write_corpus(corpus, size, seed=1)
    seconds = time.monotonic() - began
    recipe.write_text(RECIPE.format(corpus=corpus, valid=work / "valid.tsv", output=run, threads=threads))
    first, peak = life(recipe, run)
    first_cached, peak_cached = life(recipe, run)
    corpus.unlink()
    return {
        "bytes": size,
        "pairs": pairs,
        "seconds_to_write_the_corpus": round(seconds, 1),
        "seconds_to_first_update": round(first, 1),
        "seconds_to_first_update_once_cached": round(first_cached, 1),
        "peak_mb": round(peak),
        "peak_mb_once_cached": round(peak_cached),
    }


def main() -> None:
    """Measure both corpora and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="where a folder with room for twice the corpus can be made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        work = Path(name)
        write_corpus(work / "valid.tsv", 20_000, seed=2)
        small = measure(work, "small", SMALL_BYTES, options.threads)
        big = measure(work, "big", int(options.gigabytes * 1e9), options.threads)
    report = {
        "small": small,
        "big": big,
        "peak_mb_above_small": max(
            big["peak_mb"] - small["peak_mb"], big["peak_mb_once_cached"] - small["peak_mb_once_cached"]
        ),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
