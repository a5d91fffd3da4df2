"""A recipe as YAML for people to change: every key that means something to its task, and what it does."""

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from trasluz.training.recipe import Recipe

_COMMENT_COLUMN = 42
_WIDTH = 130


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
