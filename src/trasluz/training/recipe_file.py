"""Recipes as YAML: read with line numbers, overridden by `key.path=value`, written back with every default."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from trasluz.errors import RecipeError, nearest
from trasluz.files import atomic_write
from trasluz.training.recipe import DROPOUT, Recipe

_HIDDEN = ("value_error", "assertion_error")


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `no` is a language, `1e-3` a number; only true and false are truth values."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # the library means it to be replaced


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(true|false)$"), list("tf"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(null|~|)$"), ["n", "~", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"([-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+)$"),
    list("-+.0123456789"),
)


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value)


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


def read_value(text: str) -> Any:
    """Return what a YAML text says, read as a recipe is; yaml.YAMLError where it is none."""
    return yaml.load(text, Loader=_Loader)


def read_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a YAML file, with `key.path=value` overrides laid over it.

    Raises RecipeError with file, line, key path and the nearest known name.
    """
    name = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"the recipe {name} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    return parse_recipe(text, overrides, name)


def parse_recipe(text: str, overrides: Sequence[str] = (), name: str = "recipe") -> Recipe:
    """Return the recipe that a YAML text describes; `name` stands for the file in messages."""
    values, places = _load_yaml(text, name)
    for override in overrides:
        _lay_over(values, places, override)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_explain(error, places, name)) from None
    recipe._places.update(places)
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML with every default written out; reading it gives an equal recipe."""
    text: str = yaml.dump(recipe.model_dump(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def write_recipe(recipe: Recipe, path: str | os.PathLike[str]) -> None:
    """Write `dump_recipe` atomically."""
    with atomic_write(path, "w") as file:
        file.write(dump_recipe(recipe))


class _Dumper(yaml.SafeDumper):
    """Short lists on one line; numbers that `_Loader` reads back."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _represent_sequence(dumper: yaml.SafeDumper, values: Sequence[Any]) -> yaml.Node:
    plain = all(not isinstance(value, (list, tuple, dict)) for value in values) and len(str(values)) < 100
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=plain)


_TEXT = "tag:yaml.org,2002:str"
_READER = _Loader("")


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    if not text.isprintable():
        # Within double quotes alone every sign that ends a line comes back.
        return dumper.represent_scalar(_TEXT, text, style='"')
    # The library quotes what YAML 1.1 would take for something else; 08 and 1e5 are numbers for `_Loader` only.
    is_text = _READER.resolve(yaml.ScalarNode, text, (True, False)) == _TEXT  # type: ignore[no-untyped-call]
    return dumper.represent_scalar(_TEXT, text, style=None if is_text else "'")


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_sequence)
_Dumper.add_representer(tuple, _represent_sequence)


def _load_yaml(text: str, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{name}{line}: this is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{name}: this is not YAML: {error}") from error
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError(f"{name}: a recipe is a mapping of keys such as task, model, data and output")
    places: dict[str, str] = {}
    _collect_places(node, (), places, lambda mark: f"{name}:{mark.line + 1}")
    loader = _Loader("")
    try:
        values = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise RecipeError(f"{name}{line}: {error.problem or error.context}") from error
    finally:
        loader.dispose()
    return values, places


def _collect_places(
    node: yaml.Node | None, path: tuple[str, ...], places: dict[str, str], place_of: Callable[[yaml.Mark], str]
) -> None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = (*path, str(key_node.value))
            place = place_of(key_node.start_mark)
            if ".".join(key) in places:
                raise RecipeError(
                    f"{place}: the key {'.'.join(key)} is written twice, first at {places['.'.join(key)]}"
                )
            places[".".join(key)] = place
            _collect_places(value_node, key, places, place_of)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            places[".".join((*path, str(index)))] = place_of(item.start_mark)
            _collect_places(item, (*path, str(index)), places, place_of)


def _lay_over(values: dict[str, Any], places: dict[str, str], override: str) -> None:
    key, equals, written = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise RecipeError(f"the override {override!r} is not of the form key.path=value, such as training.seed=2")
    try:
        node, value = yaml.compose(written, Loader=_Loader), read_value(written)
    except yaml.YAMLError as error:
        raise RecipeError(f"the value of the override {override!r} is not YAML") from error
    section, place = values, f"override {override}"
    for depth, part in enumerate(parts[:-1]):
        inner, path = section.get(part), ".".join(parts[: depth + 1])
        if part == "model" and depth == 0 and (inner is None or isinstance(inner, str)):
            section[part] = inner = _opened(inner or Recipe.model_fields["model"].default, parts[1])
            # What was the value is now that of its first key.
            places |= {f"{path}.{key}": places.setdefault(path, place) for key in inner}
        elif inner is None:
            section[part] = inner = {}
            places.setdefault(path, place)
        if not isinstance(inner, dict):
            raise RecipeError(f"the override {override!r} looks into {path}, which is no section")
        section = inner
    section[parts[-1]] = value
    path = ".".join(parts)
    for replaced in [one for one in places if one == path or one.startswith(path + ".")]:
        del places[replaced]
    places[path] = place
    _collect_places(node, tuple(parts), places, lambda mark: place)


def _opened(model: str, key: str) -> dict[str, Any]:
    """Return the mapping that a preset or a trained model stands for, into which an override puts a key."""
    # Not above: it takes PyTorch, and a recipe is read without where it can be.
    from trasluz.models.registry import presets

    # Of what is no preset a shape is changed by mistake: then the sentence about presets, and the nearest, is wanted.
    of_trained = key in ("layers", "lengthen") or (key.endswith(DROPOUT) and model not in presets())
    return {"from" if of_trained else "preset": model}


def _explain(error: ValidationError, places: Mapping[str, str], name: str) -> str:
    problems = error.errors()
    sentences = [_sentence(problem, places, name) for problem in problems]
    more = len(sentences) - 1
    return sentences[0] + (f" (and {more} more mistake{'s' if more > 1 else ''} after it)" if more else "")


def _sentence(problem: Any, places: Mapping[str, str], name: str) -> str:
    path = [str(part) for part in problem["loc"]]
    context = problem.get("ctx") or {}
    below = getattr(context.get("error"), "key", None)
    if below:
        path.append(below)
    key = ".".join(path)
    place = next((places[".".join(path[:n])] for n in range(len(path), 0, -1) if ".".join(path[:n]) in places), name)
    value = problem.get("input")
    kind = problem["type"]
    if kind == "extra_forbidden":
        known = list(_fields(Recipe, path[:-1]))
        close = nearest(path[-1], known)
        section = f"section {'.'.join(path[:-1])}" if path[:-1] else "recipe"
        hint = f"did you mean {close}?" if close else f"the {section} knows: {', '.join(known)}"
        return f"{place}: unknown key {key}; {hint}"
    if kind == "missing":
        return f"{place}: the key {key} is missing"
    if kind in _HIDDEN:
        sentence = str(context.get("error", problem["msg"]))
        # A whole section would bury what is wrong with it.
        if below or is_section(key):
            return f"{place}: {key}: {sentence}"
        return (
            f"{place}: {key} is {value!r}: {sentence}" if key else f"{_mentioned(sentence, places, name)}: {sentence}"
        )
    if kind == "literal_error":
        wanted = context["expected"].replace("'", "")
        close = nearest(str(value), re.split(r", | or ", wanted))
        return f"{place}: {key} is {value!r}, and must be {wanted}" + (f"; did you mean {close}?" if close else "")
    if kind == "model_type" or kind == "model_attributes_type":
        return f"{place}: {key} is {value!r}, and must be a section of its own: keys below it, or {{key: value}}"
    return f"{place}: {key} is {value!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def is_section(key: str) -> bool:
    """Tell whether a recipe has a section of this name."""
    field = Recipe.model_fields.get(key)
    return field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _mentioned(sentence: str, places: Mapping[str, str], name: str) -> str:
    # A sentence about several keys stands at the first one that is written in the file.
    return next((places[word] for word in re.findall(r"[a-z_]+\.[a-z_]+", sentence) if word in places), name)


def _fields(section: type[BaseModel], path: Iterable[str]) -> Iterable[str]:
    for part in path:
        field = section.model_fields.get(part)
        inner = field.annotation if field else None
        candidates = [inner, *get_args(inner)]
        section = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), section)
    return section.model_fields
