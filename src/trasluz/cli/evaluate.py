"""`trasluz evaluate`: translations scored against references, with signatures that let others repeat the figures."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from trasluz.cli.data_words import data_entry, guess_languages, told_of_data
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
from trasluz.cli.streams import answer, answer_json, remark

if TYPE_CHECKING:
    from trasluz.tasks.directions import Direction
    from trasluz.tasks.translator import Translator
    from trasluz.text.readers import Pair

T = TypeVar("T")


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
    The signature beside a figure tells how the figure was computed.
    """
    from trasluz.errors import RequestError

    entry: Any = data_entry("--data", data or [], told_of_data(format_, columns))
    task = load_task(common, model, task_name)
    kind = "generate" if getattr(task, "attention_kind", None) == "decoder" else getattr(task, "head_name", None)
    # What each kind of model is told beside what all are.
    own: dict[str | None, dict[str, Any]] = {
        "classify": {"pairs": pairs, "out": out},
        "tag": {"out": out},
        "answer": {"rules_name": rules or "squad", "out": out},
        "generate": {"document": document or "line", "stride": stride},
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
        "--out": out,
    }
    refuse_foreign("translate" if hasattr(task, "directions") else kind, model, given)
    if kind in own:
        told = {"on_error": on_error, "as_json": as_json, "quiet": common.quiet, "batch_tokens": common.batch_tokens}
        scorer_of(kind)(task, entry, **told, **own[kind])
        return
    if not hasattr(task, "directions"):
        raise RequestError(
            f"{model} is for {kind}, which has no score; what translates, classifies, tags, finds answers or continues "
            "texts has one. Of a model that does several things, say which: --task classify."
        )
    translator: Translator = task
    options: dict[str, Any] = {"beam": beam, "length_penalty": length_penalty, "batch_tokens": common.batch_tokens}
    directions = directions_of(translator, to, from_)
    if out is not None and len(directions) > 1:
        raise RequestError(
            f"--out takes the translations of one direction, and {translator.name} has two: say which with --to."
        )
    translator([], directions[0].to_language, directions[0].from_language, **options)
    read: dict[tuple[str, str], list[Pair]] = {}
    for direction in directions:
        source, target = data_languages(direction, entry)
        # Both ways between two languages go by the same pairs, read once.
        languages = data_languages(first_between(translator, source, target) or direction, entry)
        if languages not in read:
            read[languages] = read_all(entry, languages, on_error, quiet=common.quiet)
        pairs_read = read[languages] if source == languages[0] else [turned(pair) for pair in read[languages]]
        pairs_read = that_fit(translator, direction, pairs_read, on_error, quiet=common.quiet)
        sources, references = [pair.source for pair in pairs_read], [pair.target for pair in pairs_read]
        way = f"{source}-{target}"
        found = translator.stream(sources, direction.to_language, direction.from_language, **options)
        texts = [one.text for one in progress(found, len(sources), way, quiet=common.quiet)]
        report = {"from": source, "to": target, "sentences": len(texts)}
        report |= scores(texts, references, lowercase=lowercase)
        if out is not None:
            write_lines(out, texts)
        if as_json:
            answer_json(report)
            continue
        for name in ("bleu", "chrf"):
            answer(f"{way}  {name:<5} {report[name]:6.2f}  {report[f'{name}_signature']}")


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
    "--out": ("translate", "classify", "tag", "answer"),
}
"""The kinds of models that an option of only some means something to."""


def refuse_foreign(kind: str | None, model: str, given: dict[str, Any]) -> None:
    """Raise RequestError for an option that would change nothing; of a kind that is not scored, another one tells."""
    from trasluz.errors import RequestError

    kinds = {one for meant in _MEANT_FOR.values() for one in meant}
    for name, value in given.items():
        if value is not None and kind in kinds and kind not in _MEANT_FOR[name]:
            heeded = ", ".join(option for option, meant in _MEANT_FOR.items() if kind in meant)
            raise RequestError(f"{name} means nothing to {model}, whose task is {kind}; what does is {heeded}.")


def scorer_of(kind: str | None) -> Callable[..., None]:
    """Return what scores a kind of model that does not translate."""
    from trasluz.cli import evaluate_answers, evaluate_generated, evaluate_texts

    scorers: dict[str | None, Callable[..., None]] = {
        "classify": evaluate_texts.evaluate_classes,
        "tag": evaluate_texts.evaluate_tags,
        "answer": evaluate_answers.evaluate_answers,
        "generate": evaluate_generated.evaluate_documents,
    }
    return scorers[kind]


def directions_of(translator: "Translator", to: str | None, from_: str | None) -> "list[Direction]":
    """Return the direction asked for, or all the model has."""
    if to is None and from_ is None:
        return list(translator.directions.all)
    return [translator.directions.choose(to, from_)]


def data_languages(direction: "Direction", entry: Any) -> tuple[str, str]:
    """Return the languages of the two sides: the model's, or where it does not say them, those the data tell."""
    if direction.from_language is not None and direction.to_language is not None:
        return direction.from_language, direction.to_language
    first, second = guess_languages(entry, "name both in braces, as in test.{en,es}, or in a header")
    return (second, first) if direction.to_language == first else (first, second)


def first_between(translator: "Translator", source: str, target: str) -> "Direction | None":
    """Return a model's first direction between two languages, in whose order columns without names are read."""
    both = {source, target}
    return next((one for one in translator.directions.all if {one.from_language, one.to_language} == both), None)


def read_all(entry: Any, languages: tuple[str, str], on_error: str, *, quiet: bool) -> "list[Pair]":
    """Return all pairs, and tell what was left out."""
    from trasluz.text.readers import ReadReport, read_pairs

    report = ReadReport()
    pairs = list(read_pairs(entry, languages, on_error=on_error, report=report))
    if report.malformed:
        remark(report.summary(), quiet=quiet)
    return pairs


def turned(pair: "Pair") -> "Pair":
    """Return a pair the other way round."""
    return pair._replace(source=pair.target, target=pair.source)


def that_fit(
    translator: "Translator", direction: "Direction", pairs: "list[Pair]", on_error: str, *, quiet: bool
) -> "list[Pair]":
    """Return the pairs whose source the model can read; others are refused before any work, or left out and told."""
    from trasluz.errors import DataError

    most = translator.longest_source
    lengths = translator.lengths([pair.source for pair in pairs], direction.to_language, direction.from_language)
    too_long = [(pair.place, length) for pair, length in zip(pairs, lengths, strict=True) if length > most]
    if too_long and on_error == "stop":
        place, length = too_long[0]
        raise DataError(
            f"{place}: the text has {length:,} tokens, but {translator.name} takes at most {most:,}: cut it into "
            "sentences, or leave such texts out with --on-error skip."
        )
    if too_long:
        remark(f"Left out: {len(too_long):,} texts of more than {most:,} tokens, at {too_long[0][0]}.", quiet=quiet)
    return [pair for pair, length in zip(pairs, lengths, strict=True) if length <= most]


def scores(texts: list[str], references: list[str], *, lowercase: bool) -> dict[str, Any]:
    """Return BLEU (Papineni et al. 2002) and chrF (Popović 2015) as sacreBLEU (Post 2018) computes them."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    found: dict[str, Any] = {}
    for name, metric in (("bleu", BLEU(lowercase=lowercase)), ("chrf", CHRF(lowercase=lowercase))):
        found[name] = round(float(metric.corpus_score(texts, [references]).score), 4)
        found[f"{name}_signature"] = str(metric.get_signature())
    return found


def progress(items: Iterable[T], total: int, what: str, *, quiet: bool) -> Iterator[T]:
    """Show how far the work has come, where somebody sees it."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, what, total, console=console, transient=True, disable=quiet or not console.is_terminal)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines into a file that appears only when all are there."""
    from trasluz.files import atomic_write

    with atomic_write(path, "w", follow_links=True) as file:
        file.writelines(f"{line}\n" for line in lines)
