"""What stands after `--data`: as a recipe names it, and which languages its names tell."""

import json
import re
from collections.abc import Sequence
from typing import Any

DATA_OPTIONS = ("--data", "--valid")

_LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z]{2,4})?")


def repeat_data_options(arguments: Sequence[str]) -> list[str]:
    """Put the option before each of the words behind it: a shell has made `--data a.en a.es` of `--data a.{en,es}`."""
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
            repeated.append(option)
        else:
            fresh = False
        repeated.append(argument)
    return repeated


def data_entry(option: str, words: Sequence[str]) -> str | list[str]:
    """Return the words behind an option as a recipe names data; two sides that a shell expanded become a pair again."""
    from trasluz.errors import RequestError
    from trasluz.text.data_naming import ending_format

    if not words:
        raise RequestError(f"no data is named; say for instance {option} corpus.{{en,es}} or {option} pairs.tsv.")
    if len(words) == 2 and all(ending_format(word) == "text" for word in words):
        sides = [re.split(r"([._/-])", word) for word in words]
        different = [place for place, (one, other) in enumerate(zip(*sides, strict=False)) if one != other]
        if len(sides[0]) == len(sides[1]) and len(different) == 1:
            (place,) = different
            sides[0][place] = f"{{{sides[0][place]},{sides[1][place]}}}"
            return "".join(sides[0])
    return words[0] if len(words) == 1 else list(words)


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


def guess_languages(entry: Any) -> tuple[str, str]:
    """Return the languages that names in braces, or the columns of a header, tell."""
    from trasluz.errors import RequestError
    from trasluz.text.data_naming import find_files

    named = entry["path"] if isinstance(entry, dict) else entry
    first = named if isinstance(named, str) else named[0]
    if braces := re.search(r"\{([^{}]*)\}", first):
        names = braces[1].split(",")
    else:
        file = find_files(entry)[0]
        names = _column_names(file.paths[0], file.format)
    codes = [name.strip() for name in names if _LANGUAGE.fullmatch(name.strip())]
    if len(codes) != 2:
        raise RequestError(
            f"neither the name nor the columns of {shown(entry)} tell its languages; say them, as in --languages en,es."
        )
    return codes[0], codes[1]


def shown(entry: Any) -> str:
    """Return an entry as a sentence shows it."""
    if isinstance(entry, dict):
        return shown(entry["path"])
    return entry if isinstance(entry, str) else " ".join(entry)


def _column_names(path: str, form: str) -> list[str]:
    """Return what the first line of a table says its columns are."""
    from trasluz.text.lines import read_lines

    first = str(next(iter(read_lines(path)), ""))
    if form == "jsonl":
        try:
            return [str(key) for key in json.loads(first)]
        except (ValueError, TypeError):
            return []
    separators = {"tsv": "\t", "csv": ","}
    return first.split(separators[form]) if form in separators else []
