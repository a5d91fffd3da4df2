"""Cuts a file in the form of SQuAD into train.json, valid.json and test.json, whole articles at a time.

    python benchmarks/article_splits.py xquad.en.json FOLDER [--sizes 32,6,10] [--seed 1]

Paragraphs of one article tell of the same people and years, so that a cut between them would flatter. Articles are
drawn by their place in the file: the same articles in another language, as XQuAD has them, are cut alike by a seed.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

PARTS = ("train", "valid", "test")


def split(path: Path, folder: Path, sizes: Sequence[int], seed: int) -> dict[str, int]:
    """Write the parts into a folder; return how many questions each has."""
    whole = json.loads(path.read_text(encoding="utf-8"))
    articles = whole["data"]
    if sum(sizes) > len(articles):
        raise SystemExit(f"{path} has {len(articles)} articles, fewer than {'+'.join(map(str, sizes))}")
    order = random.Random(seed).sample(range(len(articles)), sum(sizes))
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name, size in zip(PARTS, sizes, strict=True):
        own, order = sorted(order[:size]), order[size:]
        part = [articles[place] for place in own]
        counts[name] = sum(len(paragraph["qas"]) for article in part for paragraph in article["paragraphs"])
        text = json.dumps({**whole, "data": part}, ensure_ascii=False, indent=1)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return counts


def main() -> None:
    """Read the options, cut, and print the counts as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", default="32,6,10", help="articles for training, validation and test")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps(split(options.path, options.folder, [*map(int, options.sizes.split(","))], options.seed)))


if __name__ == "__main__":
    main()
