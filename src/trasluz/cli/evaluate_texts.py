"""The part of `trasluz evaluate` that scores labels of texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trasluz.cli.streams import answer, answer_json, remark

if TYPE_CHECKING:
    from trasluz.tasks.classifier import Classification, Classifier


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
    import trasluz
    from trasluz.cli.evaluate import progress, write_lines
    from trasluz.text.readers import ReadReport
    from trasluz.training.classification_job import label_metrics
    from trasluz.training.labelled_examples import label_numbers, read_labelled
    from trasluz.training.labelled_stream import label_tensor

    report = ReadReport()
    examples = list(read_labelled(entry, pairs=pairs, on_error=on_error, report=report))
    kind = classifier.config.label_kind
    gold = [label_numbers(one, kind, classifier.labels) for one in examples]
    if report.malformed:
        remark(report.summary(), quiet=quiet)

    def answers() -> "Iterator[Classification]":
        together = 512
        for begin in range(0, len(examples), together):
            some = examples[begin : begin + together]
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
    signature = f"texts:{len(found)}|labels:{len(classifier.labels)}|kind:{kind}|trasluz:{trasluz.__version__}"
    if as_json:
        answer_json({**metrics, "signature": signature})
        return
    for name, value in metrics.items():
        answer(f"{name:<18} {value:.4f}  {signature}")


def _scores(classifier: "Classifier", found: "list[Classification]") -> Any:
    import numpy as np

    scores = np.array([[one.scores[label] for label in classifier.labels] for one in found])
    # A label of several holds from one half on.
    return scores - 0.5 if classifier.config.label_kind == "several" else scores
