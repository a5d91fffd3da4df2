import os

import pytest

from trasluz.errors import DataError
from trasluz.text.data_naming import DataFile, ending_format, find_files

LANGUAGES = ("en", "es")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "corpus.en",
        "corpus.es",
        "corpus.de",
        "more.en",
        "more.es",
        "a.tsv",
        "b.tsv",
        "rows.jsonl.gz",
        "odd{1,2}.tsv",
    ):
        (tmp_path / name).write_text("x\ty\n")
    (tmp_path / "sub").mkdir()
    return tmp_path


def paths(entry, languages=LANGUAGES):
    return [file.paths for file in find_files(entry, languages)]


def test_one_file_is_read_as_its_ending_says(folder):
    assert find_files("a.tsv", LANGUAGES) == [DataFile(("a.tsv",), "tsv")]
    assert find_files(folder / "rows.jsonl.gz")[0].format == "jsonl"
    assert find_files("corpus.en")[0].format == "text"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.tsv", "tsv"),
        ("a.CSV.XZ", "csv"),
        ("a.ndjson.gz", "jsonl"),
        ("a.json.xz", "squad"),
        ("a", "text"),
        ("a.txt", "text"),
        ("a.v1.es", "text"),
    ],
)
def test_formats_by_ending(path, expected):
    assert ending_format(path) == expected


def test_braces_name_a_pair_in_the_order_of_the_languages(folder):
    assert paths("corpus.{en,es}") == [("corpus.en", "corpus.es")]
    assert paths("corpus.{es,en}") == [("corpus.en", "corpus.es")]
    assert paths("corpus.{de,en,es}", ("de", "es")) == [("corpus.de", "corpus.es")]
    # Names of other languages stand as they are written.
    assert paths("corpus.{es,en}", ("spa", "eng")) == [("corpus.es", "corpus.en")]


def test_a_pair_already_expanded_by_the_shell(folder):
    assert paths(["corpus.en", "corpus.es"]) == [("corpus.en", "corpus.es")]
    assert paths(("corpus.es", "corpus.en")) == [("corpus.en", "corpus.es")]
    assert paths(["corpus.en", "corpus.es", "a.tsv", "more.en", "more.es"]) == [
        ("corpus.en", "corpus.es"),
        ("a.tsv",),
        ("more.en", "more.es"),
    ]


def test_two_plain_files_are_two_texts_where_no_pair_is_asked_for(folder):
    assert paths(["corpus.en", "corpus.es"], ()) == [("corpus.en",), ("corpus.es",)]


def test_patterns_lists_and_both_together(folder):
    assert paths("*.tsv") == [("a.tsv",), ("b.tsv",), ("odd{1,2}.tsv",)]
    assert paths(["b.tsv", "a.tsv"]) == [("b.tsv",), ("a.tsv",)]
    assert paths("*.{en,es}") == [("corpus.en", "corpus.es"), ("more.en", "more.es")]


def test_a_file_really_called_so_comes_before_a_pattern(folder):
    assert paths("odd{1,2}.tsv") == [("odd{1,2}.tsv",)]


def test_a_mapping_says_what_the_ending_does_not(folder):
    entry = {"path": "corpus.en", "format": "tsv", "columns": {"en": 1, "es": 2}, "header": False, "source": "mine"}
    assert find_files(entry, LANGUAGES) == [DataFile(("corpus.en",), "tsv", {"en": 1, "es": 2}, False, "mine")]
    assert find_files({"path": "corpus.{en,es}", "source": "mine"}, LANGUAGES) == [
        DataFile(("corpus.en", "corpus.es"), "moses", source="mine")
    ]
    assert find_files({"path": ["corpus.en", "corpus.es"]}, LANGUAGES)[0].paths == ("corpus.en", "corpus.es")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("mor.en", r"^there is no file mor\.en; did you mean more\.en\?$"),
        ("zzzzzz/none.tsv", r"^there is no file zzzzzz/none\.tsv\.$"),
        ("nothing*.tsv", r"^no file fits the pattern nothing\*\.tsv\.$"),
        ("sub", r"^sub is a folder; the name of a file was expected, or a pattern such as sub.\*\.tsv\.$"),
        ("", r"^the name of a data file is empty\.$"),
        ([], r"^the data entry is an empty list: name at least one file\.$"),
        (7, r"^a data entry is 7; the name of a file, a list or a mapping with a path was expected\.$"),
        ("corpus.{en,es,de}", r"^corpus\.\{en,es,de\} names 3 files in braces; two were expected"),
        (
            ["corpus.en"],
            r"^corpus\.en is one plain text file; pairs need two sides: name both as in corpus\.en\.\{fr,it\}",
        ),
        (["corpus.en", "a.tsv"], r"^corpus\.en is one plain text file"),
        (
            "{corpus.*,more.en}",
            r"^\{corpus\.\*,more\.en\} fits 3 files on one side and 1 on the other; pairs were expected\.$",
        ),
        ("a.parquet", r"^there is no file a\.parquet"),
        ({"format": "tsv"}, r"^a data entry with the keys format has no path: say which file it is\.$"),
        ({}, r"^a data entry with the keys none has no path"),
        ({"path": "a.tsv", "colums": {}}, r"^the key 'colums' of a data entry is not known: did you mean columns\?$"),
        ({"path": "a.tsv", "format": "tvs"}, r"^the format 'tvs' of a\.tsv is not known: did you mean tsv\?$"),
        (
            {"path": "a.tsv", "format": "xml"},
            r"^the format 'xml' of a\.tsv is not known; known: text, moses, tsv, csv, jsonl, parquet, conll, squad\.$",
        ),
        (
            {"path": "a.tsv", "columns": {"en": 0}},
            r"^the columns of a\.tsv are \{'en': 0\}; names, or numbers from 1, were",
        ),
        ({"path": "a.tsv", "columns": ["en"]}, r"^the columns of a\.tsv are \['en'\]; names"),
        ({"path": "a.tsv", "header": "yes"}, r"^the header of a\.tsv is 'yes'; it can be true or false\.$"),
        ({"path": 7}, r"^the path of a data entry is 7; the name of a file was expected\.$"),
        ({"path": "corpus.en", "format": "moses"}, r"^corpus\.en is one file; the format moses is two: name both"),
    ],
)
def test_what_cannot_be_found_is_said_in_a_sentence(folder, entry, sentence):
    with pytest.raises(DataError, match=sentence):
        find_files(entry, ("fr", "it"))


def test_files_of_later_formats_are_told_apart_from_text(folder):
    (folder / "a.arrow").write_bytes(b"ARROW1")
    with pytest.raises(
        DataError, match=r"^a\.arrow is a arrow file, which cannot be read; it can be one of text, moses"
    ):
        find_files("a.arrow")


def test_names_may_be_paths(folder):
    assert paths([folder / "corpus.en", folder / "corpus.es"]) == [
        (os.fspath(folder / "corpus.en"), os.fspath(folder / "corpus.es"))
    ]
