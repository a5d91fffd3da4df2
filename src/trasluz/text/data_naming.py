"""What a `data` entry names: files, their format and columns.

pairs.tsv  rows.jsonl  dump.parquet  corpus.gz   by its ending
corpus.{en,es}                                   two Moses files, one sentence a line in each
data/*.tsv                                       every file that fits, in the order of their names
[corpus.en, corpus.es]                           a brace pair that the shell has already expanded
[first.tsv, second.tsv]                          one after the other
{path: ..., format: ..., columns: {en: 1, es: 2}, header: false, source: tatoeba}
${CORPORA}/pairs.tsv                             with the value of an environment variable
"""

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trasluz.errors import DataError, nearest

# A list holds entries; the type checker is spared the recursion.
Entry = str | os.PathLike[str] | Mapping[str, Any] | Sequence[Any]

FORMATS = ("text", "moses", "tsv", "csv", "jsonl", "parquet", "conll", "squad")
_COMPRESSIONS = (".gz", ".xz")
_ENDINGS = {
    ".tsv": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".conll": "conll",
    ".iob": "conll",
    ".bio": "conll",
    ".json": "squad",
}
_LATER = {
    ".arrow": "arrow",
    ".xlsx": "Excel",
    ".zip": "zip",
    ".bz2": "bz2",
    ".zst": "zst",
    ".tar": "tar",
}
_KEYS = ("path", "format", "columns", "header", "source")
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class DataFile:
    """One file, or two of a Moses pair, with how to read it."""

    paths: tuple[str, ...]
    format: str
    columns: Mapping[str, str | int] = field(default_factory=dict)
    header: bool | None = None
    source: str | None = None
    """What the allow-list `sources` knows every row by, where the file has no column `source`."""

    @property
    def name(self) -> str:
        """Return the file as a message shows it."""
        return " and ".join(self.paths)


def find_files(entry: Any, languages: Sequence[str] = ()) -> list[DataFile]:
    """Return the files that a `data` entry names, in order; with two languages, as pairs.

    The entry comes from people, so that anything may stand there; what is expected is an `Entry`.
    Raises DataError, with the key path below the entry, for a file that is not there, a pattern that fits nothing, an
    unknown format or key.
    """
    if isinstance(entry, Mapping):
        return _from_mapping(entry, languages)
    if isinstance(entry, str | os.PathLike):
        return _from_name(os.fspath(entry), languages, {})
    if not isinstance(entry, list | tuple):
        raise DataError(f"a data entry is {entry!r}; the name of a file, a list or a mapping with a path was expected.")
    if not entry:
        raise DataError("the data entry is an empty list: name at least one file.")
    files: list[DataFile] = []
    parts = iter(enumerate(entry))
    for number, part in parts:
        try:
            if len(languages) == 2 and is_one_side(part):
                # A shell has expanded corpus.{en,es}: two plain names in a row are the two sides.
                _, other = next(parts, (0, None))
                if other is None or not is_one_side(other):
                    raise DataError(one_side_message(os.fspath(part), languages))
                sides = _in_order(os.fspath(part), os.fspath(other), languages)
                files += _pairs(" ".join(sides), sides, {})
            else:
                files += find_files(part, languages)
        except DataError as error:
            error.keys = (*(f"{number}.{key}" for key in error.keys), str(number))
            raise
    return files


def one_side_message(path: str, languages: Sequence[str]) -> str:
    """Return the sentence for a plain file where pairs are needed."""
    stem, ending = os.path.splitext(path)
    pair = f"{stem if ending[1:] in languages else path}.{{{','.join(languages)}}}"
    return f"{path} is one plain text file; pairs need two sides: name both as in {pair}, or use .tsv, .csv or .jsonl."


def ending_format(path: str) -> str:
    """Return the format that a file's ending tells; "text" where it tells none."""
    stem, ending = os.path.splitext(path)
    if ending.lower() in _COMPRESSIONS:
        ending = os.path.splitext(stem)[1]
    ending = ending.lower()
    if ending in _LATER:
        raise DataError(
            f"{path} is a {_LATER[ending]} file, which cannot be read; it can be one of {', '.join(FORMATS)}, "
            "also as .gz or .xz."
        )
    return _ENDINGS.get(ending, "text")


def _from_mapping(entry: Mapping[str, Any], languages: Sequence[str]) -> list[DataFile]:
    for key in entry:
        _check_known(f"the key {key!r} of a data entry", key, _KEYS, key)
    if entry.get("path") is None:
        raise DataError(f"a data entry with the keys {', '.join(entry) or 'none'} has no path: say which file it is.")
    path = entry["path"]
    options = {key: entry[key] for key in _KEYS[1:] if entry.get(key) is not None}
    if "format" in options:
        _check_known(f"the format {options['format']!r} of {path}", options["format"], FORMATS, "format")
    columns = options.get("columns", {})
    if not isinstance(columns, Mapping) or not all(map(_is_column, columns.values())):
        raise DataError(
            f"the columns of {path} are {columns!r}; names, or numbers from 1, were expected, as in {{en: 1, es: 2}}.",
            "columns",
        )
    if not isinstance(options.get("header", True), bool):
        raise DataError(f"the header of {path} is {options['header']!r}; it can be true or false.", "header")
    try:
        return _from_path(path, languages, options)
    except DataError as error:
        error.keys = error.keys or ("path",)
        raise


def _from_path(path: Any, languages: Sequence[str], options: dict[str, Any]) -> list[DataFile]:
    if isinstance(path, str | os.PathLike):
        return _from_name(os.fspath(path), languages, options)
    if isinstance(path, Sequence) and len(path) == 2 and all(map(is_one_side, path)):
        sides = _in_order(os.fspath(path[0]), os.fspath(path[1]), languages)
        return _pairs(" ".join(sides), sides, options)
    raise DataError(f"the path of a data entry is {path!r}; the name of a file was expected.")


def _from_name(name: str, languages: Sequence[str], options: dict[str, Any]) -> list[DataFile]:
    """Return the files of one name, which may hold a pair in braces or a pattern."""
    if not name:
        raise DataError("the name of a data file is empty.")
    name = _with_environment(name)
    if name.startswith("hf:"):
        return [DataFile((name,), "hf", options.get("columns", {}), None, options.get("source"))]
    braces = None if os.path.exists(name) else _BRACES.search(name)
    if braces is None:
        paths = _expand(name)
        form = options.get("format")
        if form == "moses":
            raise DataError(f"{name} is one file; the format moses is two: name both as in corpus.{{en,es}}.", "format")
        columns, header, source = options.get("columns", {}), options.get("header"), options.get("source")
        return [DataFile((path,), form or ending_format(path), columns, header, source) for path in paths]
    choices = [choice.strip() for choice in braces[1].split(",")]
    if languages and set(languages) <= set(choices):
        choices = list(languages)
    if len(choices) != 2:
        raise DataError(f"{name} names {len(choices)} files in braces; two were expected, as in corpus.{{en,es}}.")
    sides = tuple(name[: braces.start()] + choice + name[braces.end() :] for choice in choices)
    return _pairs(name, sides, options)


def _pairs(name: str, sides: Sequence[str], options: dict[str, Any]) -> list[DataFile]:
    first, second = map(_expand, sides)
    if len(first) != len(second):
        raise DataError(
            f"{name} fits {len(first)} files on one side and {len(second)} on the other; pairs were expected."
        )
    return [DataFile(pair, "moses", source=options.get("source")) for pair in zip(first, second, strict=True)]


def _expand(name: str) -> list[str]:
    """Return the files that a name or pattern fits, sorted; a file that is really called so comes before a pattern."""
    if os.path.isdir(name):
        raise DataError(
            f"{name} is a folder; the name of a file was expected, or a pattern such as {os.path.join(name, '*.tsv')}."
        )
    if os.path.exists(name):
        return [name]
    if _GLOB.search(name):
        found = sorted(path for path in glob.glob(name, recursive=True) if not os.path.isdir(path))
        if found:
            return found
        raise DataError(f"no file fits the pattern {name}.")
    folder = os.path.dirname(name)
    try:
        close = nearest(os.path.basename(name), os.listdir(folder or "."))
    except OSError:
        close = None
    hint = f"; did you mean {os.path.join(folder, close)}?" if close else "."
    raise DataError(f"there is no file {name}{hint}")


def _with_environment(name: str) -> str:
    """Return a name with ${VARIABLE} replaced by its value; a file that is really called so stays."""
    if "$" not in name or os.path.exists(name):
        return name
    expanded = os.path.expandvars(name)
    unset = re.search(r"\$\{?(\w+)", expanded)
    if unset and unset[1] not in os.environ:
        raise DataError(f"the environment variable {unset[1]} in {name} is not set: set it, or write the path out.")
    return expanded


def is_one_side(part: Any) -> bool:
    """Return whether a part of a list is a plain text file, half of a pair."""
    if not isinstance(part, str | os.PathLike):
        return False
    name = os.fspath(part)
    return not name.startswith("hf:") and not _BRACES.search(name) and ending_format(name) == "text"


def _in_order(first: str, second: str, languages: Sequence[str]) -> tuple[str, str]:
    """Return both names with the source side first, where the names tell their languages."""
    if len(languages) == 2:
        parts = [set(re.split(r"[._-]", os.path.basename(name))) for name in (first, second)]
        if languages[1] in parts[0] - parts[1] and languages[0] in parts[1] - parts[0]:
            return second, first
    return first, second


def _is_column(column: Any) -> bool:
    return isinstance(column, str) or (isinstance(column, int) and not isinstance(column, bool) and column >= 1)


def _check_known(what: str, name: Any, choices: Sequence[str], key: Any) -> None:
    if name not in choices:
        close = nearest(str(name), choices)
        hint = f": did you mean {close}?" if close else f"; known: {', '.join(choices)}."
        raise DataError(f"{what} is not known{hint}", str(key))
