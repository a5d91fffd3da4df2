"""The part of `trasluz evaluate` that scores labels of texts and tags of words."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trasluz.cli.streams import answer, answer_json, progress, remark, write_lines

if TYPE_CHECKING:
    from trasluz.tasks.classifier import Classification, Classifier
    from trasluz.tasks.tagger import Tagger


def evaluate_classes(
    classifier: "Classifier",
    entry: Any,
    *,
    pairs: bool,
    on_error: str,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    batch_tokens: int | None,
) -> None:
    """Score a classifier on labelled texts; each figure with its name, then how many texts there were."""
    from trasluz.tasks.grouping import TOGETHER, windows
    from trasluz.text.readers import ReadReport
    from trasluz.training.classification_job import label_metrics
    from trasluz.training.labelled_examples import label_numbers, read_labelled
    from trasluz.training.labelled_stream import label_tensor
    from trasluz.training.signatures import label_signature

    report = ReadReport()
    kind, labels = classifier.config.label_kind, classifier.labels
    examples = list(read_labelled(entry, pairs=pairs, kind=kind, labels=labels, on_error=on_error, report=report))
    gold = [label_numbers(one, kind, labels) for one in examples]
    if report.malformed:
        remark(report.summary(), quiet=quiet)

    def answers() -> "Iterator[Classification]":
        for some in windows(examples, TOGETHER):
            seconds = [one.second_text or "" for one in some] if pairs else None
            yield from classifier([one.text for one in some], seconds, batch_tokens=batch_tokens)

    found = list(progress(answers(), len(examples), classifier.name, quiet=quiet))
    left_out = sum(one.left_out > 0 for one in found)
    if left_out:
        remark(f"{left_out:,} of {len(found):,} texts were cut to {classifier.longest_text:,} tokens", quiet=quiet)
    truth = label_tensor(gold, kind, len(classifier.labels)).numpy()
    metrics = label_metrics(truth, _scores(classifier, found), kind)
    if out is not None:
        write_lines(out, (", ".join(one.labels) if kind != "number" else str(one.score) for one in found))
    signature = label_signature(len(found), len(classifier.labels), kind)
    if as_json:
        answer_json({**metrics, "signature": signature})
        return
    for name, value in metrics.items():
        answer(f"{name:<18} {value:.4f}  {signature}")


def evaluate_tags(
    tagger: "Tagger",
    entry: Any,
    *,
    on_error: str,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    batch_tokens: int | None,
) -> None:
    """Score a tagger on tagged words, which it gets as they are cut in the file."""
    from trasluz.text.readers import ReadReport
    from trasluz.training.entity_metrics import entity_metrics, entity_scores
    from trasluz.training.signatures import entity_signature
    from trasluz.training.tagged_examples import read_tagged

    report = ReadReport()
    examples = list(read_tagged(entry, labels=tagger.labels, on_error=on_error, report=report))
    if report.malformed:
        remark(report.summary(), quiet=quiet)
    tags = list(
        progress(
            tagger.tag_words([one.words for one in examples], batch_tokens=batch_tokens),
            len(examples),
            tagger.name,
            quiet=quiet,
        )
    )
    gold = [tagger.entities_of(one.tags) for one in examples]
    found = [tagger.entities_of(one) for one in tags]
    if out is not None:
        write_lines(out, (" ".join(one) for one in tags))
    metrics = entity_metrics(gold, found)
    if not tagger.finds_entities:
        pairs = [pair for one, other in zip(examples, tags, strict=True) for pair in zip(one.tags, other, strict=True)]
        metrics = {"accuracy": sum(a == b for a, b in pairs) / max(len(pairs), 1), **metrics}
    by_label = {label: score.f1 for label, score in entity_scores(gold, found).items()}
    signature = entity_signature(gold)
    if as_json:
        answer_json({**metrics, "entity_f1_by_label": by_label, "signature": signature})
        return
    for name, value in metrics.items():
        answer(f"{name:<18} {value:.4f}  {signature}")
    for label, value in sorted(by_label.items()):
        answer(f"entity_f1 {label:<8} {value:.4f}")


def _scores(classifier: "Classifier", found: "list[Classification]") -> Any:
    import numpy as np

    scores = np.array([[one.scores[label] for label in classifier.labels] for one in found])
    # A label of several holds from one half on.
    return scores - 0.5 if classifier.config.label_kind == "several" else scores
