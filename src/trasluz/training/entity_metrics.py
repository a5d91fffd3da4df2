"""How well entities are found: one is correct where label, start and end all are (Tjong Kim Sang and De Meulder 2003).

    entity_precision = correct / predicted    entity_recall = correct / gold
    entity_f1 = 2 correct / (predicted + gold)

The counts are those of all labels and texts together. All are fractions, 0 to 1, and 0 where nothing is divided by
nothing. On tags read by `decode_entities` they are those of conlleval, and of seqeval as it is called by default.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from trasluz.text.entities import Entity
from trasluz.training.classification_metrics import Score


def entity_metrics(gold: Sequence[Iterable[Entity]], predicted: Sequence[Iterable[Entity]]) -> dict[str, float]:
    """Return entity_precision, entity_recall and entity_f1; both arguments hold the entities of each text, in order."""
    score = Score.of(*(counts.total() for counts in _counts(gold, predicted)))
    return {"entity_precision": score.precision, "entity_recall": score.recall, "entity_f1": score.f1}


def entity_scores(gold: Sequence[Iterable[Entity]], predicted: Sequence[Iterable[Entity]]) -> dict[str, Score]:
    """Return the score of each label that occurs, in gold or predicted, in the order of the alphabet."""
    correct, found, wanted = _counts(gold, predicted)
    return {label: Score.of(correct[label], found[label], wanted[label]) for label in sorted(found | wanted)}


def _counts(
    gold: Sequence[Iterable[Entity]], predicted: Sequence[Iterable[Entity]]
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Return how many entities of each label are correct, predicted and gold."""
    correct, found, wanted = Counter[str](), Counter[str](), Counter[str]()
    for own, other in zip(gold, predicted, strict=True):
        # The same entity twice is one entity.
        own_set, other_set = set(own), set(other)
        wanted.update(entity.label for entity in own_set)
        found.update(entity.label for entity in other_set)
        correct.update(entity.label for entity in own_set & other_set)
    return correct, found, wanted
