"""Writes what the code says of itself: `make docs`.

docs/recipe.md and docs/command-line.md come from the code they describe, and a test compares them. The drawings that
open the READMEs are what `trasluz demo` draws; they are put between their marks where the bundled model is installed.
"""

import dataclasses
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main
from pydantic import BaseModel, PlainSerializer
from pydantic.fields import FieldInfo

from trasluz.cli.demo import MODEL, SENTENCES, told
from trasluz.cli.main import app
from trasluz.cli.options import CommonOptions
from trasluz.tasks.loading import bundled_models, load
from trasluz.training.quantities import Form
from trasluz.training.recipe import Recipe

DOCS = Path(__file__).parent
DRAWING_BEGINS, DRAWING_ENDS = "<!-- drawing: written by `make docs` -->", "<!-- end of drawing -->"


RECIPE_HEAD = """# The recipe

One YAML file holds everything a run is made of. `trasluz init` writes one for your files; every default is written into
the run's own `recipe.yaml`. A key is changed for one run by `trasluz train recipe.yaml key.path=value`. An unknown or
misspelt key, a wrong type or an impossible size is refused with file, line and the nearest known name. How `data` names
files is told in [data.md](data.md).

This page is written by `make docs` from `src/trasluz/training/recipe.py`.
"""

COMMAND_LINE_HEAD = """# Every command and option

Text comes from the arguments, else from standard input, one text a line; an empty line answers an empty line. Results
go to standard output, one a line, in order, as they are ready; `--json` makes each of them one JSON object. Everything
else goes to standard error. Exit codes: 0 done, 1 the work failed, 2 the request was wrong, 130 stopped by Ctrl-C.

`MODEL` is a model or run folder (Hugging Face's, too), a bundled name (`pocket-en-es`), or an id of the Hugging Face
hub.

This page is written by `make docs` from what `--help` shows.
"""


def recipe_page() -> str:
    """Return docs/recipe.md."""
    plain = {name: field for name, field in Recipe.model_fields.items() if _section(field) is None}
    lines = [RECIPE_HEAD, *_table(plain)]
    for name, field in Recipe.model_fields.items():
        if section := _section(field):
            lines += ["", f"## `{name}`", "", (section.__doc__ or "").strip(), "", *_table(section.model_fields)]
    return "\n".join(lines) + "\n"


def _section(field: FieldInfo) -> type[BaseModel] | None:
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _table(fields: dict[str, FieldInfo]) -> list[str]:
    rows = [
        f"| `{name}` | {_form(field.annotation, field.metadata)} | {_default(field)} | {_cell(field.description)} |"
        for name, field in fields.items()
    ]
    return ["| key | written as | default | what it does |", "|---|---|---|---|", *rows]


def _cell(words: str | None) -> str:
    return (words or "").strip().replace("|", "\\|")


def _form(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Return in words how a value is written: its Form where it has one, else what its type says."""
    for extra in [*metadata, *getattr(annotation, "__metadata__", ())]:
        if isinstance(extra, Form):
            return _cell(extra.words)
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if arguments := get_args(annotation):
        container = "list of " if get_origin(annotation) in (list, tuple) else ""
        known = [_form(argument) for argument in arguments if argument is not type(None)]
        return container + " or ".join(dict.fromkeys(known))
    return {str: "text", bool: "`true` or `false`", int: "whole number", float: "number"}.get(annotation, "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "to be given"
    value = field.get_default(call_default_factory=True)
    for extra in field.metadata:
        if isinstance(extra, PlainSerializer):
            value = extra.func(value)  # type: ignore[call-arg]  # none of ours asks for more
    if value is None:
        return ""
    return f"`{json.dumps(value) if isinstance(value, bool | list | tuple) else value}`"


def command_line_page() -> str:
    """Return docs/command-line.md."""
    lines = [COMMAND_LINE_HEAD]
    common = {field.name for field in dataclasses.fields(CommonOptions)}
    with_common = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
        options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
        if common <= {option.name for option in options}:
            with_common.append(name)
            shared = [option for option in options if option.name in common]
            options = [option for option in options if option.name not in common]
        usage = " ".join(["trasluz", name, *(_metavar(argument) for argument in arguments if not argument.hidden)])
        lines += ["", f"## {name}", "", f"`{usage}`", "", *_paragraphs(command.help), ""]
        rows = [
            *[_row(argument) for argument in arguments if not argument.hidden],
            *[_row(option) for option in options if option.name != "help"],
        ]
        lines += ["| | |", "|---|---|", *rows] if rows else []
    lines += [
        "",
        "## Common options",
        "",
        f"Of {', '.join(with_common)}.",
        "",
        "| | |",
        "|---|---|",
        *[_row(option) for option in shared],
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _metavar(argument: Any) -> str:
    word = argument.metavar or argument.name.upper()
    word += " ..." if argument.nargs == -1 else ""
    return word if argument.required else f"[{word}]"


def _paragraphs(text: str | None) -> list[str]:
    return (text or "").strip().replace("\b\n", "").split("\n")


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{_metavar(parameter)}`"
    else:
        names = "`, `".join([*parameter.opts, *parameter.secondary_opts])
        name = f"`{names}`" if parameter.is_flag else f"`{names} {parameter.metavar or parameter.name.upper()}`"
    default = parameter.default
    shown = f" Default: {default}." if default not in (None, False, (), [], "auto") and parameter.show_default else ""
    return f"| {name.replace('|', chr(92) + '|')} | {(parameter.help or '').strip()}{shown} |"


def with_drawing(page: str, drawing: str) -> str:
    """Return a README with the drawing between its marks."""
    block = f"{DRAWING_BEGINS}\n\n```\n{drawing}\n```\n\n{DRAWING_ENDS}"
    before, _, rest = page.partition(DRAWING_BEGINS)
    return before + block + rest.partition(DRAWING_ENDS)[2]


def demo_drawing(number: int) -> str:
    """Return what `trasluz demo` draws for one of its sentences."""
    from_, to, text = SENTENCES[number]
    result = load(MODEL)(text, to=to, from_=from_)
    return "\n".join([*told(result), result.attention.words().terminal()])


PAGES = {"recipe.md": recipe_page, "command-line.md": command_line_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
    if MODEL in bundled_models():
        for number, name in enumerate(("README.md", "README.es.md")):
            readme = DOCS.parent / name
            readme.write_text(with_drawing(readme.read_text(encoding="utf-8"), demo_drawing(number)), encoding="utf-8")
