"""How translation falls with the length of a sentence, with attention and without (figure 2 of Bahdanau et al. 2015).

    python benchmarks/length_curve.py train --model rnnsearch --work runs/lengths      the same for the other two
    python benchmarks/length_curve.py score --work runs/lengths --picture docs/pictures/length-curve.svg

Three models of equal size learn from the same pairs of longer text: those of `en-es-mix` whose source is on the list
below. They see equally many target tokens. What they are tested on is cut from the same text, the same number of pairs
from every stretch of lengths, and from newstest2008 to 2011. Every test pair, and every training pair that shares a
side with one, is kept out of the training text; the weights are chosen on other held-out pairs.

The bands are 95 % intervals by 1,000 bootstrap samples of the sentences of a stretch. Reads the folder that
TRASLUZ_DATA names.
"""

import argparse
import csv
import hashlib
import itertools
import json
import lzma
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

SOURCES = ("tldr", "react.dev", "python-docs")
NEWS = ("news-test2008", "newssyscomb2009", "newstest2009", "newstest2010", "newstest2011")
# Source words: the first length of each stretch, and where the last one ends.
STRETCHES = (1, 10, 20, 30, 40, 50, 60)
TEST_PAIRS, VALID_PAIRS = 200, 60
SEED = 1

MODELS: dict[str, dict[str, Any]] = {
    "rnn-encdec": {"preset": "rnn-encdec", "embedding_dim": 192, "readout_dim": 192, "hidden_dim": 376},
    "rnnsearch": {
        "preset": "rnnsearch",
        "embedding_dim": 192,
        "readout_dim": 192,
        "hidden_dim": 260,
        "attention_dim": 192,
    },
    "transformer": {"preset": "transformer-tiny", "model_dim": 192, "feed_forward_dim": 768, "num_layers": 2},
}
RECURRENT = {"share_embeddings": True, "dropout": 0.2}

RECIPE = """
task: translate
data:
  train: train.tsv
  valid: valid.tsv
  languages: [en, es]
  max_length: 120
  cache: cache
tokenizer: {kind: bpe, vocab_size: 6000, shared: true}
training:
  batch_tokens: 2048
  learning_rate: 1e-3
  schedule: cosine
  warmup_steps: 500
  label_smoothing: 0.1
evaluation: {every: 500 steps, metric: loss, patience: null, keep: 2, average: last-2}
"""

Pairs = list[tuple[str, str]]


def stretch_of(text: str) -> int | None:
    """Return the number of the stretch that a source text's length lies in, None where it is longer than all."""
    words = len(text.split())
    return next((number for number, end in enumerate(STRETCHES[1:]) if words < end), None)


def mix(folder: Path) -> Pairs:
    """Return the pairs of the allowed sources."""
    with lzma.open(folder / "en-es-mix/en-es-mix.tsv.xz", "rt", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["en"], row["es"]) for row in rows if row["source"] in SOURCES]


def news(folder: Path) -> Pairs:
    """Return the pairs of newstest2008 to 2011."""
    found: Pairs = []
    for name in NEWS:
        sides = ((folder / f"newstest-en-es/{name}.{side}").read_text(encoding="utf-8") for side in ("en", "es"))
        found += zip(*(side.splitlines() for side in sides), strict=True)
    return [(en.strip(), es.strip()) for en, es in found if en.strip() and es.strip()]


def draw(pairs: Pairs, count: int, unseen: set[str]) -> Pairs:
    """Return `count` pairs of every stretch that share no side with `unseen`, to which they are added."""
    left = [count] * (len(STRETCHES) - 1)
    drawn: Pairs = []
    for pair in sorted(pairs, key=lambda pair: hashlib.sha256(f"{SEED}\n{pair[0]}".encode()).digest()):
        stretch = stretch_of(pair[0])
        if stretch is not None and left[stretch] and unseen.isdisjoint(pair):
            left[stretch] -= 1
            drawn.append(pair)
            unseen.update(pair)
    return drawn


def write_pairs(path: Path, pairs: Pairs) -> None:
    """Write pairs with a header."""
    path.write_text("en\tes\n" + "".join(f"{en}\t{es}\n" for en, es in pairs), encoding="utf-8")


def prepare(work: Path) -> None:
    """Cut the data, once."""
    if (work / "train.tsv").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ["TRASLUZ_DATA"])
    of_mix, of_news = mix(data), news(data)
    unseen: set[str] = set()
    write_pairs(work / "test-mix.tsv", draw(of_mix, TEST_PAIRS, unseen))
    write_pairs(work / "test-news.tsv", draw(of_news, TEST_PAIRS, unseen))
    write_pairs(work / "valid.tsv", [*draw(of_mix, VALID_PAIRS, unseen), *draw(of_news, VALID_PAIRS // 2, unseen)])
    kept = [pair for pair in of_mix if unseen.isdisjoint(pair)]
    random.Random(SEED).shuffle(kept)
    write_pairs(work / "train.tsv", kept)


def read_tsv(path: Path) -> Pairs:
    """Return the pairs of a file that `write_pairs` wrote."""
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[1:-1])
    return [(en, es) for en, es in rows]


def train(work: Path, model: str, tokens: int, threads: int, overrides: list[str], resume: bool) -> None:
    """Train one of the three."""
    from trasluz.cli.progress import watch
    from trasluz.training.recipe_file import parse_recipe
    from trasluz.training.run import run_recipe

    prepare(work)
    recipe = yaml.safe_load(RECIPE)
    recipe["model"] = MODELS[model] | ({} if model == "transformer" else RECURRENT)
    for key in ("train", "valid", "cache"):
        recipe["data"][key] = str(work / recipe["data"][key])
    recipe["output"] = str(work / model)
    recipe["training"] |= {"max_tokens": tokens, "threads": threads, "seed": SEED}
    watch(run_recipe(parse_recipe(yaml.safe_dump(recipe), overrides), resume))


def scores(texts: list[str], references: list[str]) -> dict[str, float]:
    """Return BLEU with the ends of its 95 % interval."""
    from sacrebleu.metrics.bleu import BLEU

    score = BLEU().corpus_score(texts, [references], n_bootstrap=1000)
    mean, half = score._mean, score._ci
    return {"bleu": round(score.score, 2), "low": round(mean - half, 2), "high": round(mean + half, 2)}


def by_stretch(texts: list[str], pairs: Pairs) -> Iterator[dict[str, Any]]:
    """Give the scores of every stretch."""
    for number, (begin, end) in enumerate(itertools.pairwise(STRETCHES)):
        rows = [row for row, (source, _) in enumerate(pairs) if stretch_of(source) == number]
        if rows:
            found = scores([texts[row] for row in rows], [pairs[row][1] for row in rows])
            yield {"from": begin, "to": end - 1, "sentences": len(rows), **found}


def score(work: Path, picture: Path | None) -> list[dict[str, Any]]:
    """Translate both tests with every model that is there, and score them by length."""
    import trasluz

    report = []
    for model in MODELS:
        if not (work / model / "config.json").exists():
            continue
        translate = trasluz.load(work / model)
        parameters = sum(parameter.numel() for parameter in translate.model.parameters())
        for test in ("mix", "news"):
            pairs = read_tsv(work / f"test-{test}.tsv")
            texts = [one.text for one in translate([source for source, _ in pairs], beam=4)]
            report.append(
                {
                    "model": model,
                    "parameters": parameters,
                    "test": test,
                    **scores(texts, [target for _, target in pairs]),
                    "by_length": list(by_stretch(texts, pairs)),
                }
            )
            print(json.dumps(report[-1]), flush=True)
    if picture is not None:
        draw_curves(report, picture)
    return report


def draw_curves(report: list[dict[str, Any]], picture: Path) -> None:
    """Draw BLEU over length, one panel a test, with bands."""
    from matplotlib.figure import Figure

    tests = {"mix": "text of the kind that was learnt from", "news": "newstest2008 to 2011"}
    colours = {"rnn-encdec": "#8a8178", "rnnsearch": "#b3621b", "transformer": "#1f5f7a"}
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, (test, title) in zip(figure.subplots(1, 2), tests.items(), strict=True):
        for row in (row for row in report if row["test"] == test):
            middles = [(stretch["from"] + stretch["to"]) / 2 for stretch in row["by_length"]]
            low, bleu, high = ([stretch[key] for stretch in row["by_length"]] for key in ("low", "bleu", "high"))
            axes.fill_between(middles, low, high, color=colours[row["model"]], alpha=0.15, linewidth=0)
            axes.plot(middles, bleu, marker="o", markersize=4, color=colours[row["model"]], label=row["model"])
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("source words")
        axes.set_ylabel("BLEU")
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, metadata={"Date": None} if picture.suffix == ".svg" else None)


def main() -> None:
    """Train one model, or score those there are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "score"))
    parser.add_argument("--model", choices=MODELS, default="transformer")
    parser.add_argument("--work", type=Path, default=Path("runs/lengths"))
    parser.add_argument("--tokens", type=int, default=8_000_000, help="target tokens each model sees")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--picture", type=Path, help="where the curves are drawn: .svg, .png or .pdf")
    parser.add_argument("overrides", nargs="*", help="key.path=value, laid over the recipe")
    options = parser.parse_intermixed_args()
    if options.what == "train":
        train(options.work, options.model, options.tokens, options.threads, options.overrides, options.resume)
    else:
        score(options.work, options.picture)


if __name__ == "__main__":
    main()
