import json
import sys

import pytest

from trasluz.errors import DataError, RequestError
from trasluz.text.readers import Place, ReadReport, read_documents, read_pairs, read_texts
from trasluz.text.rows import DOCUMENT_LIMIT

ROWS = [("The lamp is lit.", "La lámpara está encendida."), ("Close the door.", "Cierra la puerta.")]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file into the working folder, from text or bytes."""
    monkeypatch.chdir(tmp_path)

    def write_file(name, content):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write_file


def sides(*args, **kwargs):
    return [(pair.source, pair.target) for pair in read_pairs(*args, **kwargs)]


def moses(write, english, spanish):
    write("corpus.en", english)
    write("corpus.es", spanish)
    return "corpus.{en,es}"


FORMS = {
    "moses.{en,es}": None,
    "pairs.tsv": "The lamp is lit.\tLa lámpara está encendida.\nClose the door.\tCierra la puerta.\n",
    "head.tsv": "id\tes\ten\n1\tLa lámpara está encendida.\tThe lamp is lit.\n2\tCierra la puerta.\tClose the door.\n",
    "pairs.csv": 'en,es\nThe lamp is lit.,La lámpara está encendida.\n"Close the door.",Cierra la puerta.\n',
    "spain.csv": "en;es\nThe lamp is lit.;La lámpara está encendida.\nClose the door.;Cierra la puerta.\n",
    "pairs.jsonl": "".join(json.dumps({"en": en, "es": es, "n": 1}) + "\n" for en, es in ROWS),
    "hub.jsonl": "".join(json.dumps({"translation": {"en": en, "es": es}}) + "\n" for en, es in ROWS),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("change", ["plain", "crlf", "mark", "no last end"])
def test_every_form_gives_the_same_pairs(write, name, change):
    contents = {name: FORMS[name]}
    if FORMS[name] is None:
        contents = {
            f"moses.{code}": "".join(row[side] + "\n" for row in ROWS) for side, code in enumerate(("en", "es"))
        }
    for path, content in contents.items():
        if change == "crlf":
            content = content.replace("\n", "\r\n")
        elif change == "mark":
            content = "\ufeff" + content
        elif change == "no last end":
            content = content.removesuffix("\n")
        write(path, content)
    assert sides(name) == ROWS


def test_a_pair_knows_its_place(write):
    write("a.tsv", "one\tuno\n")
    write("b.tsv", "en\tes\ntwo\tdos\n")
    assert [pair.place for pair in read_pairs(["a.tsv", "b.tsv"])] == [Place("a.tsv", 1), Place("b.tsv", 2)]
    assert str(Place("a.tsv", 1)) == "a.tsv:1"


def test_languages_choose_and_order_the_columns(write):
    write("a.tsv", "de\ten\tes\neins\tone\tuno\n")
    assert sides("a.tsv", ("es", "de")) == [("uno", "eins")]


def test_columns_by_name_by_number_and_without_a_header(write):
    write("a.tsv", "id\tEnglish\tSpanish\n1\tone\tuno\n")
    assert sides({"path": "a.tsv", "columns": {"en": "English", "es": "Spanish"}}) == [("one", "uno")]
    assert sides({"path": "a.tsv", "columns": {"en": 2, "es": 3}, "header": True}) == [("one", "uno")]
    assert sides({"path": "a.tsv", "columns": {"en": 2, "es": 3}}) == [("English", "Spanish"), ("one", "uno")]
    write("b.tsv", "en\tes\none\tuno\n")
    assert sides({"path": "b.tsv", "header": False}) == [("en", "es"), ("one", "uno")]
    write("c.tsv", "English\tSpanish\none\tuno\n")
    assert sides({"path": "c.tsv", "header": True}) == [("one", "uno")]


def test_only_allowed_sources_are_read(write):
    write("a.tsv", "source\ten\tes\nbooks\tone\tuno\nchat\ttwo\tdos\nbooks\tthree\ttres\nchat\t\t\n")
    report = ReadReport()
    assert sides("a.tsv", sources=["books"], report=report) == [("one", "uno"), ("three", "tres")]
    assert (report.read, report.kept, report.other_sources, report.malformed) == (4, 2, 2, 0)
    assert report.kept_by_source == {"books": 2}
    assert report.summary() == "2 of 4 read; 2 of other sources"


def test_a_file_may_be_given_a_source(write):
    write("a.tsv", "one\tuno\n")
    write("b.jsonl", '{"source": "books", "en": "two", "es": "dos"}\n{"source": "chat", "en": "no", "es": "no"}\n')
    entry = [{"path": "a.tsv", "source": "mine"}, "b.jsonl"]
    assert sides(entry, sources=["mine", "books"]) == [("one", "uno"), ("two", "dos")]
    assert sides({"path": moses(write, "one\n", "uno\n"), "source": "mine"}, sources=["mine"]) == [("one", "uno")]


def test_a_file_without_a_source_is_refused_by_a_list_of_allowed_ones(write):
    write("a.tsv", "one\tuno\n")
    with pytest.raises(
        DataError, match=r"^a\.tsv has no column source, by which only books, mine shall be kept: name its"
    ):
        sides("a.tsv", sources=["mine", "books"])


def test_a_misspelt_source_is_told(write):
    write("a.tsv", "source\ten\tes\nbooks\tone\tuno\n")
    with pytest.raises(DataError, match=r"^no row of a\.tsv is of an allowed source \(bokos\): did you mean books\?$"):
        sides("a.tsv", sources=["bokos"])
    with pytest.raises(DataError, match=r"^no row of a\.tsv is of an allowed source \(x\): found: books\.$"):
        sides("a.tsv", sources="x")


MALFORMED = {
    "empty side": ("a.tsv", "one\tuno\n\tdos\n", 2, "the en side is empty"),
    "only blanks": ("a.tsv", "one\tuno\ntwo\t \u00a0\n", 2, "the es side is empty"),
    "NUL": ("a.tsv", b"one\tuno\ntw\0o\tdos\n", 2, "NUL character"),
    "NUL in JSON": ("a.jsonl", '{"en": "a", "es": "b"}\n{"en": "a\\u0000", "es": "b"}\n', 2, "NUL character"),
    "encoding": ("a.tsv", b"one\tuno\nni\xf1o\tnino\n", 2, "invalid UTF-8"),
    "long line": ("a.tsv", "one\tuno\n" + "two " * 250_001 + "\tdos\n", 2, "line over 1,000,000 bytes"),
    "missing column": ("a.tsv", "one\tuno\ntwo\n", 2, "column 2 (es) is missing"),
    "missing named column": ("a.csv", "en,es\none,uno\ntwo\n", 3, "column 2 (es) is missing"),
    "empty line": ("a.csv", "one,uno\n\n", 2, "column 1 (en) is missing"),
    "missing key": ("a.jsonl", '{"en": "a", "es": "b"}\n{"en": "a"}\n', 2, "column es is missing"),
    "no text": ("a.jsonl", '{"en": "a", "es": "b"}\n{"en": "a", "es": 7}\n', 2, "column es is no text"),
    "empty key": ("a.jsonl", '{"en": "a", "es": "b"}\n{"en": "a", "es": ""}\n', 2, "the es side is empty"),
    "no JSON": ("a.jsonl", '{"en": "a", "es": "b"}\n{"en": "a",\n', 2, "no JSON object"),
    "no object": ("a.jsonl", '{"en": "a", "es": "b"}\n[1]\n', 2, "no JSON object"),
    "deep JSON": ("a.jsonl", '{"en": "a", "es": "b"}\n' + "[" * 100_000 + "\n", 2, "no JSON object"),
    "carriage return": ("a.csv", "one,uno\ntwo\rmore,dos\n", 2, "a carriage return within a cell that is not quoted"),
    "open quote": (
        "a.csv",
        'one,uno\n"two,dos\n' + ("x" * 600_000 + "\n") * 2,
        2,
        "a quoted field over 1,000,000 characters",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_line_stops_with_its_place_or_is_skipped_and_counted(write, case):
    name, content, line, reason = MALFORMED[case]
    write(name, content)
    with pytest.raises(DataError) as caught:
        sides(name)
    assert str(caught.value).startswith(f"{name}:{line}: {reason}")
    assert str(caught.value).endswith(". Correct it, or set `on_error` to skip.")
    report = ReadReport()
    assert len(sides(name, on_error="skip", report=report)) >= 1
    assert f"{name}:{line}" in report.summary()
    assert sum(report.reasons.values()) == report.malformed >= 1
    assert report.read == report.kept + report.malformed


@pytest.mark.parametrize(
    ("english", "spanish", "place"), [("one\n\0\n", "uno\ndos\n", "en:2"), ("one\ntwo\n", "uno\n\0\n", "es:2")]
)
def test_a_fault_in_one_of_two_files_is_placed_in_that_file(write, english, spanish, place):
    with pytest.raises(DataError, match=rf"^corpus\.{place}: NUL character"):
        sides(moses(write, english, spanish))
    assert sides("corpus.{en,es}", on_error="skip") == [("one", "uno")]


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize(
    ("english", "spanish", "counts"),
    [("one\ntwo\nthree\n", "uno\n", (3, 1)), ("one\n", "uno\ndos\ntres\n", (1, 3)), ("", "uno\n", (0, 1))],
)
def test_files_of_unequal_length_are_refused_with_both_counts(write, english, spanish, counts, on_error):
    sentence = r"^corpus\.en has {} lines and corpus\.es has {}; they must be of equal length, line for line"
    with pytest.raises(DataError, match=sentence.format(*counts)):
        sides(moses(write, english, spanish), on_error=on_error)


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl", "corpus.{en,es}"])
@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_an_empty_file_is_named(write, name, content, on_error):
    for path in ("corpus.en", "corpus.es") if "{" in name else (name,):
        write(path, content)
    with pytest.raises(
        DataError, match=r"^(a\.\w+|corpus\.en and corpus\.es) is empty: at least one line was expected\.$"
    ):
        sides(name, on_error=on_error)


def test_nothing_left_is_told_with_the_reasons(write):
    write("a.tsv", "en\tes\n\tuno\ntwo\t\n")
    with pytest.raises(
        DataError, match=r"^nothing is left of a\.tsv: 0 of 2 read; 1 left out: the en side is empty \(a\.tsv:2\); 1"
    ):
        sides("a.tsv", on_error="skip")
    write("b.tsv", "en\tes\n")
    with pytest.raises(DataError, match=r"^b\.tsv is empty: at least one line was expected\.$"):
        sides("b.tsv")


def test_the_report_shows_the_first_places_of_each_reason(write):
    write("a.tsv", "one\tuno\n" + "\tdos\n" * 9)
    report = ReadReport()
    sides("a.tsv", on_error="skip", report=report)
    assert report.summary() == (
        "1 of 10 read; 9 left out: the en side is empty (a.tsv:2, a.tsv:3, a.tsv:4, a.tsv:5, a.tsv:6, ...)"
    )


@pytest.mark.parametrize(
    ("entry", "content", "sentence"),
    [
        (
            {"columns": {"en": "Englsh", "es": "Spanish"}},
            "English\tSpanish\n",
            r"^a\.tsv has no column Englsh; did you mean English\?$",
        ),
        ({"header": True}, "x\ty\tz\n", r"^a\.tsv has no column en; its first line has: x, y, z\.$"),
        (
            {"columns": {"en": "x", "es": 2}, "header": False},
            "x\ty\n",
            r"^a\.tsv is said to have no header, yet its columns are",
        ),
        ({"columns": {"source": "from"}}, "en\tes\n", r"^a\.tsv has no column from; its first line has: en, es\.$"),
        ({}, "\0\n", r"^a\.tsv:1: NUL character, so that the columns cannot be told: correct this line\.$"),
        (
            {"format": "jsonl", "columns": {"en": 1, "es": 2}},
            "{}\n",
            r"^a\.tsv has named columns; 1 is a number: give its name\.$",
        ),
        (
            {"format": "text"},
            "x\n",
            r"^a\.tsv is one plain text file; pairs need two sides: name both as in a\.tsv\.\{en,es\}",
        ),
    ],
)
def test_columns_that_cannot_be_are_told(write, entry, content, sentence):
    write("a.tsv", content)
    with pytest.raises(DataError, match=sentence):
        sides({"path": "a.tsv", **entry})


def test_a_malformed_first_line_is_only_a_line_where_there_is_no_header(write):
    write("a.tsv", "\0\none\tuno\n")
    assert sides({"path": "a.tsv", "header": False}, on_error="skip") == [("one", "uno")]


def test_a_source_column_may_be_named_or_numbered(write):
    write("a.tsv", "from\ten\tes\nbooks\tone\tuno\n")
    assert sides({"path": "a.tsv", "columns": {"source": "from"}}, sources=["books"]) == [("one", "uno")]
    entry = {"path": "a.tsv", "columns": {"source": 1, "en": 2, "es": 3}, "header": False}
    assert sides(entry, sources=["books"]) == [("one", "uno")]
    write("b.jsonl", '{"from": "books", "en": "one", "es": "uno"}\n')
    assert sides({"path": "b.jsonl", "columns": {"source": "from"}}, sources=["books"]) == [("one", "uno")]


def test_a_csv_field_may_hold_quotes_commas_and_line_ends(write):
    write("a.csv", 'en,es\n"one, ""two""\nthree",uno\nfour,cuatro\n')
    pairs = list(read_pairs("a.csv"))
    assert pairs[0].source == 'one, "two"\nthree'
    assert [pair.place.line for pair in pairs] == [2, 4]


def test_a_quote_in_a_tsv_is_a_quote(write):
    write("a.tsv", '"one\tuno"\ntwo\tdos\n')
    assert sides("a.tsv") == [('"one', 'uno"'), ("two", "dos")]


def test_reading_begins_only_when_asked_but_settings_are_checked_at_once(write):
    with pytest.raises(RequestError, match=r"^`on_error` is 'ignore'; it can be stop or skip\.$"):
        read_pairs(write("a.tsv", "one\tuno\n"), on_error="ignore")
    with pytest.raises(DataError, match=r"^there is no file b\.tsv; did you mean a\.tsv\?$"):
        read_pairs("b.tsv")


def test_scripts_of_every_kind_come_through(write):
    rows = [("👩‍👩‍👧 🇪🇸", "…!?"), ("مرحبا", "שלום"), ("日本語。", "ไทย")]
    assert sides(moses(write, "".join(a + "\n" for a, _ in rows), "".join(b + "\n" for _, b in rows))) == rows


def test_half_a_surrogate_pair_in_json_becomes_text_that_utf8_can_hold(write):
    write("a.jsonl", '{"source": "x\\udc00", "en": "good \\ud83d", "es": "bueno \\ud83d\\ude00"}\n')
    assert sides("a.jsonl", sources=["x\ufffd"]) == [("good \ufffd", "bueno \U0001f600")]


def test_texts_of_plain_files_and_of_columns(write):
    write("a.txt", "one\ntwo\n")
    write("b.jsonl", '{"text": "three"}\n')
    write("c.tsv", "label\ttext\n1\tfour\n")
    write("d.tsv", "five\tx\n")
    assert [text.text for text in read_texts(["a.txt", "b.jsonl", "c.tsv", "d.tsv"])] == [
        "one",
        "two",
        "three",
        "four",
        "five",
    ]
    assert [text.text for text in read_texts("c.tsv", column="label")] == ["1"]
    assert next(iter(read_texts("a.txt"))).place == Place("a.txt", 1)
    assert [text.text for text in read_texts(moses(write, "one\n", "uno\n"))] == ["one", "uno"]
    with pytest.raises(DataError, match=r"^e\.txt:2: the text is empty\. Correct it"):
        list(read_texts(write("e.txt", "one\n\n")))


def test_documents_of_plain_files_have_empty_lines_between(write):
    write("a.txt", "\nThe lamp is lit.\nThe room is warm.\n\n \nThe door is shut.\n")
    write("b.txt.part", "One line.\n\n")
    found = list(read_documents(["a.txt", "b.txt.part"]))
    assert [one.lines for one in found] == [
        ("The lamp is lit.", "The room is warm."),
        ("The door is shut.",),
        ("One line.",),
    ]
    assert [str(one.place) for one in found] == ["a.txt:2", "a.txt:6", "b.txt.part:1"]


def test_documents_of_tables_are_their_rows(write):
    rows = [{"text": "The lamp is lit.\n\nThe room is warm."}, {"text": "One line."}]
    write("a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert [one.lines for one in read_documents("a.jsonl")] == [
        ("The lamp is lit.", "The room is warm."),
        ("One line.",),
    ]


def test_a_malformed_line_of_a_document_stops_or_is_left_out(write):
    write("a.txt", "The lamp is lit.\nnul \0\nThe room is warm.\n\nThe door is shut.\n")
    with pytest.raises(DataError, match=r"^a\.txt:2: NUL character\. Correct it, or set `on_error` to skip\."):
        list(read_documents("a.txt"))
    report = ReadReport()
    found = [one.lines for one in read_documents("a.txt", on_error="skip", report=report)]
    assert found == [("The lamp is lit.", "The room is warm."), ("The door is shut.",)]
    assert report.malformed == 1


def test_a_file_that_is_one_endless_document_is_refused(write):
    line = "The lamp is lit. " * 50_000 + "\n"
    write("a.txt", line * (DOCUMENT_LIMIT // len(line) + 1) + "\nThe door is shut.\n")
    with pytest.raises(
        DataError,
        match=r"^a\.txt:1: a document over 10,000,000 characters: an empty line must stand between two documents\.",
    ):
        list(read_documents("a.txt"))
    assert [one.lines for one in read_documents("a.txt", on_error="skip")] == [("The door is shut.",)]


def test_a_whole_file_is_one_text(tmp_path):
    for name, content in (("a.txt", b"\xef\xbb\xbfOne.\r\n\r\n  Two.\n"), ("b.txt", b" \n"), ("c.txt", b"\xff")):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "rows.tsv").write_text("text\nThree.\nFour.\n")
    entry = [str(tmp_path / "a.txt"), str(tmp_path / "rows.tsv")]
    found = list(read_texts(entry, whole_files=True))
    assert [one.text for one in found] == ["One.\n\n  Two.\n", "Three.", "Four."]
    assert str(found[0].place) == f"{tmp_path / 'a.txt'}:1"
    with pytest.raises(DataError, match=r"b\.txt:1: the text is empty"):
        list(read_texts(str(tmp_path / "b.txt"), whole_files=True))
    with pytest.raises(DataError, match=r"c\.txt:1: invalid UTF-8"):
        list(read_texts(str(tmp_path / "c.txt"), whole_files=True))
    (tmp_path / "c.txt").write_bytes(b"a\0b")
    with pytest.raises(DataError, match=r"c\.txt:1: NUL character"):
        list(read_texts(str(tmp_path / "c.txt"), whole_files=True))


def test_parquet_rows_are_those_of_json_lines(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "dump.parquet"
    rows = [{"English": en, "es": es, "source": "own", "n": 1} for en, es in ROWS]
    parquet.write_table(arrow.Table.from_pylist(rows * 800), path)
    entry = {"path": path, "columns": {"en": "English"}}
    assert sides(entry) == sides(entry, sources=["own"]) == ROWS * 800
    with pytest.raises(DataError, match=r"allowed source \(other\): found: own"):
        sides(entry, sources=["other"])
    last = list(read_pairs(entry))[-1]
    assert last.place == Place(str(path), 1600)
    assert (
        sides({"path": path.rename(tmp_path / "dump"), "format": "parquet", "columns": {"en": "English"}})[0] == ROWS[0]
    )
    nested = [{"translation": dict(zip(("en", "es"), row, strict=True))} for row in ROWS]
    parquet.write_table(arrow.Table.from_pylist(nested), path)
    assert sides(path) == ROWS
    with pytest.raises(DataError, match=r"dump has no column en; did you mean|dump has no column en; it has: English"):
        sides({"path": tmp_path / "dump", "format": "parquet"})
    with pytest.raises(DataError, match=r"dump\.parquet has named columns; 1 is a number: give its name"):
        sides({"path": path, "columns": {"en": 1}})
    parquet.write_table(arrow.Table.from_pylist([{"en": None, "es": "x"}, {"en": "a", "es": "b"}]), path)
    with pytest.raises(DataError, match=r"dump\.parquet:1: column en is missing"):
        sides(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"dump\.parquet cannot be read as parquet, it may be damaged: "):
        sides(path)


def test_parquet_without_its_package(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs the package pyarrow: install it \(the extra `parquet`\)"):
        sides(tmp_path / "a.parquet")
