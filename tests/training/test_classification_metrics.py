"""Classes, sets of classes and numbers get the figures of scikit-learn and SciPy.

A call of scikit-learn takes milliseconds; so each of the thousand cases is asked of one of its functions, in turn.
"""

import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from trasluz.training.classification_metrics import (
    Score,
    class_scores,
    classification_metrics,
    multi_label_metrics,
    multi_label_scores,
    regression_metrics,
)


@pytest.fixture(autouse=True)
def no_warning_of_theirs() -> Iterator[None]:
    """They warn wherever nothing is divided by nothing, which here happens on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def of_scikit_learn(name: str, gold: np.ndarray, predicted: np.ndarray) -> float:
    if name in ("accuracy", "subset_accuracy"):
        return sklearn.metrics.accuracy_score(gold, predicted)
    if name == "matthews":
        return sklearn.metrics.matthews_corrcoef(gold, predicted)
    return sklearn.metrics.f1_score(gold, predicted, average=name.removesuffix("_f1"))


def rows(scores: list[Score]) -> list[tuple[float, float, float, int]]:
    return [(score.precision, score.recall, score.f1, score.support) for score in scores]


def test_single_labels_by_hand() -> None:
    gold, predicted = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])
    assert classification_metrics(gold, predicted, 4) == pytest.approx(
        {
            "accuracy": 3 / 5,
            "macro_f1": (1 / 2 + 4 / 5 + 0) / 3,
            "micro_f1": 3 / 5,
            # (3 * 5 - (2*2 + 3*2 + 0*1)) / sqrt((25 - 4 - 9) (25 - 4 - 4 - 1))
            "matthews": 5 / math.sqrt(12 * 16),
        }
    )
    assert class_scores(gold, predicted, 4) == [
        Score(1 / 2, 1 / 2, 1 / 2, 2),
        Score(2 / 3, 1.0, 4 / 5, 2),
        Score(0.0, 0.0, 0.0, 1),
        Score(0.0, 0.0, 0.0, 0),
    ]


def test_any_single_labels_get_the_numbers_of_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    for case in range(1000):
        num_classes = int(draw.integers(1, 7))
        gold = draw.integers(0, draw.integers(1, num_classes + 1), size=draw.integers(1, 40))
        noise = draw.integers(0, num_classes, size=len(gold))
        predicted = np.where(draw.random(len(gold)) < draw.random(), noise, gold)
        found = classification_metrics(gold, predicted, num_classes)
        asked = case % (len(found) + 1)
        if asked == len(found):
            theirs = sklearn.metrics.precision_recall_fscore_support(gold, predicted, labels=range(num_classes))
            np.testing.assert_allclose(rows(class_scores(gold, predicted, num_classes)), np.transpose(theirs), 1e-12)
        else:
            name = list(found)[asked]
            assert found[name] == pytest.approx(of_scikit_learn(name, gold, predicted), rel=1e-12, abs=1e-12), name


def test_single_labels_where_there_is_nothing_to_divide() -> None:
    constant = classification_metrics(np.array([0, 1, 1]), np.array([1, 1, 1]), 2)
    assert constant["matthews"] == 0.0 and constant["macro_f1"] == pytest.approx(0.4)
    nothing = np.array([], dtype=np.int64)
    assert classification_metrics(nothing, nothing, 3) == {
        "accuracy": 0.0,
        "macro_f1": 0.0,
        "micro_f1": 0.0,
        "matthews": 0.0,
    }
    assert class_scores(nothing, nothing, 2) == [Score(0.0, 0.0, 0.0, 0)] * 2


def test_matthews_is_exact_where_squares_of_counts_are_large() -> None:
    gold = np.repeat([0, 1], 200_000)
    assert classification_metrics(gold, gold, 2)["matthews"] == 1.0
    assert classification_metrics(gold, 1 - gold, 2)["matthews"] == -1.0


@pytest.mark.parametrize(("wrong", "classes"), [(-100, 3), (3, 3)])
def test_a_class_that_does_not_exist(wrong: int, classes: int) -> None:
    message = rf"^class {wrong} is none of 3 classes; their ids are 0 to 2$"
    with pytest.raises(ValueError, match=message):
        classification_metrics(np.array([0, wrong]), np.array([0, 1]), classes)
    with pytest.raises(ValueError, match=message):
        class_scores(np.array([0, 1]), np.array([0, wrong]), classes)


def test_sets_of_labels_by_hand() -> None:
    gold = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=bool)
    predicted = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]], dtype=bool)
    assert multi_label_metrics(gold, predicted) == pytest.approx(
        {"micro_f1": 4 / 6, "macro_f1": (1 + 2 / 3 + 0 + 0) / 4, "subset_accuracy": 1 / 3}
    )
    assert multi_label_scores(gold, predicted)[1] == Score(1 / 2, 1.0, 2 / 3, 1)
    assert multi_label_metrics(gold[:0], predicted[:0]) == {"micro_f1": 0.0, "macro_f1": 0.0, "subset_accuracy": 0.0}


def test_any_sets_of_labels_get_the_numbers_of_scikit_learn() -> None:
    draw = np.random.default_rng(2)
    for case in range(1000):
        shape = (int(draw.integers(1, 30)), int(draw.integers(2, 7)))
        gold = draw.random(shape) < draw.random()
        predicted = gold ^ (draw.random(shape) < draw.random())
        found = multi_label_metrics(gold, predicted)
        asked = case % (len(found) + 1)
        if asked == len(found):
            theirs = sklearn.metrics.precision_recall_fscore_support(gold, predicted)
            np.testing.assert_allclose(rows(multi_label_scores(gold, predicted)), np.transpose(theirs), 1e-12)
        else:
            name = list(found)[asked]
            assert found[name] == pytest.approx(of_scikit_learn(name, gold, predicted), rel=1e-12), name


def test_any_numbers_get_the_numbers_of_scipy() -> None:
    draw = np.random.default_rng(3)
    constant = 0
    for _ in range(1000):
        size = int(draw.integers(2, 30))
        gold = draw.normal(size=size) * 10.0 ** draw.integers(-6, 7) + draw.normal()
        predicted = gold * draw.normal() + draw.normal(size=size)
        if draw.random() < 0.5:
            # Few values, so that there are ties, and constants.
            gold, predicted = (np.round(numbers / np.abs(numbers).max() * 2) / 5 for numbers in (gold, predicted))
        found = regression_metrics(gold, predicted)
        constant += math.isnan(found["pearson"])
        # abs: where nothing correlates, the sum of what cancels out is rounded.
        assert found == pytest.approx(
            {
                "pearson": scipy.stats.pearsonr(gold, predicted).statistic,
                "spearman": scipy.stats.spearmanr(gold, predicted).statistic,
                "mean_squared_error": sklearn.metrics.mean_squared_error(gold, predicted),
            },
            rel=1e-9,
            abs=1e-9,
            nan_ok=True,
        )
    assert 5 < constant < 200, "some are constant"


def test_equal_numbers_share_the_mean_of_their_ranks() -> None:
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4.
    found = regression_metrics(np.array([1.0, 2.0, 2.0, 5.0]), np.array([0.0, 0.1, 0.2, 9.0]))
    assert found["spearman"] == pytest.approx(4.5 / math.sqrt(4.5 * 5))


@pytest.mark.parametrize(
    ("gold", "predicted"),
    [
        ([0.1, 0.1, 0.1], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [0.1, 0.1, 0.1]),
        ([1.0], [2.0]),
        ([1.0, 2.0, 3.0], [1.0, math.nan, 2.0]),
        ([1.0, 2.0, 3.0], [1.0, math.inf, 2.0]),
        ([], []),
    ],
)
def test_what_has_no_correlation(gold: list[float], predicted: list[float]) -> None:
    found = regression_metrics(np.array(gold), np.array(predicted))
    assert math.isnan(found["pearson"]) and math.isnan(found["spearman"])


def test_mean_squared_error_where_no_correlation_is() -> None:
    assert regression_metrics(np.array([1.0]), np.array([3.0]))["mean_squared_error"] == 4.0
    assert math.isnan(regression_metrics(np.array([]), np.array([]))["mean_squared_error"])


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_a_correlation_does_not_see_the_scale(scale: float) -> None:
    numbers = np.array([1.0, 2.0, 4.0])
    found = regression_metrics(numbers, numbers[::-1] * scale)
    assert found["pearson"] == pytest.approx(regression_metrics(numbers, numbers[::-1])["pearson"], rel=1e-12)


def test_numbers_of_32_bits_are_counted_in_64() -> None:
    numbers = np.arange(5, dtype=np.float32) + np.float32(1e6)
    found = regression_metrics(numbers, numbers + np.float32(0.5))
    assert found == pytest.approx({"pearson": 1.0, "spearman": 1.0, "mean_squared_error": 0.25}, rel=1e-12)
