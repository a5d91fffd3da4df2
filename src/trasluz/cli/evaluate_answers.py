"""The part of `trasluz evaluate` that scores answers to questions."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trasluz.cli.streams import answer, answer_json, progress, remark, write_lines

if TYPE_CHECKING:
    from trasluz.tasks.answerer import Answer, Answerer


def evaluate_answers(
    answerer: "Answerer",
    entry: Any,
    *,
    rules_name: str,
    on_error: str,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    batch_tokens: int | None,
) -> None:
    """Score answers in per cent; that there is none is an answer where some question of the data has none."""
    from trasluz.errors import RequestError, nearest
    from trasluz.tasks.grouping import TOGETHER, windows
    from trasluz.text.readers import ReadReport
    from trasluz.training.answer_examples import read_questions
    from trasluz.training.answer_metrics import RULES, answer_metrics, rules_for
    from trasluz.training.signatures import answer_signature

    if rules_name not in RULES:
        close = nearest(rules_name, RULES)
        hint = f"did you mean {close}?" if close else f"there are {', '.join(RULES)}."
        raise RequestError(f"--rules is {rules_name!r}; {hint}")
    report = ReadReport()
    examples = list(read_questions(entry, on_error=on_error, report=report))
    if report.malformed:
        remark(report.summary(), quiet=quiet)
    gold = [one.answers for one in examples]
    rules = rules_for(rules_name, gold)

    def answers() -> "Iterator[Answer]":
        for some in windows(examples, TOGETHER):
            yield from answerer(
                [one.question for one in some],
                [one.context for one in some],
                no_answer=rules.may_have_no_answer,
                batch_tokens=batch_tokens,
            )

    found = [one.text for one in progress(answers(), len(examples), answerer.name, quiet=quiet)]
    metrics = answer_metrics(found, gold, rules)
    if out is not None:
        # An answer that goes over several lines is still one.
        write_lines(out, (" ".join(text.split()) for text in found))
    signature = answer_signature(gold, rules_name, answerer.longest_text)
    if as_json:
        answer_json({**metrics, "signature": signature})
        return
    for name, value in metrics.items():
        answer(f"{name:<18} {value:.2f}  {signature}")
