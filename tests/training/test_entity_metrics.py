"""Entities are counted as seqeval counts them."""

import random
import warnings

import pytest
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from trasluz.text.entities import Entity, decode_entities
from trasluz.training.classification_metrics import Score
from trasluz.training.entity_metrics import entity_metrics, entity_scores

LABELS = ("PER", "LOC", "ORG-PART")
TAGS = ["O", "O", "O"] + [f"{prefix}-{label}" for prefix in "BBIIES" for label in LABELS]


def test_an_entity_counts_where_label_and_both_ends_are_right() -> None:
    gold = [[Entity("PER", 0, 2), Entity("LOC", 3, 4)], [Entity("LOC", 0, 1)]]
    predicted = [[Entity("PER", 0, 2), Entity("LOC", 3, 5)], [Entity("PER", 0, 1), Entity("LOC", 2, 3)]]
    assert entity_metrics(gold, predicted) == {
        "entity_precision": 1 / 4,
        "entity_recall": 1 / 3,
        "entity_f1": 2 / 7,
    }
    assert entity_scores(gold, predicted) == {
        "LOC": Score(0.0, 0.0, 0.0, 2),
        "PER": Score(1 / 2, 1.0, 2 / 3, 1),
    }


@pytest.mark.parametrize(("gold", "predicted"), [([], []), ([[]], [[]]), ([[Entity("PER", 0, 1)]], [[]])])
def test_nothing_found_is_nothing_divided_by_nothing(gold: list, predicted: list) -> None:
    assert set(entity_metrics(gold, predicted).values()) == {0.0}


def test_an_entity_of_one_text_is_not_that_of_another() -> None:
    assert entity_metrics([[Entity("PER", 0, 1)], []], [[], [Entity("PER", 0, 1)]])["entity_f1"] == 0.0


def test_every_text_needs_its_prediction() -> None:
    with pytest.raises(ValueError, match="shorter"):
        entity_metrics([[], []], [[]])


def test_any_tags_get_the_numbers_of_seqeval() -> None:
    draw = random.Random(5)
    with warnings.catch_warnings():
        # That nothing was divided by nothing.
        warnings.simplefilter("ignore")
        for _ in range(1000):
            gold, predicted = [], []
            for _ in range(draw.randint(1, 4)):
                gold.append([draw.choice(TAGS) for _ in range(draw.randint(1, 8))])
                predicted.append([draw.choice(TAGS) if draw.random() < 0.4 else tag for tag in gold[-1]])
            spans = [decode_entities(tags) for tags in gold], [decode_entities(tags) for tags in predicted]
            precision, recall, f1, _ = precision_recall_fscore_support(gold, predicted, average="micro")
            assert entity_metrics(*spans) == pytest.approx(
                {"entity_precision": precision, "entity_recall": recall, "entity_f1": f1}, rel=1e-12
            )
            scores = entity_scores(*spans)
            # A row a label, in the order of the alphabet.
            theirs = zip(*precision_recall_fscore_support(gold, predicted), strict=True)
            for (label, score), row in zip(scores.items(), theirs, strict=True):
                found = (score.precision, score.recall, score.f1, score.support)
                assert found == pytest.approx(row, rel=1e-12), label
            assert list(scores) == sorted({one.label for side in spans for text in side for one in text})
