"""`trasluz init`: a complete, commented recipe for one's own files, sized to the data and the machine."""

import json
import os
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trasluz.cli.data_words import data_entry, guess_languages, parse_languages, shown

if TYPE_CHECKING:
    from pydantic import BaseModel

    from trasluz.cli.sizing import Corpus, Machine
    from trasluz.training.recipe import Recipe

TASKS = ("translate",)
# Counting more would take minutes and change no setting.
MOST_COUNTED = 1_000_000
_COMMENT_COLUMN = 42
_WIDTH = 130


def init(
    task: Annotated[str, typer.Argument(metavar="TASK", help="What the model will do: translate.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA",
            help="The training text: corpus.{en,es}, pairs.tsv, pairs.jsonl, a pattern ...; may be repeated.",
        ),
    ] = None,
    valid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA", help="Text to choose the best weights by; without it a part of --data is held out."
        ),
    ] = None,
    languages: Annotated[
        str | None, typer.Option(metavar="FROM,TO", help="The languages of the two sides, where no name tells them.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="PRESET", help="Another model than the Transformer that fits; see `trasluz models`."),
    ] = None,
    both_directions: Annotated[
        bool, typer.Option("--both-directions", help="One model that translates either way.")
    ] = False,
    max_time: Annotated[str, typer.Option(metavar="TIME", help="How long to train: 90s, 60m, 1h30m.")] = "60m",
    on_error: Annotated[
        str, typer.Option(metavar="stop|skip", help="What a malformed line does, here and in training.")
    ] = "stop",
    output: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the run will write; runs/FROM-TO if not given.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Print a recipe for one's own files.

    It is complete and commented, and sized to the data and to this machine:

    \b
        trasluz init translate --data corpus.{en,es} > recipe.yaml
    """
    from trasluz.cli.sizing import count_corpus
    from trasluz.cli.streams import answer
    from trasluz.errors import RequestError, nearest
    from trasluz.text.readers import read_pairs
    from trasluz.training.recipe_file import parse_recipe

    if task not in TASKS:
        close = nearest(task, TASKS)
        raise RequestError(
            f"there is no task {task!r}; {f'did you mean {close}?' if close else 'so far there is translate.'}"
        )
    entry = data_entry("--data", data or [])
    pair = parse_languages(languages) if languages else guess_languages(entry)
    machine = this_machine()
    pairs = read_pairs(entry, languages=pair, on_error=on_error)
    corpus = count_corpus(((one.source, one.target) for one in pairs), MOST_COUNTED)
    if not corpus.num_pairs:
        raise RequestError(f"{shown(entry)} holds no sentence pair; name files with at least some thousands of them.")
    values = recipe_values(corpus, machine, model)
    values["data"] = {
        "train": entry,
        "valid": data_entry("--valid", valid) if valid else None,
        "languages": list(pair),
        "both_directions": both_directions,
        "on_error": on_error,
    }
    values["training"]["max_time"] = max_time
    values["output"] = output or f"runs/{pair[0]}-{pair[1]}"
    answer_text = commented(parse_recipe(json.dumps(values), name="init"), heading(corpus, machine, entry))
    for line in answer_text.splitlines():
        answer(line)


def this_machine() -> "Machine":
    """Return what the recipe is sized for."""
    import torch

    from trasluz.cli.sizing import Machine

    memory = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
    return Machine(num_cores=os.cpu_count() or 1, gpu_memory=memory)


def recipe_values(corpus: "Corpus", machine: "Machine", preset: str | None) -> dict[str, Any]:
    """Return the parts of a recipe that sizes decide."""
    from trasluz.cli import sizing
    from trasluz.models.registry import find_preset

    name = preset or sizing.preset_for(corpus, machine)
    find_preset(name)
    return {
        "task": "translate",
        "model": {"preset": name, "dropout": sizing.dropout_for(corpus)},
        "tokenizer": {"vocab_size": sizing.vocab_size_for(corpus)},
        **sizing.training_for(corpus, machine),
    }


def heading(corpus: "Corpus", machine: "Machine", entry: str | list[str]) -> list[str]:
    """Return what the recipe was sized to, as its first lines."""
    import trasluz

    at_least = "at least " if corpus.more else ""
    words = " and ".join(f"{count / corpus.num_pairs:.1f}" for count in (corpus.source_words, corpus.target_words))
    gpu = f"a GPU of {machine.gpu_memory / 2**30:.0f} GiB" if machine.has_gpu else "no GPU"
    return [
        f"Written by trasluz {trasluz.__version__} for {shown(entry)}:",
        f"{at_least}{corpus.num_pairs:,} pairs of {words} words; {machine.num_cores} CPU cores, {gpu}.",
        "To train: trasluz train recipe.yaml        One change: trasluz train recipe.yaml training.seed=2",
    ]


def commented(recipe: "Recipe", heading: Sequence[str]) -> str:
    """Return the recipe as YAML with every key, and beside each key what it does."""
    from trasluz.training.recipe import Recipe
    from trasluz.training.recipe_file import dump_recipe

    lines = [f"# {line}" for line in heading]
    section: type[BaseModel] | None = None
    for line in dump_recipe(recipe).splitlines():
        top, inner = re.match(r"(\w+):", line), re.match(r"  (\w+):", line)
        if top:
            field = Recipe.model_fields[top[1]]
            section = _section_of(field.annotation)
            lines += ["", *_with_comment(line, field.description)]
        elif inner and section is not None:
            lines += _with_comment(line, section.model_fields[inner[1]].description)
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _section_of(annotation: Any) -> "type[BaseModel] | None":
    from pydantic import BaseModel

    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _with_comment(line: str, comment: str | None) -> list[str]:
    if not comment:
        return [line]
    beside = f"{line:<{_COMMENT_COLUMN}}  # {comment}"
    if len(beside) <= _WIDTH:
        return [beside]
    indent = line[: len(line) - len(line.lstrip())]
    return [*textwrap.wrap(comment, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "), line]
