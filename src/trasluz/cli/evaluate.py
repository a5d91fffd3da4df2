"""`trasluz evaluate`: a model scored on data, with signatures that let others repeat the figures."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from trasluz.cli.data_words import data_entry, told_of_data
from trasluz.cli.evaluate_answers import evaluate_answers
from trasluz.cli.evaluate_generated import evaluate_documents
from trasluz.cli.evaluate_masked import evaluate_masked_words
from trasluz.cli.evaluate_texts import evaluate_classes, evaluate_tags
from trasluz.cli.evaluate_translations import evaluate_translations
from trasluz.cli.options import (
    Columns,
    CommonOptions,
    Format,
    From,
    Model,
    Pairs,
    TaskName,
    To,
    load_task,
    with_common_options,
)


@with_common_options
def evaluate(
    common: CommonOptions,
    model: Model,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA", help="Texts with references: test.{en,es}, pairs.tsv, pairs.jsonl; may be repeated."
        ),
    ] = None,
    from_: From = None,
    to: To = None,
    beam: Annotated[int | None, typer.Option(metavar="N", help="Hypotheses followed at once; 1 is greedy.")] = None,
    length_penalty: Annotated[
        float | None, typer.Option(metavar="A", help="As of `trasluz translate`; 0: none.")
    ] = None,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Score without regard to case.")] = False,
    columns: Columns = None,
    format_: Format = None,
    pairs: Pairs = False,
    task_name: TaskName = None,
    rules: Annotated[
        str | None,
        typer.Option(
            metavar="squad|mlqa-en|mlqa-es", help="What makes no difference between two answers; squad if not given."
        ),
    ] = None,
    document: Annotated[
        str | None,
        typer.Option(
            metavar="line|file",
            help="What a document of plain text is, for a model that continues it; line if not given.",
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(metavar="N", help="Tokens that a window over a document is moved by; half of it if not given."),
    ] = None,
    masking_unit: Annotated[
        str | None,
        typer.Option(metavar="tokens|words|spans", help="What is masked to be guessed; words if not given."),
    ] = None,
    masking_rate: Annotated[
        float | None, typer.Option(metavar="R", help="Share of the pieces that are masked; 0.15 if not given.")
    ] = None,
    on_error: Annotated[str, typer.Option(metavar="stop|skip", help="What a malformed line does.")] = "stop",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what the model says here, one a line.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a direction.")] = False,
) -> None:
    """Score a model: translations by sacreBLEU and chrF, labels, tags and answers by F1, texts by perplexity.

    A translator for both directions is scored in both, unless --to says which. Labelled texts stand in the columns
    `text` and `label`, tagged words in a CoNLL file (.conll, or --format conll) or in the columns `words` and `tags`,
    questions in the form of SQuAD (.json) or in the columns `question`, `context`, `answer` and `answer_start`.
    A model that continues texts guesses every token of documents, each once, from at least a window less --stride
    before it: lines of plain files, whole ones with --document file, or rows of the column `text`.
    A model that fills masks guesses pieces of such lines or rows that --seed draws: 0 if not given, as in training.
    The signature beside a figure tells how the figure was computed.
    """
    from trasluz.errors import RequestError

    entry: Any = data_entry("--data", data or [], told_of_data(format_, columns))
    task = load_task(common, model, task_name)
    scorers: dict[str, Callable[..., None]] = {
        "translate": partial(
            evaluate_translations,
            from_=from_,
            to=to,
            beam=beam,
            length_penalty=length_penalty,
            lowercase=lowercase,
            out=out,
        ),
        "classify": partial(evaluate_classes, pairs=pairs, out=out),
        "tag": partial(evaluate_tags, out=out),
        "answer": partial(evaluate_answers, rules_name=rules or "squad", out=out),
        "generate": partial(evaluate_documents, document=document or "line", stride=stride),
        "fill-mask": partial(
            evaluate_masked_words, unit=masking_unit or "words", rate=masking_rate, seed=common.seed or 0
        ),
    }
    given = {
        "--from": from_,
        "--to": to,
        "--beam": beam,
        "--length-penalty": length_penalty,
        "--lowercase": lowercase or None,
        "--pairs": pairs or None,
        "--rules": rules,
        "--document": document,
        "--stride": stride,
        "--masking-unit": masking_unit,
        "--masking-rate": masking_rate,
        "--out": out,
    }
    refuse_foreign(task.verb, model, given)
    if task.verb not in scorers:
        raise RequestError(
            f"{model} is for {task.verb}, which has no score; what translates, classifies, tags, finds answers, "
            "continues texts or fills masks has one. Of a model that does several things, say which: --task classify."
        )
    scorers[task.verb](
        task,
        entry,
        on_error=on_error,
        as_json=as_json,
        quiet=common.quiet,
        batch_tokens=common.batch_tokens,
    )


_MEANT_FOR = {
    "--from": ("translate",),
    "--to": ("translate",),
    "--beam": ("translate",),
    "--length-penalty": ("translate",),
    "--lowercase": ("translate",),
    "--pairs": ("classify",),
    "--rules": ("answer",),
    "--document": ("generate",),
    "--stride": ("generate",),
    "--masking-unit": ("fill-mask",),
    "--masking-rate": ("fill-mask",),
    "--out": ("translate", "classify", "tag", "answer"),
}
"""The tasks that an option of only some means something to."""


def refuse_foreign(verb: str, model: str, given: dict[str, Any]) -> None:
    """Raise RequestError for an option that would change nothing; of a task that is not scored, another one tells."""
    from trasluz.errors import RequestError

    scored = {one for meant in _MEANT_FOR.values() for one in meant}
    for name, value in given.items():
        if value is not None and verb in scored and verb not in _MEANT_FOR[name]:
            heeded = ", ".join(option for option, meant in _MEANT_FOR.items() if verb in meant)
            raise RequestError(f"{name} means nothing to {model}, whose task is {verb}; what does is {heeded}.")
