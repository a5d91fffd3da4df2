"""`trasluz inspect`: what every layer and head of a model looks at, for one text."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trasluz.cli.encoders import which_left_out
from trasluz.cli.options import CommonOptions, From, Model, TaskName, To, load_task, with_common_options
from trasluz.cli.streams import answer, answer_json, first_text, remark

if TYPE_CHECKING:
    from trasluz.inspection.attention_map import AttentionMap
    from trasluz.tasks.generator import Generator
    from trasluz.tasks.text_task import TextTask
    from trasluz.tasks.translator import Translator

# Words that one word looks at, in a line.
_MOST_LOOKS = 5


@with_common_options
def inspect(
    common: CommonOptions,
    model: Model,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="The text to read; a line of standard input if not given.")
    ] = None,
    target_text: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What a translator writes; its own translation if not given."),
    ] = None,
    second_text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The other text of a pair, for a model that reads pairs.")
    ] = None,
    from_: From = None,
    to: To = None,
    layers: Annotated[str | None, typer.Option(metavar="N,N", help="Only these layers, counted from 0.")] = None,
    heads: Annotated[str | None, typer.Option(metavar="N,N", help="Only these heads, counted from 0.")] = None,
    kinds: Annotated[
        str | None, typer.Option(metavar="KIND,KIND", help="Only these kinds: cross, encoder, decoder.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write: .html .png .svg .pdf .json .npz; drawn here if not given."),
    ] = None,
    word: Annotated[
        str | None, typer.Option(metavar="WORD", help="Say only what this word looks at, most first, a line a head.")
    ] = None,
    pieces: Annotated[bool, typer.Option("--pieces", help="Leave words in the pieces that the model reads.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a map: what a .json file holds.")] = False,
    task_name: TaskName = None,
) -> None:
    """Show what a model looks at.

    A page (.html) and data (.json, .npz, --json) hold all kinds, layers and heads, or those asked for; data are in
    pieces, as the model reads them. A picture, and the drawing in the terminal, show the layer and head that the model
    names for its alignment, unless others are asked for; several heads are drawn side by side. With --word, a line for
    each such layer and head tells in words what the word looks at.
    """
    from trasluz.errors import RequestError
    from trasluz.inspection.attention_file import PICTURES, check_ending, save_maps

    if word is not None and out is not None:
        raise RequestError("--word writes lines and --out writes a file; give one of them.")
    if as_json and (word is not None or out is not None):
        raise RequestError(f"--json writes objects here; give it or {'--word' if out is None else '--out'}, not both.")
    ending = check_ending(out) if out is not None else None
    is_drawn = not as_json and (ending is None or ending in PICTURES)
    chosen = numbers("--layers", layers), numbers("--heads", heads), known_kinds(kinds)
    task = load_task(common, model, task_name)
    translates, continues = task.verb == "translate", task.verb == "generate"
    if translates:
        refuse_other("--second-text", second_text, model, "translates")
        if chosen[2] is not None:
            refuse_missing_layers(task, chosen[0], chosen[2])
    else:
        for option, value in {"--target-text": target_text, "--from": from_, "--to": to}.items():
            refuse_other(option, value, model, "does not translate")
        if continues:
            refuse_other("--second-text", second_text, model, "reads no pairs")
        refuse_other_kinds(chosen[2], model, task.attention_kind)
        # There is one kind: naming it asks for nothing else.
        chosen = chosen[0], chosen[1], None
    source, more = (text, False) if text is not None else first_text(prompt="text> ")
    if more:
        remark("standard input has more lines: only the first is looked into, one text at a time", quiet=common.quiet)
    # Few are drawn side by side; a page and data have room for everything.
    alone = chosen == (None, None, None) and is_drawn
    if translates:
        maps = attention_of(task, source, target_text, to, from_, chosen, alone=alone)
    else:
        pair = () if continues else (second_text,)
        maps = attention_within(task, source, pair, chosen, alone=alone)
        if not continues and (left_out := task.left_out(source, second_text)):
            remark(f"{which_left_out(task, left_out)} had no room and are not shown", quiet=common.quiet)
    if word is not None:
        for line in looks_of(word, [one if pieces else one.words() for one in maps]):
            answer(line)
        return
    if as_json:
        for one in maps:
            answer_json(one.to_dict())
        return
    if not pieces and is_drawn:
        maps = [one.words() for one in maps]
    if out is not None:
        save_maps(maps, out)
        return
    from trasluz.cli.drawing import draw_here

    for one in maps:
        for line in draw_here(one).splitlines():
            answer(line)


Chosen = tuple[list[int] | None, list[int] | None, list[str] | None]


def attention_of(
    translator: "Translator",
    source: str,
    target: str | None,
    to: str | None,
    from_: str | None,
    chosen: Chosen,
    *,
    alone: bool = False,
) -> "list[AttentionMap]":
    """Return the maps of the chosen layers, heads and kinds, the model's own choice first; with `alone`, only that."""
    from trasluz.inspection.attention_map import KINDS, mean_map

    layers, heads, kinds = chosen
    place = translator.attention_place
    if target is None:
        # Translated once, however many passes look at it.
        target = translator(source, to, from_).text
    maps = (
        []
        if alone and place
        else translator.attention_maps(source, target, to, from_, kinds=kinds or KINDS, layers=layers, heads=heads)
    )
    if place is None or (layers, heads) != (None, None) or not (kinds is None or "cross" in kinds):
        return maps
    layer, head = place
    wanted = None if head == "mean" else [int(head)]
    own = translator.attention_maps(source, target, to, from_, kinds=["cross"], layers=[layer], heads=wanted)
    first = mean_map(own) if head == "mean" else own[0]
    return [first, *(one for one in maps if (one.kind, one.layer, one.head) != ("cross", layer, head))]


def attention_within(
    task: "TextTask | Generator", text: str, pair: tuple[str | None, ...], chosen: Chosen, *, alone: bool = False
) -> "list[AttentionMap]":
    """Return the maps of a text over itself, the model's own choice first; with `alone`, only that.

    `pair` holds the second text for a task that reads pairs.
    """
    from trasluz.inspection.attention_map import mean_map

    layers, heads, _ = chosen
    place = task.attention_place
    maps = [] if alone and place else task.attention_maps(text, *pair, layers=layers, heads=heads)
    if place is None or (layers, heads) != (None, None):
        return maps
    layer, head = place
    own = task.attention_maps(text, *pair, layers=[layer], heads=None if head == "mean" else [int(head)])
    return [mean_map(own) if head == "mean" else own[0], *maps]


def looks_of(word: str, maps: "list[AttentionMap]") -> Iterator[str]:
    """Give a line for each map and place of a word: what it looks at, most first."""
    from trasluz.errors import RequestError, nearest

    # What is written and what is read are other words; the maps of a translator's kinds have either.
    texts = list(dict.fromkeys(tuple(one.target_tokens) for one in maps))
    tokens = [token for text in texts for token in text]
    if word.casefold() not in map(str.casefold, tokens):
        close = nearest(word, tokens)
        hint = f" Did you mean {close}?" if close else ""
        raise RequestError(
            f"--word is {word!r}, which is no word of {' or '.join(repr(' '.join(text)) for text in texts)}.{hint}"
        )
    for one in maps:
        for place, token in enumerate(one.target_tokens):
            if token.casefold() != word.casefold():
                continue
            row = one.weights[place]
            order = sorted(range(len(row)), key=lambda column: -row[column])[:_MOST_LOOKS]
            looks = ", ".join(f"{one.source_tokens[column]} {row[column]:.2f}" for column in order)
            yield f"{one.title}\t{token}\t{looks}"


def refuse_other(option: str, value: str | None, model: str, what: str) -> None:
    """Raise RequestError for an option that means nothing to a model of this kind."""
    from trasluz.errors import RequestError

    if value is not None:
        raise RequestError(f"{option} means nothing to {model}, which {what}.")


def refuse_other_kinds(kinds: list[str] | None, model: str, only: str) -> None:
    """Raise RequestError for kinds of attention that a model does not have which has but one."""
    from trasluz.errors import RequestError

    for kind in kinds or []:
        if kind != only:
            raise RequestError(f"--kinds names {kind!r}, but the attention of {model} is of the kind {only} only.")


def refuse_missing_layers(translator: "Translator", layers: list[int] | None, kinds: list[str]) -> None:
    """Raise RequestError where none of the kinds of attention to be shown has any of these layers."""
    from trasluz.errors import RequestError

    model: Any = translator.model
    sizes = {kind: len(stack) for kind, stack in model.attentions().items() if kind in kinds}
    if any(layer < size for size in sizes.values() for layer in ([0] if layers is None else layers)):
        return
    has = ", ".join(f"{kind} attention has layers 0 to {size - 1}" for kind, size in sizes.items() if size)
    asked = "--kinds" if layers is None else "--layers"
    raise RequestError(f"{asked} leaves nothing to show: {has or f'{translator.name} has no such attention'}.")


def numbers(option: str, words: str | None) -> list[int] | None:
    """Return the numbers of `0,3`; None, meaning all, where nothing was said."""
    from trasluz.errors import RequestError

    if words is None:
        return None
    parts = [part.strip() for part in words.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise RequestError(f"{option} is {words!r}; numbers counted from 0 were expected, as in {option} 0,3.")
    return sorted({int(part) for part in parts})


def known_kinds(words: str | None) -> list[str] | None:
    """Return the kinds of `cross,encoder`; None, meaning all, where nothing was said."""
    from trasluz.errors import RequestError, nearest
    from trasluz.inspection.attention_map import KINDS

    if words is None:
        return None
    parts = [part.strip() for part in words.split(",")]
    for part in parts:
        if part not in KINDS:
            close = nearest(part, KINDS)
            hint = f"did you mean {close}?" if close else f"there are {', '.join(KINDS)}."
            raise RequestError(f"--kinds names {part!r}; {hint}")
    return parts
