"""Terms are found as whole words, the longest first, and read from the files that pairs are read from."""

from pathlib import Path

import pytest

from trasluz.errors import DataError, RequestError
from trasluz.text.glossary import Glossary

TERMS = Glossary({"light": "luz", "light bulb": "bombilla", "paper": "papel", "C++": "C++", "光": "luz"})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the light in the paper", ["luz", "papel"]),
        ("a light bulb, a light", ["bombilla", "luz"]),
        ("a light   bulb", ["bombilla"]),
        ("delightful lights, newspaper", []),
        ("Light! LIGHT", ["Luz", "Luz"]),
        ("it is written in C++.", ["C++"]),
        ("有光了", ["luz"]),
        ("", []),
        # Letters whose case folds in ways of their own.
        ("the lıght, the PAPEſ", ["luz"]),
    ],
)
def test_what_must_stand_in_the_translation(text: str, found: list[str]) -> None:
    assert TERMS.targets_in(text) == found


def test_a_name_stays_as_the_glossary_writes_it() -> None:
    assert Glossary({"Trasluz": "trasluz"}).targets_in("Trasluz is here") == ["trasluz"]


def test_no_glossary_finds_nothing() -> None:
    assert not Glossary({})
    assert Glossary({}).targets_in("the light") == []


def test_a_fingerprint_is_that_of_the_terms() -> None:
    one, other = {"light": "luz", "the lamp": "la mesa"}, {"The  lamp ": "la mesa"}
    assert Glossary(one).fingerprint == Glossary(dict(reversed(one.items()))).fingerprint
    assert len({Glossary(terms).fingerprint for terms in (one, other, {})}) == 3


def test_a_header_serves_both_directions(tmp_path: Path) -> None:
    path = tmp_path / "terms.tsv"
    path.write_text("en\tes\nlight\tluz\n", encoding="utf-8")
    assert Glossary.read(path, ("en", "es")).targets_in("the light") == ["luz"]
    assert Glossary.read(path, ("es", "en")).targets_in("la luz") == ["light"]


def test_two_columns_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "terms.tsv"
    path.write_text("light\tluz\npaper\tpapel\n", encoding="utf-8")
    assert len(Glossary.read(path, ("en", "es"))) == 2


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"the glossary maps 'light' to ' '; neither side may be empty"):
        Glossary({"light": " "})
    with pytest.raises(DataError, match="there is no file"):
        Glossary.read(tmp_path / "none.tsv", ("en", "es"))
    path = tmp_path / "terms.tsv"
    path.write_text("light\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"terms\.tsv:1: column 2 \(es\) is missing"):
        Glossary.read(path, ("en", "es"))
