"""How many texts a second does one classifier label, beside others: a student beside its teacher.

    python benchmarks/classifier_speed.py runs/sst2-student runs/sst2-minilm --data test.tsv

The models label the same texts in turns, from the text on, round after round; the first round warms up and is not
counted. The ratio of the first to each of the others is the median of the rounds' ratios.
"""

import argparse
import time
from collections.abc import Sequence

from alternate import Spread, ratio


def rates(models: Sequence[str], texts: list[str], rounds: int, dtype: str, threads: int | None) -> list[list[float]]:
    """Return the texts a second of every model, round by round."""
    import trasluz
    from trasluz.devices import set_threads, tune_allocator

    # As the command line does before it loads a model.
    tune_allocator()
    set_threads(threads)
    classifiers = [trasluz.load(model, task="classify", dtype=dtype) for model in models]
    found: list[list[float]] = [[] for _ in models]
    for number in range(rounds + 1):
        for classify, own in zip(classifiers, found, strict=True):
            start = time.perf_counter()
            classify(texts)
            if number:
                own.append(len(texts) / (time.perf_counter() - start))
    return found


def main() -> None:
    """Read the options, measure and print a line a model."""
    from trasluz.text.readers import read_records

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True, help="a table with a column `text`")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    texts = [cells[0] for cells, _ in read_records(options.data, ("text",))]
    first, *others = rates(options.models, texts, options.rounds, options.dtype, options.threads)
    print(f"{options.models[0]}: {Spread.of(first)} texts/s, {len(texts):,} texts, {options.rounds} rounds")
    for model, own in zip(options.models[1:], others, strict=True):
        print(f"{model}: {Spread.of(own)} texts/s; the first is {ratio(first, own)} times as fast")


if __name__ == "__main__":
    main()
