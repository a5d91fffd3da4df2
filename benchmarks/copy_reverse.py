"""Copy and reverse sequences of 26 symbols: does every kind of model learn what it must, exactly, through beam search?

    python benchmarks/copy_reverse.py --model rnnsearch --task reverse --seed 1

100,000 different training sequences of 2 to 20 symbols, read over and over; 1,000 unseen ones are decoded with a beam
of 4, and a sequence counts only when every symbol is right. The model is chosen on 500 held-out sequences. Prints one
line of JSON.
"""

import argparse
import json
import random
import string
import tempfile
from pathlib import Path

import trasluz
from trasluz.cli.progress import watch
from trasluz.training.recipe_file import parse_recipe
from trasluz.training.run import run_recipe

NUM_TRAINING, NUM_VALID, NUM_TEST = 100_000, 500, 1_000
SHORTEST, LONGEST = 2, 20
TASKS = {"copy": lambda symbols: symbols, "reverse": lambda symbols: symbols[::-1]}

# Sizes at which all three learn in minutes on one core. Without attention the whole sequence must fit into one vector,
# so that model has a cell that remembers, and gets most of the time.
RECIPES = {
    "transformer": """
model: {preset: transformer-tiny, model_dim: 128, num_heads: 4, feed_forward_dim: 256, num_layers: 2, dropout: 0.0}
training: {max_steps: 4500, learning_rate: 2e-3, warmup_steps: 500, schedule: cosine, batch_tokens: 1024}
evaluation: {every: 1000 steps}
""",
    "rnnsearch": """
model: {preset: rnnsearch, embedding_dim: 64, hidden_dim: 128, readout_dim: 64, attention_dim: 64}
training: {max_steps: 1500, learning_rate: 3e-3, warmup_steps: 200, schedule: cosine, batch_tokens: 2048}
evaluation: {every: 500 steps}
""",
    "rnn-encdec": """
model: {preset: rnn-encdec, cell: lstm, embedding_dim: 64, hidden_dim: 256, readout_dim: 64}
training: {max_steps: 7000, learning_rate: 3e-3, warmup_steps: 500, schedule: cosine, batch_tokens: 1024}
evaluation: {every: 1000 steps}
""",
}

COMMON = """
task: translate
data: {train: WORK/train.tsv, valid: WORK/valid.tsv, languages: [source, target]}
tokenizer: {kind: word, vocab_size: 30}
training: {label_smoothing: 0.0, precision: fp32}
evaluation: {metric: loss, patience: null, average: null}
output: WORK/run
"""


def draw_sequences(seed: int, count: int) -> list[str]:
    """Return different sequences, symbols separated by blanks."""
    draw = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        length = draw.randint(SHORTEST, LONGEST)
        found[" ".join(draw.choices(string.ascii_lowercase, k=length))] = None
    return list(found)


def main() -> None:
    """Train one model on one task with one seed, and score it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=RECIPES, required=True)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="folder for data and run; absent: a temporary one")
    parser.add_argument("overrides", nargs="*", help="key.path=value, laid over the recipe")
    options = parser.parse_intermixed_args()
    transform = TASKS[options.task]
    sequences = draw_sequences(options.seed, NUM_TRAINING + NUM_VALID + NUM_TEST)
    test = sequences[:NUM_TEST]
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for name, part in (
            ("valid", sequences[NUM_TEST : NUM_TEST + NUM_VALID]),
            ("train", sequences[NUM_TEST + NUM_VALID :]),
        ):
            rows = (f"{sequence}\t{transform(sequence)}\n" for sequence in part)
            (work / f"{name}.tsv").write_text("source\ttarget\n" + "".join(rows), encoding="utf-8")
        recipe = parse_recipe(
            merged_recipe(options.model, options.task, work),
            [f"training.seed={options.seed}", f"training.threads={options.threads}", *options.overrides],
        )
        ended = watch(run_recipe(recipe))
        translator = trasluz.load(work / "run")
        found = translator(test, beam=4)
    right = sum(result.text == transform(sequence) for result, sequence in zip(found, test, strict=True))
    print(
        json.dumps(
            {
                "model": options.model,
                "task": options.task,
                "seed": options.seed,
                "exact": right / NUM_TEST,
                "parameters": sum(parameter.numel() for parameter in translator.model.parameters()),
                "steps": ended.step if ended else None,
                "minutes": round(ended.seconds / 60, 1) if ended else None,
            }
        )
    )


def merged_recipe(model: str, task: str, work: Path) -> str:
    """Return the recipe of a model: what all share, with its own keys laid over."""
    import yaml

    recipe = yaml.safe_load(COMMON.replace("WORK", str(work)))
    for section, keys in yaml.safe_load(RECIPES[model]).items():
        recipe[section] = {**recipe.get(section, {}), **keys} if section != "model" else keys
    if (model, task) == ("rnn-encdec", "copy"):
        # What is to be said first is then read last, as it is in reversing.
        recipe["model"]["reverse_source"] = True
    return str(yaml.safe_dump(recipe))


if __name__ == "__main__":
    main()
