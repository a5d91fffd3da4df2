"""How good predicted classes, sets of classes and numbers are.

precision   correct / predicted                          recall   correct / gold
f1          2 correct / (predicted + gold)               of one class; 0 where nothing is divided by nothing
macro_f1    mean of the f1 of the classes                micro_f1   f1 of the counts of all classes together
matthews    (c n - p·g) / sqrt((n² - p·p) (n² - g·g))    c correct of n; p, g: how often each class is predicted, gold

The last is the correlation R_K of Gorodkin (2004), for two classes the coefficient of Matthews (1975). All of these are
fractions: 0 to 1, and -1 to 1 for the correlations. Every definition, that of the degenerate cases too, is that of
scikit-learn and SciPy, against which they are tested.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer


@dataclass(frozen=True)
class Score:
    """How well one class, or one label of entities, is found: fractions, and how many there are (`support`)."""

    precision: float
    recall: float
    f1: float
    support: int

    @classmethod
    def of(cls, correct: int, predicted: int, gold: int) -> "Score":
        """Return the score of three counts; precision of no prediction and recall of no gold are 0, and so is f1."""
        return cls(
            precision=correct / predicted if predicted else 0.0,
            recall=correct / gold if gold else 0.0,
            f1=2 * correct / (predicted + gold) if predicted + gold else 0.0,
            support=gold,
        )


def classification_metrics(
    gold: Integer[np.ndarray, "sentences"], predicted: Integer[np.ndarray, "sentences"], num_classes: int
) -> dict[str, float]:
    """Return accuracy, macro_f1, micro_f1 and matthews of one class for each text.

    The mean of macro_f1 is over the classes that occur, in gold or predicted. With one class a text, micro_f1 is the
    accuracy. matthews is 0 where either side has one class only. Without any text all four are 0.
    """
    if not len(gold):
        return dict.fromkeys(("accuracy", "macro_f1", "micro_f1", "matthews"), 0.0)
    correct, of_predicted, of_gold = _counts(gold, predicted, num_classes)
    accuracy = int(correct.sum()) / len(gold)
    occurring = of_predicted + of_gold > 0
    return {
        "accuracy": accuracy,
        "macro_f1": float(_f1_of_each(correct, of_predicted, of_gold)[occurring].mean()),
        "micro_f1": accuracy,
        "matthews": _matthews(int(correct.sum()), of_predicted.tolist(), of_gold.tolist()),
    }


def class_scores(
    gold: Integer[np.ndarray, "sentences"], predicted: Integer[np.ndarray, "sentences"], num_classes: int
) -> list[Score]:
    """Return the score of each class, in the order of their ids."""
    return _scores(*_counts(gold, predicted, num_classes))


def multi_label_metrics(
    gold: Bool[np.ndarray, "sentences classes"], predicted: Bool[np.ndarray, "sentences classes"]
) -> dict[str, float]:
    """Return micro_f1, macro_f1 and subset_accuracy of any number of classes for each text.

    subset_accuracy is the fraction of texts whose classes are all right, often called exact match. The mean of macro_f1
    is over all classes; one that occurs nowhere counts as 0. Without any text all three are 0.
    """
    if not len(gold):
        return dict.fromkeys(("micro_f1", "macro_f1", "subset_accuracy"), 0.0)
    counts = _multi_label_counts(gold, predicted)
    return {
        "micro_f1": Score.of(*(int(count.sum()) for count in counts)).f1,
        "macro_f1": float(_f1_of_each(*counts).mean()),
        "subset_accuracy": float((gold == predicted).all(axis=1).mean()),
    }


def multi_label_scores(
    gold: Bool[np.ndarray, "sentences classes"], predicted: Bool[np.ndarray, "sentences classes"]
) -> list[Score]:
    """Return the score of each class, in the order of the columns."""
    return _scores(*_multi_label_counts(gold, predicted))


def regression_metrics(
    gold: Float[np.ndarray, "sentences"], predicted: Float[np.ndarray, "sentences"]
) -> dict[str, float]:
    """Return pearson, spearman and mean_squared_error of one number for each text.

    spearman is pearson of the ranks, where equal numbers share the mean of theirs. Both are nan where either side is
    constant, has fewer than two numbers, or has one that is not finite. mean_squared_error of no text is nan.
    """
    wanted, found = gold.astype(np.float64), predicted.astype(np.float64)
    usable = len(wanted) > 1 and bool(np.isfinite(wanted).all() and np.isfinite(found).all())
    return {
        "pearson": _pearson(wanted, found) if usable else math.nan,
        "spearman": _pearson(_mean_ranks(wanted), _mean_ranks(found)) if usable else math.nan,
        "mean_squared_error": float(np.mean((wanted - found) ** 2)) if len(wanted) else math.nan,
    }


# How often each class is correct, predicted and gold.
_Counts = tuple[Integer[np.ndarray, "classes"], Integer[np.ndarray, "classes"], Integer[np.ndarray, "classes"]]


def _counts(
    gold: Integer[np.ndarray, "sentences"], predicted: Integer[np.ndarray, "sentences"], num_classes: int
) -> _Counts:
    ids = np.concatenate([gold, predicted])
    if len(ids) and not 0 <= ids.min() <= ids.max() < num_classes:
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise ValueError(f"class {wrong} is none of {num_classes} classes; their ids are 0 to {num_classes - 1}")
    return (
        np.bincount(gold[gold == predicted], minlength=num_classes),
        np.bincount(predicted, minlength=num_classes),
        np.bincount(gold, minlength=num_classes),
    )


def _multi_label_counts(
    gold: Bool[np.ndarray, "sentences classes"], predicted: Bool[np.ndarray, "sentences classes"]
) -> _Counts:
    return (gold & predicted).sum(axis=0), predicted.sum(axis=0), gold.sum(axis=0)


def _scores(
    correct: Integer[np.ndarray, "classes"],
    predicted: Integer[np.ndarray, "classes"],
    gold: Integer[np.ndarray, "classes"],
) -> list[Score]:
    rows = zip(correct.tolist(), predicted.tolist(), gold.tolist(), strict=True)
    return [Score.of(*row) for row in rows]


def _f1_of_each(
    correct: Integer[np.ndarray, "classes"],
    predicted: Integer[np.ndarray, "classes"],
    gold: Integer[np.ndarray, "classes"],
) -> Float[np.ndarray, "classes"]:
    return 2 * correct / np.maximum(predicted + gold, 1)


def _matthews(correct: int, predicted: list[int], gold: list[int]) -> float:
    # In whole numbers of any size: squares of counts are exact, and no product overflows.
    count = sum(gold)
    covariance = correct * count - sum(p * g for p, g in zip(predicted, gold, strict=True))
    spread = (count**2 - sum(p * p for p in predicted)) * (count**2 - sum(g * g for g in gold))
    return covariance / math.sqrt(spread) if spread else 0.0


def _pearson(first: Float[np.ndarray, "sentences"], second: Float[np.ndarray, "sentences"]) -> float:
    # Asked of the numbers themselves: their rounded mean can make a constant look as if it varied.
    if (first == first[0]).all() or (second == second[0]).all():
        return math.nan
    first, second = (_centred(numbers) for numbers in (first, second))
    return max(-1.0, min(1.0, float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))))


def _centred(numbers: Float[np.ndarray, "sentences"]) -> Float[np.ndarray, "sentences"]:
    numbers = numbers - numbers.mean()
    # A correlation does not see the scale, and at this one no square leaves the range of a float.
    return numbers / np.abs(numbers).max()


def _mean_ranks(numbers: Float[np.ndarray, "sentences"]) -> Float[np.ndarray, "sentences"]:
    _, places, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]
