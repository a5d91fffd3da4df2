"""The verbs of encoders: `fill-mask`, `classify`, `tag`, `answer`, `embed`; a text a line, its answer a line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from trasluz.cli.options import AsJson, CommonOptions, Model, Texts, load_task, with_common_options
from trasluz.cli.streams import answer as answer_line
from trasluz.cli.streams import answer_json, answered, remark

if TYPE_CHECKING:
    from trasluz.tasks.answerer import Answer
    from trasluz.tasks.classifier import Classification
    from trasluz.tasks.embedder import Embedding
    from trasluz.tasks.mask_filler import FilledText
    from trasluz.tasks.tagger import TaggedText

T = TypeVar("T")

# By what the tokenizer keeps of a text that is too long.
_LEFT_OUT = {"start": "the last {}", "end": "the first {}", "ends": "{} in the middle"}


@with_common_options
def fill_mask(
    common: CommonOptions,
    model: Model,
    texts: Texts = None,
    top: Annotated[int, typer.Option(metavar="N", help="Words shown for each masked place.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Guess the masked words of texts, such as "The paper lets the [MASK] through."

    A line holds the likeliest words of each masked place with their probabilities; places are separated by tabs. Each
    is filled as if the others stayed masked. The mask is written as the model's tokenizer writes it: [MASK] or <mask>.
    """
    task = load_task(common, model, "fill-mask")

    def line(filled: "FilledText") -> str:
        places = ([f"{one.token} {one.probability:.3f}" for one in mask.candidates] for mask in filled.masks)
        return "\t".join(", ".join(place) for place in places)

    _answer_all(common, task, texts, line, as_json, top=top)


@with_common_options
def classify(
    common: CommonOptions,
    model: Model,
    texts: Texts = None,
    top: Annotated[
        int | None, typer.Option(metavar="N", help="Labels shown for each text; those that hold if not given.")
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="A line is a pair of texts with a tab between.")] = False,
    as_json: AsJson = False,
) -> None:
    """Label texts.

    A line holds labels with their probabilities, the likeliest first, separated by tabs; of a model that gives numbers,
    the number's name and the number.
    """
    from trasluz.errors import RequestError

    if top is not None and top < 1:
        raise RequestError(f"--top must be at least 1, but is {top}.")
    task = load_task(common, model, "classify")

    def line(found: "Classification") -> str:
        if not f"{found.text}{found.second_text or ''}".strip():
            return ""
        labels = found.labels if top is None else list(found.scores)[:top]
        return "\t".join(f"{label} {found.scores[label]:.3f}" for label in labels)

    def work(group: list[str], **options: Any) -> "list[Classification]":
        if not pairs:
            return list(task(group, **options))
        # An empty line is a pair of empty texts.
        halves = [text.split("\t") if text.strip() else ["", ""] for text in group]
        for text, parts in zip(group, halves, strict=True):
            if len(parts) != 2:
                raise RequestError(f"two texts with a tab between were expected, not {len(parts)}: {text[:60]!r}.")
        return list(task([first for first, _ in halves], [second for _, second in halves], **options))

    _answer_all(common, task, texts, line, as_json, work=work)


@with_common_options
def tag(common: CommonOptions, model: Model, texts: Texts = None, as_json: AsJson = False) -> None:
    """Find the entities of texts: names of people, places and whatever else the model was tuned for.

    A line holds the entities of a text, separated by tabs: label, place in characters, words.
    """
    task = load_task(common, model, "tag")

    def line(found: "TaggedText") -> str:
        return "\t".join(f"{one.label} {one.start}-{one.end} {_cell(one.text)}" for one in found.entities)

    _answer_all(common, task, texts, line, as_json)


@with_common_options
def answer(
    common: CommonOptions,
    model: Model,
    questions: Annotated[
        list[str] | None, typer.Argument(metavar="QUESTION", help="What to answer; standard input if not given.")
    ] = None,
    context: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The text, in UTF-8, in which the answers are looked for.")
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="Answers looked for; --json shows them all.")] = 1,
    no_answer: Annotated[
        bool, typer.Option("--no-answer", help="The answer may be that there is none: an empty line.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Answer questions with stretches of a text.

    A line holds the answer, its probability and its place in characters, separated by tabs. A line end of the file
    counts as one character.
    """
    from trasluz.errors import RequestError

    if context is None:
        raise RequestError("--context is missing: the file in which the answers are looked for.")
    told = _whole_text(context)
    task = load_task(common, model, "answer")

    def line(found: "Answer") -> str:
        return f"{_cell(found.text)}\t{found.score:.3f}\t{found.start}-{found.end}" if found.text else ""

    def work(group: list[str], **options: Any) -> "list[Answer]":
        return list(task(group, told, **options))

    _answer_all(common, task, questions, line, as_json, work=work, prompt="question> ", top=top, no_answer=no_answer)


@with_common_options
def embed(
    common: CommonOptions,
    model: Model,
    texts: Texts = None,
    pooling: Annotated[
        str | None, typer.Option(metavar="cls|mean|max", help="Which states make the vector; the model's own choice.")
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option("--normalize/--no-normalize", help="Scale to length 1, or not; the model's own choice."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn texts into vectors.

    A line holds the numbers of a vector, with blanks between.
    """
    task = load_task(common, model, "embed")

    def line(found: "Embedding") -> str:
        return " ".join(map(str, found.vector)) if found.text.strip() else ""

    _answer_all(common, task, texts, line, as_json, pooling=pooling, normalize=normalize)


def _whole_text(path: Path) -> str:
    """Return the text of a file; DataError for its first line that is no text, and for a file without words."""
    from trasluz.errors import DataError
    from trasluz.text.lines import Fault, read_lines

    lines = []
    for number, line in enumerate(read_lines(str(path)), start=1):
        if isinstance(line, Fault):
            raise DataError(f"{path}:{number}: {line}; a text in UTF-8 was expected.")
        lines.append(line)
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} has no words; a text in which answers stand was expected.")
    return "\n".join(lines)


def _cell(text: str) -> str:
    # Tabs separate what stands in a line.
    return text.replace("\t", " ")


def which_left_out(task: Any, count: int) -> str:
    """Return which tokens of a text had no room, in words."""
    return _LEFT_OUT[task.tokenizer.keep].format(f"{count:,} tokens")


def _answer_all(
    common: CommonOptions,
    task: Any,
    texts: Sequence[str] | None,
    line: Callable[[T], str],
    as_json: bool,
    *,
    work: Callable[..., Sequence[T]] | None = None,
    prompt: str = "text> ",
    **options: Any,
) -> None:
    """Answer every text with a line, or an object; what had no room in the model is told on standard error.

    `line` makes an empty line of a blank text's result. `work` is what a task does with some texts; None: it is called
    with them.
    """
    work = work or task
    options["batch_tokens"] = common.batch_tokens
    # Wrong options are refused before anything is read.
    work([], **options)
    for number, result in enumerate(
        answered(lambda group: work(group, **options), texts or [], prompt=prompt), start=1
    ):
        found: Any = result
        if as_json:
            answer_json(found.to_dict())
        else:
            answer_line(line(result))
        if left_out := getattr(found, "left_out", 0):
            remark(f"text {number}: {which_left_out(task, left_out)} had no room and were left out", quiet=common.quiet)
