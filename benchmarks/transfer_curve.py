"""What a pre-trained encoder is worth when labelled texts are few: accuracy over their number, on AG News.

    python benchmarks/transfer_curve.py learn --sizes 100 1000 --seeds 1 2 3 --work runs/transfer
    python benchmarks/transfer_curve.py draw --work runs/transfer --picture docs/pictures/transfer-curve.svg

Three learners get the same texts, drawn by the seed from the training text: all-MiniLM-L6-v2, tuned; a Transformer of
one block that begins from nothing; a linear model on TF-IDF. Passes over the texts were fixed beforehand, more of them
where texts are fewer, and the last weights are taken. All three leave a tenth of the texts apart, on which the linear
model chooses its penalty. `learn` appends one line of JSON a run to results.jsonl, and leaves out what stands there
already. Reads the folder that TRASLUZ_DATA names; needs scikit-learn.
"""

import argparse
import json
import lzma
import os
import random
from pathlib import Path
from statistics import mean

import yaml
from linear_baseline import linear_accuracy, texts_and_labels

LEARNERS = {
    "minilm": "all-MiniLM-L6-v2, tuned",
    "one-block": "Transformer of one block, from nothing",
    "linear": "TF-IDF, logistic regression",
}
RECIPES = {"minilm": "agnews-minilm", "one-block": "agnews-one-block"}
PASSES = {"minilm": {100: 20, 1000: 6}, "one-block": {100: 100, 1000: 30}}
"""By the most texts they are meant for; above that, as the recipe says."""
RECIPE_FOLDER = Path(__file__).parent.parent / "recipes"


def draw_texts(path: Path, size: int | None, seed: int) -> None:
    """Write a table of `size` labelled texts drawn by the seed; of all where no size is told."""
    data = Path(os.environ["TRASLUZ_DATA"])
    with lzma.open(data / "agnews/train-10k.tsv.xz", "rt", encoding="utf-8") as file:
        header, *rows = file.read().splitlines()
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = random.Random(seed).sample(rows, size or len(rows))
    path.write_text("\n".join([header, *drawn]) + "\n", encoding="utf-8")


def tuned_accuracy(learner: str, table: Path, size: int, seed: int, encoder: str, test: str) -> float:
    """Train as the recipe says, and return the accuracy on the test."""
    import trasluz
    from trasluz.cli.progress import watch
    from trasluz.training.recipe_file import parse_recipe
    from trasluz.training.run import run_recipe

    recipe = yaml.safe_load((RECIPE_FOLDER / f"{RECIPES[learner]}.yaml").read_text(encoding="utf-8"))
    if learner == "minilm":
        recipe["model"] = encoder
    output = table.with_suffix("") / learner
    recipe["data"] = {"train": str(table), "max_length": 128}
    recipe["output"] = str(output)
    passes = min((most for most in PASSES[learner] if size <= most), default=None)
    if passes is not None:
        recipe["training"]["max_epochs"] = PASSES[learner][passes]
    recipe["training"] |= {"seed": seed, "warmup_steps": min(100, size // 10)}
    # Looked at only when the budget ends, so that nothing is chosen.
    recipe["evaluation"] = {"every": "1000000 steps", "patience": None}
    watch(run_recipe(parse_recipe(yaml.safe_dump(recipe), []), resume=False))
    texts, labels = texts_and_labels(test)
    found = trasluz.load(str(output))(texts)
    return mean(one.label == label for one, label in zip(found, labels, strict=True))


def learn(options: argparse.Namespace) -> None:
    """Run every learner at every size with every seed that has not run yet."""
    results = options.work / "results.jsonl"
    done = {(row["learner"], row["texts"], row["seed"]) for row in read_results(results)}
    test = f"{os.environ['TRASLUZ_DATA']}/agnews/test.tsv.xz"
    for size in options.sizes:
        for seed in options.seeds:
            table = options.work / f"texts-{size}-{seed}.tsv"
            draw_texts(table, size, seed)
            for learner in options.learners:
                if (learner, size, seed) in done:
                    continue
                if learner == "linear":
                    accuracy = linear_accuracy(str(table), None, test, seed)["accuracy"]
                else:
                    accuracy = tuned_accuracy(learner, table, size, seed, options.encoder, test)
                row = {"learner": learner, "texts": size, "seed": seed, "accuracy": round(accuracy, 4)}
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


def read_results(path: Path) -> list[dict[str, float | int | str]]:
    """Return what was measured so far."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def draw(results: Path, picture: Path) -> None:
    """Draw the mean accuracy of every learner over the number of texts, with the lowest and highest of its seeds."""
    from matplotlib.figure import Figure

    colours = {"minilm": "#1f5f7a", "one-block": "#b3621b", "linear": "#8a8178"}
    rows = read_results(results)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for learner, name in LEARNERS.items():
        by_size: dict[int, list[float]] = {}
        for row in rows:
            if row["learner"] == learner:
                by_size.setdefault(int(row["texts"]), []).append(100 * float(row["accuracy"]))
        sizes = sorted(by_size)
        axes.fill_between(
            sizes,
            [min(by_size[size]) for size in sizes],
            [max(by_size[size]) for size in sizes],
            color=colours[learner],
            alpha=0.15,
            linewidth=0,
        )
        means = [mean(by_size[size]) for size in sizes]
        axes.plot(sizes, means, marker="o", markersize=4, color=colours[learner], label=name)
    axes.axhline(25, color="#c9c2b8", linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_ylim(20, 100)
    axes.set_xlabel("labelled texts")
    axes.set_ylabel("accuracy on the test, per cent")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None)


def main() -> None:
    """Read the options, and learn or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("learn", "draw"))
    parser.add_argument("--work", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=list(LEARNERS))
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2", help="a folder or hub id")
    parser.add_argument("--picture", type=Path, default=Path("docs/pictures/transfer-curve.svg"))
    options = parser.parse_args()
    if options.what == "learn":
        learn(options)
    else:
        draw(options.work / "results.jsonl", options.picture)


if __name__ == "__main__":
    main()
