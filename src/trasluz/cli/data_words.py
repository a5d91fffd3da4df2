"""What stands after `--data`: as a recipe names it, and which languages its names tell."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DATA_OPTIONS = ("--data", "--valid")

_LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z]{2,4})?")


def repeat_data_options(arguments: Sequence[str]) -> list[str]:
    """Put the option before each file behind it: a shell has made `--data a.en a.es` of `--data a.{en,es}`.

    A folder, or a word that names no file, is something else: a model, a task.
    """
    repeated: list[str] = []
    option = None
    fresh = False
    for place, argument in enumerate(arguments):
        if argument == "--":
            return repeated + list(arguments[place:])
        if argument.startswith("-"):
            option = argument if argument in DATA_OPTIONS else None
            fresh = True
        elif option and not fresh:
            if _names_data(argument):
                repeated.append(option)
            else:
                option = None
        else:
            fresh = False
        repeated.append(argument)
    return repeated


def _names_data(word: str) -> bool:
    path = Path(word)
    is_pattern = word.startswith("hf:") or any(mark in word for mark in "*?[{$")
    return is_pattern or path.is_file() or ("." in path.name and not path.is_dir())


def data_entry(option: str, words: Sequence[str], told: Mapping[str, Any] | None = None) -> Any:
    """Return the words behind an option as a recipe names data; two sides that a shell expanded become a pair again.

    What else is `told` of them, format and columns, is said of each.
    """
    from trasluz.errors import RequestError
    from trasluz.text.data_naming import is_one_side

    # What is told of all gives way to what an entry says itself.
    named = [_spelt_out(option, word) for word in words]
    if not words:
        raise RequestError(f"no data is named; say for instance {option} corpus.{{en,es}} or {option} pairs.tsv.")
    if told:
        entries = [{**told, **(one if isinstance(one, dict) else {"path": one})} for one in named]
        return entries[0] if len(entries) == 1 else entries
    if len(words) == 2 and all(map(is_one_side, words)):
        sides = [re.split(r"([._/-])", word) for word in words]
        different = [place for place, (one, other) in enumerate(zip(*sides, strict=False)) if one != other]
        if len(sides[0]) == len(sides[1]) and len(different) == 1:
            (place,) = different
            sides[0][place] = f"{{{sides[0][place]},{sides[1][place]}}}"
            return "".join(sides[0])
    return named[0] if len(named) == 1 else named


def _spelt_out(option: str, word: str) -> Any:
    """Return the mapping that `{path: rows, format: tsv}` writes as a recipe does; any other word is a name."""
    if not (word.startswith("{") and "path:" in word):
        return word
    import yaml

    from trasluz.errors import RequestError
    from trasluz.training.recipe_file import read_value

    try:
        entry = read_value(word)
    except yaml.YAMLError:
        entry = None
    if not isinstance(entry, dict) or "path" not in entry:
        raise RequestError(
            f"{option} is {word!r}, which is no mapping; one was expected, as in '{{path: rows, format: tsv}}'."
        )
    return entry


def told_of_data(form: str | None, columns: str | None) -> dict[str, Any]:
    """Return what --format and --columns tell, as a recipe says it; nothing where neither is given."""
    if form is None and columns is None:
        return {}
    return {"format": form, "columns": named_columns(columns) if columns else {}}


def named_columns(words: str) -> dict[str, str | int]:
    """Return the columns of `text=sentence,label=1`: names, or numbers counted from 1."""
    from trasluz.errors import RequestError

    found: dict[str, str | int] = {}
    for word in words.split(","):
        name, given, column = word.strip().partition("=")
        if not given or not name or not column:
            raise RequestError(f"--columns is {words!r}; names and columns were expected, as in text=sentence,label=1.")
        found[name] = int(column) if column.isdecimal() else column
    return found


def parse_languages(words: str) -> tuple[str, str]:
    """Return the two languages of `en,es`."""
    from trasluz.errors import RequestError

    found = [word.strip() for word in words.split(",")]
    if len(found) != 2 or found[0] == found[1] or not all(_LANGUAGE.fullmatch(word) for word in found):
        raise RequestError(f"--languages is {words!r}; two different codes were expected, as in --languages en,es.")
    return found[0], found[1]


def guess_languages(entry: Any, remedy: str = "say them, as in --languages en,es") -> tuple[str, str]:
    """Return the languages that names in braces, or the columns of a header, tell."""
    from trasluz.errors import RequestError
    from trasluz.text.data_naming import find_files

    first = shown(entry if isinstance(entry, str | dict) else entry[0])
    if braces := re.search(r"\{([^{}]*)\}", first):
        names = braces[1].split(",")
    elif isinstance(entry, dict) and isinstance(entry.get("columns"), dict) and entry["columns"]:
        names = list(map(str, entry["columns"]))
    else:
        file = find_files(entry)[0]
        names = _column_names(file.paths[0], file.format)
    codes = [name.strip() for name in names if _LANGUAGE.fullmatch(name.strip())]
    if len(codes) != 2:
        raise RequestError(f"neither the name nor the columns of {shown(entry)} tell its languages; {remedy}.")
    return codes[0], codes[1]


def shown(entry: Any) -> str:
    """Return an entry as a sentence shows it."""
    if isinstance(entry, dict):
        return str(entry["path"])
    return entry if isinstance(entry, str) else " ".join(map(shown, entry))


def _column_names(path: str, form: str) -> list[str]:
    """Return what the first line of a table says its columns are."""
    from trasluz.text.lines import read_lines
    from trasluz.text.parquet_records import parquet_columns

    if form == "parquet":
        return parquet_columns(path)
    first = str(next(iter(read_lines(path)), ""))
    if form == "jsonl":
        try:
            return [str(key) for key in json.loads(first)]
        except (ValueError, TypeError):
            return []
    separators = {"tsv": "\t", "csv": ","}
    return first.split(separators[form]) if form in separators else []
