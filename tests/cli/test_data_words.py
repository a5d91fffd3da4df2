"""Data named on the command line becomes what a recipe says, also when the shell has expanded its braces."""

from pathlib import Path

import pytest

from trasluz.cli.data_words import (
    data_entry,
    guess_languages,
    parse_languages,
    repeat_data_options,
    shown,
    told_of_data,
)
from trasluz.errors import RequestError


def test_every_word_behind_a_data_option_gets_the_option() -> None:
    given = "init translate --data a.en a.es --valid v.en v.es --model rnnsearch".split()
    wanted = "init translate --data a.en --data a.es --valid v.en --valid v.es --model rnnsearch".split()
    assert repeat_data_options(given) == wanted


def test_words_behind_two_dashes_are_left_alone() -> None:
    given = ["translate", "pocket-en-es", "--", "--data", "a", "b"]
    assert repeat_data_options(given) == given


@pytest.mark.parametrize(
    ("words", "entry"),
    [
        (["pairs.tsv"], "pairs.tsv"),
        (["corpus.{en,es}"], "corpus.{en,es}"),
        (["corpus.en", "corpus.es"], "corpus.{en,es}"),
        (["data/train.en.gz", "data/train.es.gz"], "data/train.{en,es}.gz"),
        (["en/all.txt", "es/all.txt"], "{en,es}/all.txt"),
        (["left.txt", "right.txt"], "{left,right}.txt"),
        (["a.tsv", "b.tsv"], ["a.tsv", "b.tsv"]),
        (["one.en", "two.en", "three.en"], ["one.en", "two.en", "three.en"]),
        (["hf:owner/name:train", "hf:owner/name:test"], ["hf:owner/name:train", "hf:owner/name:test"]),
    ],
)
def test_data_as_a_recipe_names_it(words: list[str], entry: str | list[str]) -> None:
    assert data_entry("--data", words) == entry


def test_no_data_is_refused() -> None:
    with pytest.raises(RequestError, match=r"no data is named; say for instance --data corpus\.\{en,es\} or"):
        data_entry("--data", [])


@pytest.mark.parametrize("words", ["en", "en,en", "english,spanish", "en,es,fr"])
def test_languages_are_two_different_codes(words: str) -> None:
    with pytest.raises(RequestError, match=rf"--languages is '{words}'; two different codes were expected"):
        parse_languages(words)


def test_languages_are_told_by_braces_columns_or_keys(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("source\tde\tfr\nx\tLicht\tlumière\n", encoding="utf-8")
    (tmp_path / "pairs.jsonl").write_text('{"en": "light", "es": "luz"}\n', encoding="utf-8")
    assert guess_languages("corpus.{pt,gl}.gz") == ("pt", "gl")
    assert guess_languages(str(tmp_path / "pairs.tsv")) == ("de", "fr")
    assert guess_languages(str(tmp_path / "pairs.jsonl")) == ("en", "es")
    assert parse_languages("pt-BR, en") == ("pt-BR", "en")


@pytest.mark.parametrize("name", ["plain.tsv", "broken.jsonl"])
def test_languages_that_nothing_tells_must_be_said(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("the light\tla luz\n", encoding="utf-8")
    with pytest.raises(
        RequestError, match=r"neither the name nor the columns of .* tell its languages; say them, as in"
    ):
        guess_languages(str(path))


def test_what_stands_behind_data_and_names_none_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "corpus").touch()
    (tmp_path / "run.1").mkdir()
    for word in ("pocket-en-es", "translate", "sentence-transformers/all-MiniLM-L6-v2", str(tmp_path / "run.1")):
        assert repeat_data_options(["evaluate", "--data", "a.en", word, "b.en"]) == [
            *("evaluate", "--data", "a.en", word, "b.en")
        ]
    for word in ("b.tsv", "part-*", "hf:owner/name", "{en,es}/all", str(tmp_path / "corpus")):
        assert repeat_data_options(["init", "tag", "--data", "a.tsv", word])[-2:] == ["--data", word]


def test_what_is_told_is_said_of_each_file() -> None:
    told = told_of_data("tsv", "text=2,label=1")
    assert told == {"format": "tsv", "columns": {"text": 2, "label": 1}}
    assert told_of_data(None, None) == {}
    assert data_entry("--data", ["a.txt", "b.txt"], told) == [{"path": "a.txt", **told}, {"path": "b.txt", **told}]
    assert data_entry("--data", ["a.txt"], told) == {"path": "a.txt", **told}
    assert shown([{"path": "a.txt", **told}, {"path": "b.txt", **told}]) == "a.txt b.txt"
    entry = [{"path": "a.{en,es}", "format": "moses"}, {"path": "b.{en,es}", "format": "moses"}]
    assert guess_languages(entry) == ("en", "es")


def test_an_entry_is_spelt_out_as_in_a_recipe() -> None:
    word = "{path: rows, format: tsv, columns: {no: 1, es: 2}, header: false}"
    entry = {"path": "rows", "format": "tsv", "columns": {"no": 1, "es": 2}, "header": False}
    assert data_entry("--data", [word]) == entry
    assert data_entry("--data", [word, "b.tsv"]) == [entry, "b.tsv"]
    assert data_entry("--data", ["{path: a, format: csv}"], told_of_data("tsv", "text=1")) == {
        "path": "a",
        "format": "csv",
        "columns": {"text": 1},
    }
    assert guess_languages(entry) == ("no", "es")
    assert repeat_data_options(["evaluate", "--data", word, word]) == ["evaluate", "--data", word, "--data", word]
    with pytest.raises(RequestError, match=r"^--data is '\{path: a', which is no mapping; one was expected, as in '"):
        data_entry("--data", ["{path: a"])


def test_languages_of_a_parquet_file(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"en": ["a"], "es": ["b"]}), tmp_path / "a.parquet")
    assert guess_languages(str(tmp_path / "a.parquet")) == ("en", "es")
