"""`trasluz init`: a complete, commented recipe for one's own files, sized to the data and the machine."""

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trasluz.cli.data_words import data_entry, told_of_data
from trasluz.cli.init_answer import answering_recipe
from trasluz.cli.init_classify import classification_recipe
from trasluz.cli.init_fill_mask import masked_words_recipe
from trasluz.cli.init_generate import generation_recipe
from trasluz.cli.init_tag import tagging_recipe
from trasluz.cli.init_translate import translation_recipe
from trasluz.cli.init_words import Asked, Made
from trasluz.cli.options import Columns, CommonOptions, Format, Pairs, with_common_options
from trasluz.cli.recipe_comments import commented

if TYPE_CHECKING:
    from trasluz.cli.sizing import Machine

# In the order in which they are told.
MAKERS: dict[str, Callable[[Asked], Made]] = {
    "translate": translation_recipe,
    "fill-mask": masked_words_recipe,
    "classify": classification_recipe,
    "tag": tagging_recipe,
    "answer": answering_recipe,
    "generate": generation_recipe,
}


@with_common_options
def init(
    common: CommonOptions,
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK", help="What the model will do: translate, fill-mask, classify, tag, answer or generate."
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DATA",
            help="The training text: corpus.{en,es}, pairs.tsv, labelled.jsonl, a pattern ...; may be repeated.",
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
        typer.Option(
            metavar="PRESET|MODEL",
            help="Another preset than the one that fits (`trasluz models`); not to translate: a model to start from.",
        ),
    ] = None,
    both_directions: Annotated[
        bool, typer.Option("--both-directions", help="One model that translates either way.")
    ] = False,
    columns: Columns = None,
    format_: Format = None,
    pairs: Pairs = False,
    label_kind: Annotated[
        str, typer.Option(metavar="one|several|number", help="What a label is: one a text, several, or a number.")
    ] = "one",
    document: Annotated[
        str, typer.Option(metavar="line|file", help="generate: what a document is in plain text.")
    ] = "line",
    max_time: Annotated[str, typer.Option(metavar="TIME", help="How long to train: 90s, 60m, 1h30m.")] = "60m",
    on_error: Annotated[
        str, typer.Option(metavar="stop|skip", help="What a malformed line does, here and in training.")
    ] = "stop",
    output: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where the run will write; runs/FROM-TO or runs/TASK if not given."),
    ] = None,
) -> None:
    """Print a recipe for one's own files.

    It is complete and commented, and sized to the data and to this machine:

    \b
        trasluz init translate --data corpus.{en,es} > recipe.yaml
        trasluz init classify --data labelled.tsv --model sentence-transformers/all-MiniLM-L6-v2 > recipe.yaml
    """
    from trasluz.cli.streams import answer
    from trasluz.errors import RequestError, nearest
    from trasluz.training.recipe_file import parse_recipe

    if task not in MAKERS:
        close = nearest(task, MAKERS)
        hint = f"did you mean {close}?" if close else f"so far there are {', '.join(MAKERS)}."
        raise RequestError(f"there is no task {task!r}; {hint}")
    common.prepare()
    told = told_of_data(format_, columns)
    entry: Any = data_entry("--data", data or [], told)
    machine = this_machine()
    if task != "translate":
        refuse_of_translation({"--languages": languages, "--both-directions": both_directions})
    if task != "generate" and document != "line":
        raise RequestError(f"--document is for models that continue texts; the task {task} has no use for it.")
    asked = Asked(
        entry,
        machine,
        model,
        on_error,
        languages=languages,
        both_directions=both_directions,
        pairs=pairs,
        label_kind=label_kind,
        document=document,
        has_valid=bool(valid),
    )
    values, top = MAKERS[task](asked)
    values["data"] |= {
        "train": entry,
        "valid": data_entry("--valid", valid, told) if valid else None,
        "on_error": on_error,
    }
    values["training"]["max_time"] = max_time
    if common.seed is not None:
        values["training"]["seed"] = common.seed
    values["output"] = output or values["output"]
    for line in commented(parse_recipe(json.dumps(values), name="init"), top).splitlines():
        answer(line)


def refuse_of_translation(options: dict[str, Any]) -> None:
    """Raise RequestError for an option that means something to translators only."""
    from trasluz.errors import RequestError

    for option, value in options.items():
        if value:
            raise RequestError(f"{option} is for translators; a model of one text has no use for it.")


def this_machine() -> "Machine":
    """Return what the recipe is sized for."""
    import torch

    from trasluz.cli.sizing import Machine

    memory = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
    return Machine(num_cores=os.cpu_count() or 1, gpu_memory=memory)
