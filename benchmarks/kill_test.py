"""Kill a real training run (SIGKILL) at random moments, resume it each time, and compare the weights to the bit.

    python benchmarks/kill_test.py --kills 20 --seed 1

The run is small but whole: reading, tokenizer, token cache, dropout, evaluation by beam search, checkpoints, average,
model folder. Half of the kills are aimed at saves: they come right after a new temporary folder appears. Prints one
line of JSON; exit code 1 if the weights differ.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = (
    "light paper window river stone garden morning letter bridge winter candle shadow table music orange silver".split()
)

RECIPE = """
model: {{preset: transformer-tiny, model_dim: 128, num_heads: 4, feed_forward_dim: 256, num_layers: 2}}
data: {{train: pairs.tsv, languages: [here, there], both_directions: true, held_out: 50, max_length: 40}}
tokenizer: {{kind: bpe, vocab_size: 500}}
training: {{max_steps: {steps}, batch_tokens: 1000, warmup_steps: 20, threads: 1, device: cpu, precision: fp32}}
evaluation: {{every: 10 steps, metric: bleu, beam: 2, sentences: 20, keep: 3, average: last-3, patience: null}}
output: {output}
"""


def write_pairs(path: Path, count: int = 4000) -> None:
    """Write made-up pairs: words, and the same words spelt backwards in reverse order."""
    draw = random.Random(0)
    with path.open("w") as file:
        file.write("here\tthere\n")
        for _ in range(count):
            words = draw.choices(WORDS, k=draw.randint(2, 12))
            file.write(" ".join(words) + "\t" + " ".join(word[::-1] for word in reversed(words)) + "\n")


def start(folder: Path, recipe: str) -> subprocess.Popen[bytes]:
    """Start the command line on a recipe."""
    command = [sys.executable, "-m", "trasluz", "train", recipe, "--resume", "--quiet"]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE)


def digest(folder: Path) -> str:
    """Return a digest of the final weights."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def being_written(run: Path) -> set[str]:
    """Return the temporary files and folders there are now."""
    found: set[str] = set()
    for folder in (run, run / "cache", run / "checkpoints"):
        if folder.is_dir():
            found.update(f"{folder}/{name}" for name in os.listdir(folder) if name.endswith((".part", ".old")))
    return found


def wait_for_a_save(process: subprocess.Popen[bytes], run: Path, seconds: float) -> None:
    """Return when something is being written, or when the time is over."""
    end = time.monotonic() + seconds
    seen = being_written(run)
    while time.monotonic() < end and process.poll() is None:
        if being_written(run) - seen:
            return
        time.sleep(0.0005)


def main() -> int:
    """Run the test."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--steps", type=int, default=200)
    options = arguments.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder / "pairs.tsv")
        for output in ("whole", "killed"):
            (folder / f"{output}.yaml").write_text(RECIPE.format(steps=options.steps, output=output))
        began = time.monotonic()
        undisturbed = start(folder, "whole.yaml")
        _, errors = undisturbed.communicate()
        if undisturbed.returncode:
            print(errors.decode(), file=sys.stderr)
            return 1
        whole = time.monotonic() - began
        run, killed_at, in_save, lives = folder / "killed", [], 0, 0
        while True:
            lives += 1
            before = being_written(run)
            process = start(folder, "killed.yaml")
            if len(killed_at) < options.kills:
                # A life is long enough to start and do some work, and short enough that all kills fit into the run.
                time.sleep(draw.uniform(0.0, 4.0 + 2.0 * whole / options.kills))
                if len(killed_at) % 2:
                    wait_for_a_save(process, run, 10.0)
                    time.sleep(draw.uniform(0.0, 0.02))
                if process.poll() is None:
                    in_save += bool(being_written(run) - before)
                    os.kill(process.pid, signal.SIGKILL)
                    killed_at.append(max((int(path.name[5:]) for path in run.glob("checkpoints/step-*")), default=0))
            _, errors = process.communicate()
            if process.returncode != -signal.SIGKILL:
                break
        if process.returncode:
            print(errors.decode(), file=sys.stderr)
            return 1
        same = digest(folder / "whole") == digest(run)
        print(
            json.dumps(
                {
                    "kills": len(killed_at),
                    "inside_a_save": in_save,
                    "newest_checkpoint_at_each": killed_at,
                    "steps": options.steps,
                    "seed": options.seed,
                    "undisturbed_seconds": round(whole, 1),
                    "equal_to_the_bit": same,
                }
            )
        )
    return 0 if same and len(killed_at) == options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
