"""`trasluz init`: a complete, commented recipe for one's own files, sized to the data and the machine."""

import json
import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trasluz.cli.data_words import data_entry, guess_languages, parse_languages, shown, told_of_data
from trasluz.cli.options import Columns, CommonOptions, Format, Pairs, with_common_options

if TYPE_CHECKING:
    from pydantic import BaseModel

    from trasluz.cli.sizing import Corpus, Machine
    from trasluz.training.recipe import Recipe

TASKS = ("translate", "fill-mask", "classify", "tag", "answer", "generate")
# Counting more would take minutes and change no setting.
MOST_COUNTED = 1_000_000
HOW_TO_TRAIN = "To train: trasluz train recipe.yaml        One change: trasluz train recipe.yaml training.seed=2"
_FROM_NOTHING = "It learns from nothing; with --model it starts from a pre-trained encoder, which is worth a lot."
_DOCUMENTS = "train with masking.next_sentence=true, or leave empty lines out with data.on_error=skip."
_COMMENT_COLUMN = 42
_WIDTH = 130


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

    if task not in TASKS:
        close = nearest(task, TASKS)
        hint = f"did you mean {close}?" if close else f"so far there are {', '.join(TASKS)}."
        raise RequestError(f"there is no task {task!r}; {hint}")
    common.prepare()
    told = told_of_data(format_, columns)
    entry: Any = data_entry("--data", data or [], told)
    machine = this_machine()
    if task != "translate":
        refuse_of_translation({"--languages": languages, "--both-directions": both_directions})
    if task != "generate" and document != "line":
        raise RequestError(f"--document is for models that continue texts; the task {task} has no use for it.")
    if task == "classify":
        values, top = classification_recipe(entry, machine, model, pairs, label_kind, on_error)
    elif task == "tag":
        values, top = tagging_recipe(entry, machine, model, on_error)
    elif task == "answer":
        values, top = answering_recipe(entry, machine, model, on_error)
    elif task == "generate":
        from trasluz.cli.init_generate import generation_recipe

        values, top = generation_recipe(entry, machine, model, document, on_error, has_valid=bool(valid))
    elif task == "fill-mask":
        values, top = masked_words_recipe(entry, machine, model, on_error)
    else:
        values, top = translation_recipe(entry, machine, model, languages, both_directions, on_error)
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


def translation_recipe(
    entry: Any, machine: "Machine", model: str | None, languages: str | None, both_directions: bool, on_error: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the parts of a translator's recipe that data and machine decide, and what to say of them."""
    from trasluz.cli.sizing import count_corpus
    from trasluz.errors import RequestError
    from trasluz.text.readers import read_pairs

    pair = parse_languages(languages) if languages else guess_languages(entry)
    pairs = read_pairs(entry, languages=pair, on_error=on_error)
    corpus = count_corpus(((one.source, one.target) for one in pairs), MOST_COUNTED)
    if not corpus.num_pairs:
        raise RequestError(f"{shown(entry)} holds no sentence pair; name files with at least some thousands of them.")
    values = recipe_values(corpus, machine, model)
    values["data"] = {"languages": list(pair), "both_directions": both_directions}
    values["output"] = f"runs/{pair[0]}-{pair[1]}"
    return values, heading(corpus, machine, entry)


def classification_recipe(
    entry: Any, machine: "Machine", model: str | None, pairs: bool, label_kind: str, on_error: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the parts of a classifier's recipe that data and machine decide, and what to say of them."""
    from trasluz.cli import sizing
    from trasluz.errors import RequestError
    from trasluz.models.registry import presets
    from trasluz.text.readers import ReadReport
    from trasluz.training.labelled_examples import read_labelled

    found = read_labelled(entry, pairs=pairs, kind=label_kind, on_error=on_error, report=ReadReport())
    texts = ((f"{one.text} {one.second_text or ''}", one.label) for one in found)
    labels = sizing.count_labelled(texts, MOST_COUNTED, label_kind)
    if label_kind == "one" and labels.num_labels < 2:
        raise RequestError(f"every text of {shown(entry)} has the same label: there is nothing to learn.")
    name = model or "bert-tiny"
    values = {
        "task": "classify",
        "model": name,
        "data": {"pairs": pairs, "label_kind": label_kind, "max_length": fitting_length(labels.max_length, model)},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 8000, "lowercase": True},
        **sizing.classification_for(labels, machine, pretrained=name not in presets()),
        "output": "runs/classify",
    }
    at_least = "at least " if labels.more else ""
    kinds = "numbers" if label_kind == "number" else f"{labels.num_labels} labels"
    return values, [
        origin(entry),
        f"{at_least}{labels.num_texts:,} texts of {labels.words / labels.num_texts:.1f} words, {kinds}; {on(machine)}.",
        *([] if model else [_FROM_NOTHING]),
        HOW_TO_TRAIN,
    ]


def tagging_recipe(
    entry: Any, machine: "Machine", model: str | None, on_error: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the parts of a tagger's recipe that data and machine decide, and what to say of them."""
    from trasluz.cli import sizing
    from trasluz.models.registry import presets
    from trasluz.text.entities import decode_entities
    from trasluz.text.readers import ReadReport
    from trasluz.training.tagged_examples import read_tagged

    kinds: set[str] = set()

    def sentences() -> Iterator[tuple[str, str]]:
        for one in read_tagged(entry, on_error=on_error, report=ReadReport()):
            kinds.update(entity.label for entity in decode_entities(one.tags))
            yield " ".join(one.words), ""

    corpus = sizing.count_labelled(sentences(), MOST_COUNTED, "one")
    name = model or "bert-tiny"
    settings = sizing.classification_for(corpus, machine, pretrained=name not in presets())
    settings["training"]["label_smoothing"] = 0.0
    values = {
        "task": "tag",
        "model": name,
        "data": {"max_length": fitting_length(corpus.max_length, model)},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 8000, "lowercase": False},
        **settings,
        "output": "runs/tag",
    }
    at_least = "at least " if corpus.more else ""
    return values, [
        origin(entry),
        f"{at_least}{corpus.num_texts:,} sentences of {corpus.words / corpus.num_texts:.1f} words; {on(machine)}.",
        f"Entities: {', '.join(sorted(kinds)) or 'none'}.",
        *([] if model else [_FROM_NOTHING]),
        HOW_TO_TRAIN,
    ]


def answering_recipe(
    entry: Any, machine: "Machine", model: str | None, on_error: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the parts of a recipe for finding answers that data and machine decide, and what to say of them."""
    from trasluz.cli import sizing
    from trasluz.models.registry import presets
    from trasluz.text.readers import ReadReport
    from trasluz.training.answer_examples import read_questions

    contexts: set[int] = set()
    without = 0

    def questions() -> Iterator[tuple[str, str]]:
        nonlocal without
        for one in read_questions(entry, on_error=on_error, report=ReadReport()):
            contexts.add(hash(one.context))
            without += not one.answers
            yield f"{one.question} {one.context}", ""

    corpus = sizing.count_labelled(questions(), MOST_COUNTED, "one")
    name = model or "bert-tiny"
    settings = sizing.classification_for(corpus, machine, pretrained=name not in presets())
    settings["training"]["label_smoothing"] = 0.0
    values = {
        "task": "answer",
        "model": name,
        # What is longer is read in windows.
        "data": {"max_length": fitting_length(min(384, corpus.max_length), model)},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 8000, "lowercase": True},
        **settings,
        "output": "runs/answer",
    }
    at_least = "at least " if corpus.more else ""
    return values, [
        origin(entry),
        f"{at_least}{corpus.num_texts:,} questions about {len(contexts):,} contexts, "
        f"{corpus.words / corpus.num_texts:.1f} words together; {on(machine)}.",
        f"{without:,} of the questions have no answer.",
        *([] if model else [_FROM_NOTHING]),
        HOW_TO_TRAIN,
    ]


def masked_words_recipe(
    entry: Any, machine: "Machine", model: str | None, on_error: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the parts of a recipe for pre-training that data and machine decide, and what to say of them."""
    from trasluz.cli import sizing
    from trasluz.models.registry import presets
    from trasluz.text.data_naming import find_files
    from trasluz.text.readers import read_documents, read_texts

    num_documents = 0

    def lines_of_documents() -> Iterator[str]:
        nonlocal num_documents
        for one in read_documents(entry, on_error=on_error):
            num_documents += 1
            yield from one.lines

    files = find_files(entry)
    # Between the lines of plain files empty ones may stand, for next sentences.
    is_plain = all(file.format in ("text", "moses") for file in files)
    texts = lines_of_documents() if is_plain else (one.text for one in read_texts(entry, on_error=on_error))
    corpus = sizing.count_labelled(((text, "") for text in texts), MOST_COUNTED, "one")
    name = model or ("bert-small" if machine.has_gpu else "bert-mini")
    values = {
        "task": "fill-mask",
        "model": name,
        "data": {"max_length": fitting_length(min(128, corpus.max_length), model)},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 8000, "lowercase": True},
        **sizing.masked_words_for(machine, pretrained=name not in presets()),
        "output": "runs/fill-mask",
    }
    at_least = "at least " if corpus.more else ""
    has_empty_lines = num_documents > len(files) and on_error == "stop"
    return values, [
        origin(entry),
        f"{at_least}{corpus.num_texts:,} texts of {corpus.words / corpus.num_texts:.1f} words; {on(machine)}.",
        *([f"{num_documents:,} documents, by empty lines between them: {_DOCUMENTS}"] if has_empty_lines else []),
        HOW_TO_TRAIN,
    ]


def fitting_length(wanted: int, model: str | None) -> int:
    """Return how many tokens of a text are learnt from: `wanted`, or what a trained model at hand reads, where fewer.

    For a recipe nothing is downloaded: of a hub id it is not asked.
    """
    from trasluz.checkpoints.model_folder import load_model
    from trasluz.tasks.loading import bundled_models, find_model

    if model is None or not (Path(model).expanduser().is_dir() or model in bundled_models()):
        return wanted
    loaded = load_model(find_model(model))
    # Translators have no such limit; that they cannot do the task is said in training.
    return min(wanted, loaded.longest_text) if hasattr(loaded.config, "longest_text") else wanted


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


def origin(entry: Any) -> str:
    """Return the first line of every recipe."""
    import trasluz

    return f"Written by trasluz {trasluz.__version__} for {shown(entry)}:"


def heading(corpus: "Corpus", machine: "Machine", entry: Any) -> list[str]:
    """Return what the recipe was sized to, as its first lines."""
    at_least = "at least " if corpus.more else ""
    words = " and ".join(f"{count / corpus.num_pairs:.1f}" for count in (corpus.source_words, corpus.target_words))
    return [
        origin(entry),
        f"{at_least}{corpus.num_pairs:,} pairs of {words} words; {on(machine)}.",
        HOW_TO_TRAIN,
    ]


def on(machine: "Machine") -> str:
    """Return the machine in words."""
    gpu = f"a GPU of {machine.gpu_memory / 2**30:.0f} GiB" if machine.has_gpu else "no GPU"
    return f"{machine.num_cores} CPU cores, {gpu}"


def commented(recipe: "Recipe", heading: Sequence[str]) -> str:
    """Return the recipe as YAML with every key that means something to its task, and beside each what it does."""
    from trasluz.training.recipe import Recipe
    from trasluz.training.recipe_file import dump_recipe
    from trasluz.training.task_rules import ONLY_FOR

    lines = [f"# {line}" for line in heading]
    section: type[BaseModel] | None = None
    name, skipped = "", False
    for line in dump_recipe(recipe).splitlines():
        top, inner = re.match(r"(\w+):", line), re.match(r"  (\w+):", line)
        if top:
            name = top[1]
            if recipe.task not in ONLY_FOR.get(name, (recipe.task,)):
                skipped = True
                continue
            skipped = False
            field = Recipe.model_fields[top[1]]
            section = _section_of(field.annotation)
            lines += ["", *_with_comment(line, field.description)]
        elif inner and skipped:
            continue
        elif inner and recipe.task not in ONLY_FOR.get(f"{name}.{inner[1]}", (recipe.task,)):
            continue
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
