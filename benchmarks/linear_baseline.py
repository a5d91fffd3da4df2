"""What attention has to beat: a linear model on word counts (TF-IDF, logistic regression), on the same labelled texts.

    python benchmarks/linear_baseline.py --train train.tsv --test test.tsv [--valid valid.tsv] [--columns text=sentence]

Words and pairs of words, counted by their logarithm and weighed by rarity (Salton and Buckley 1988). Without `--valid`
the strength of the penalty is chosen on the texts that trasluz itself would hold out by this seed. Prints one line of
JSON. Needs scikit-learn.
"""

import argparse
import json
import tempfile
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from training_batches import prepared

from trasluz.cli.data_words import named_columns
from trasluz.text.readers import ReadReport
from trasluz.training.labelled_examples import LabelledExamples, read_labelled
from trasluz.training.recipe_file import parse_recipe

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)


def texts_and_labels(entry: Any) -> tuple[list[str], list[str]]:
    """Return the texts of a `data` entry and their labels."""
    found = list(read_labelled(entry, pairs=False, kind="one", on_error="stop", report=ReadReport()))
    return [one.text for one in found], [one.label for one in found]


def held_out(entry: Any, seed: int) -> set[str]:
    """Return the texts that a run with this seed would hold out."""
    with tempfile.TemporaryDirectory() as folder:
        described = {"task": "classify", "data": {"train": entry}, "tokenizer": {"kind": "wordpiece"}, "output": folder}
        described |= {"model": "bert-tiny", "training": {"seed": seed, "max_steps": 1}}
        recipe = parse_recipe(json.dumps(described))
        return {one.text for one in prepared(recipe, LabelledExamples(recipe)).valid}


def linear_accuracy(train: Any, valid: Any, test: Any, seed: int) -> dict[str, float]:
    """Choose the penalty on `valid` (None: on what a run with this seed holds out), score the test once."""
    texts, labels = texts_and_labels(train)
    if valid is not None:
        valid_texts, valid_labels = texts_and_labels(valid)
    else:
        apart = held_out(train, seed)
        pairs = list(zip(texts, labels, strict=True))
        valid_texts, valid_labels = (
            list(side) for side in zip(*(one for one in pairs if one[0] in apart), strict=True)
        )
        texts, labels = (list(side) for side in zip(*(one for one in pairs if one[0] not in apart), strict=True))
    counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    known, held = counts.fit_transform(texts), counts.transform(valid_texts)
    scores = {}
    for penalty in PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=1000).fit(known, labels)
        scores[penalty] = float(model.score(held, valid_labels))
    best = max(scores, key=scores.__getitem__)
    test_texts, test_labels = texts_and_labels(test)
    model = LogisticRegression(C=best, max_iter=1000).fit(known, labels)
    return {
        "accuracy": float(model.score(counts.transform(test_texts), test_labels)),
        "C": best,
        "valid": scores[best],
        "training_texts": len(texts),
        "texts": len(test_texts),
    }


def main() -> None:
    """Choose the penalty, train on what is left, and score the test once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", required=True)
    parser.add_argument("--valid")
    parser.add_argument("--test", required=True)
    parser.add_argument("--columns", help="as of `trasluz evaluate`")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    columns = {"columns": named_columns(options.columns)} if options.columns else {}
    train, valid, test = (
        {"path": path, **columns} if path else None for path in (options.train, options.valid, options.test)
    )
    print(json.dumps(linear_accuracy(train, valid, test, options.seed)))


if __name__ == "__main__":
    main()
