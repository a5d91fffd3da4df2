"""What people write for amounts: `60m`, `20M`, `500 steps`, `last-5`, and how each is read and written back.

Every type here is a pydantic annotation; the `Form` beside it is what docs/recipe.md says about the type.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, PlainValidator

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SCALE = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


@dataclass(frozen=True)
class Form:
    """How a value is written, in words."""

    words: str


class Seconds(float):
    """A time that has been read: a bare number in a recipe has no unit and is refused."""


def parse_duration(value: object) -> Seconds:
    """Return the seconds of `90s`, `60m`, `1h30m` or `2d`."""
    if isinstance(value, Seconds):
        return value
    text = str(value).replace(" ", "")
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("write a time with its unit, such as 90s, 60m, 1h30m or 2d")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds <= 0:
        raise ValueError("a time must be longer than nothing")
    return Seconds(seconds)


def format_duration(seconds: float | int) -> str:
    """Return seconds as `1h30m`, the inverse of `parse_duration`."""
    if seconds != int(seconds):
        # All digits, and no exponent, which `parse_duration` does not know.
        return f"{Decimal(repr(seconds)):f}s"
    rest = int(seconds)
    written = ""
    for unit in ("d", "h", "m", "s"):
        size = int(_SECONDS[unit])
        if rest >= size:
            written += f"{rest // size}{unit}"
            rest %= size
    return written or "0s"


def parse_count(value: object) -> int:
    """Return the whole number of 20000, `20k`, `20M` or `1e6`."""
    complaint = "write a whole number of at least 1, such as 20000, 20k or 20M"
    if isinstance(value, bool):
        raise ValueError(complaint)
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:[eE]\+?\d{1,2})?)([kMG]?)", str(value).replace("_", ""))
    if not found:
        raise ValueError(complaint)
    # As decimals: 2.01 * 1000 is not 2010 in binary floating point.
    number = Decimal(found[1]) * _SCALE[found[2]]
    if number < 1 or number != int(number):
        raise ValueError(complaint)
    return int(number)


@dataclass(frozen=True)
class Every:
    """A rhythm: every so many updates, or every so many passes over the data."""

    count: int
    unit: Literal["steps", "epochs"]

    def __str__(self) -> str:
        return f"{self.count} {self.unit if self.count > 1 else self.unit[:-1]}"


def parse_every(value: object) -> Every:
    """Return the rhythm of `500 steps` or `1 epoch`."""
    if isinstance(value, Every):
        return value
    found = re.fullmatch(r"\s*(\S+)\s+(step|epoch)s?\s*", str(value))
    if not found:
        raise ValueError("write a rhythm, such as 500 steps or 1 epoch")
    return Every(parse_count(found[1]), "steps" if found[2] == "step" else "epochs")


@dataclass(frozen=True)
class Average:
    """Which checkpoints' weights are averaged at the end."""

    which: Literal["last", "best"]
    count: int

    def __str__(self) -> str:
        return f"{self.which}-{self.count}"


def parse_average(value: object) -> Average | None:
    """Return what `last-5` or `best-3` asks for; `none` asks for no average."""
    if value is None or value == "none" or isinstance(value, Average):
        return value if isinstance(value, Average) else None
    found = re.fullmatch(r"(last|best)-([1-9]\d*)", str(value))
    if not found:
        raise ValueError("write last-N, best-N or none, such as last-5")
    return Average("last" if found[1] == "last" else "best", int(found[2]))


def _whole(value: object) -> object:
    # pydantic reads true as 1; in a recipe that is a slip.
    if isinstance(value, bool):
        raise ValueError("write a number")
    return value


Duration = Annotated[
    float, PlainValidator(parse_duration), PlainSerializer(format_duration), Form("time: 90s, 60m, 1h30m")
]
Count = Annotated[int, BeforeValidator(parse_count), Form("whole number: 20000, 20k, 20M")]
Rhythm = Annotated[Every, PlainValidator(parse_every), PlainSerializer(str), Form("rhythm: 500 steps, 1 epoch")]
Averaging = Annotated[
    Average | None,
    PlainValidator(parse_average),
    PlainSerializer(lambda average: "none" if average is None else str(average)),
    Form("last-N, best-N or none"),
]
Integer = Annotated[int, BeforeValidator(_whole), Form("whole number")]
Number = Annotated[float, BeforeValidator(_whole), Form("number")]


def check_entry(value: Any) -> Any:
    """Return what names data, after a look at its shape: a string, a list of entries, or a mapping with a path."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value:
        return [check_entry(item) for item in value]
    if isinstance(value, dict) and "path" in value:
        return value
    raise ValueError(
        "name data by a file, a pair such as corpus.{en,es}, a list of these, "
        "or a mapping {path, format, columns, header}"
    )


Entry = Annotated[
    Any, BeforeValidator(check_entry), Form("data: a file, a pair corpus.{en,es}, a list, or a mapping with a path")
]


def label_as_text(value: Any) -> Any:
    """Return a label that is a whole number as text, which is what data say of it."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _by_language(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"data by the language that a model wrote are wanted, such as {{en: {value}}}")
    return value


ByLanguage = Annotated[dict[str, Entry], BeforeValidator(_by_language), Form("mapping of languages to data")]
Label = Annotated[str, BeforeValidator(label_as_text), Form("text")]
