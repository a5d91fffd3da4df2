"""Is one classifier better than others on the same texts, or was it chance?

    python benchmarks/compare_classifiers.py runs/imdb-long runs/imdb-start runs/imdb-ends --data test.tsv

The first is compared with each of the others: accuracies in per cent, and the difference with its 95 % interval by
paired bootstrap over the texts (Koehn 2004): 10,000 samples, the same texts for both. Several files, such as the folds
of a cross-validation, are taken together where `{}` stands in the models' names and in `--data`:

    python benchmarks/compare_classifiers.py 'runs/long-{}' 'runs/start-{}' --data 'sets/fold-{}/test.tsv' --folds 5
"""

import argparse
from collections.abc import Sequence

import numpy as np

SAMPLES = 10_000


def correct(models: str, data: str, folds: Sequence[str], dtype: str) -> np.ndarray:
    """Return, for every text of all folds, whether the model of its fold labels it right."""
    import trasluz
    from trasluz.text.readers import ReadReport
    from trasluz.training.labelled_examples import read_labelled

    found = []
    for fold in folds:
        classify = trasluz.load(models.format(fold), task="classify", dtype=dtype)
        path = data.format(fold)
        examples = list(read_labelled(path, pairs=False, kind="one", on_error="stop", report=ReadReport()))
        answers = classify([one.text for one in examples])
        found += [answer.label == one.label for answer, one in zip(answers, examples, strict=True)]
    return np.array(found)


def interval(difference: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean of differences, in per cent."""
    draw = np.random.default_rng(seed)
    means = [difference[draw.integers(len(difference), size=len(difference))].mean() for _ in range(SAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return 100 * low, 100 * high


def main() -> None:
    """Compare the first model with each of the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--folds", type=int, default=0, help="how many; 0: the names are taken as they are")
    parser.add_argument("--dtype", default="fp32")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folds = [str(fold + 1) for fold in range(options.folds)] or [""]
    right = {model: correct(model, options.data, folds, options.dtype) for model in options.models}
    first, *others = options.models
    print(f"{first}: {100 * right[first].mean():.2f} % of {len(right[first]):,}")
    for other in others:
        difference = right[first].astype(float) - right[other].astype(float)
        low, high = interval(difference, options.seed)
        print(
            f"{other}: {100 * right[other].mean():.2f} %; {first} is {100 * difference.mean():+.2f} "
            f"({low:+.2f} to {high:+.2f}) beside it"
        )


if __name__ == "__main__":
    main()
