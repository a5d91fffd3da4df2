"""`inspect` draws, or writes, what was asked for."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trasluz.checkpoints.model_folder import load_model, save_model
from trasluz.cli.main import run

Captured = pytest.CaptureFixture[str]
TEXT = "the lamp is on the table"


def written(folder: str, path: Path, *options: str) -> list[dict[str, object]]:
    assert run(["inspect", folder, TEXT, "--out", str(path), *options]) == 0
    read = json.loads(path.read_text(encoding="utf-8"))
    return read if isinstance(read, list) else [read]


def test_the_model_own_choice_is_drawn_where_no_file_is_named(transformer_folder: str, capsys: Captured) -> None:
    assert run(["inspect", transformer_folder, TEXT, "--target-text", "la lámpara", "--to", "es"]) == 0
    drawing = capsys.readouterr().out
    assert "cross attention" in drawing and "layer 1" in drawing and "mean of the heads" in drawing
    for word in ("lamp", "table", "lámpara"):
        assert word in drawing


def test_data_hold_everything_the_own_choice_first(transformer_folder: str, tmp_path: Path) -> None:
    maps = written(transformer_folder, tmp_path / "all.json", "--target-text", "la lámpara", "--to", "es")
    assert (maps[0]["kind"], maps[0]["layer"], maps[0]["head"]) == ("cross", 1, "mean")
    found = {(one["kind"], one["layer"], one["head"]) for one in maps[1:]}
    assert found == {
        (kind, layer, head) for kind in ("encoder", "decoder", "cross") for layer in (0, 1) for head in (0, 1)
    }
    for one in maps:
        assert np.allclose(np.sum(one["weights"], axis=1), 1.0, atol=1e-5)


def test_data_are_printed_an_object_a_line(transformer_folder: str, tmp_path: Path, capsys: Captured) -> None:
    options = ("--target-text", "la lámpara", "--to", "es")
    maps = written(transformer_folder, tmp_path / "all.json", *options)
    assert run(["inspect", transformer_folder, TEXT, *options, "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == maps
    assert run(["inspect", transformer_folder, TEXT, "--json", "--word", "lamp"]) == 2
    assert "--json writes objects here; give it or --word, not both." in capsys.readouterr().err


def test_layers_heads_and_kinds_are_chosen(transformer_folder: str, tmp_path: Path) -> None:
    options = ("--to", "es", "--layers", "0", "--heads", "1,0", "--kinds", "encoder")
    maps = written(transformer_folder, tmp_path / "some.json", *options)
    assert [(one["kind"], one["layer"], one["head"]) for one in maps] == [("encoder", 0, 0), ("encoder", 0, 1)]


def test_a_recurrent_model_has_its_one_attention(recurrent_folder: str, tmp_path: Path) -> None:
    (only,) = written(recurrent_folder, tmp_path / "rnn.json")
    assert (only["kind"], only["layer"], only["head"]) == ("cross", 0, 0)


def test_a_gpt_shows_what_each_token_looks_at(gpt_folder: str, tmp_path: Path, capsys: Captured) -> None:
    maps = written(gpt_folder, tmp_path / "gpt.json")
    assert [(one["kind"], one["layer"], one["head"]) for one in maps] == [
        ("decoder", 0, "mean"),
        *(("decoder", layer, head) for layer in (0, 1) for head in (0, 1, 2)),
    ]
    for one in maps:
        assert np.triu(one["weights"], 1).max() == 0 and one["source_tokens"] == one["target_tokens"]
    assert run(["inspect", gpt_folder, TEXT]) == 0
    drawing = capsys.readouterr().out
    assert "decoder attention" in drawing and "lamp" in drawing
    assert run(["inspect", gpt_folder, TEXT, "--word", "lamp", "--kinds", "decoder"]) == 0
    assert "\tlamp\t" in capsys.readouterr().out
    for options, sentence in {
        ("--second-text", "a"): "--second-text means nothing to",
        ("--to", "es"): "--to means nothing to",
        ("--kinds", "encoder"): "is of the kind decoder only.",
    }.items():
        assert run(["inspect", gpt_folder, TEXT, *options]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a.png", "a.svg", "a.html", "a.npz"])
def test_pictures_and_pages_are_written(transformer_folder: str, tmp_path: Path, name: str) -> None:
    assert run(["inspect", transformer_folder, TEXT, "--to", "es", "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--layers", "zero"), "--layers is 'zero'; numbers counted from 0 were expected, as in --layers 0,3."),
        (("--heads", "-1"), "--heads is '-1'; numbers counted from 0 were expected"),
        (("--layers", "7"), "there is no layer 7; this model's attention layers are 0 to 1."),
        (("--kinds", "crosss"), "--kinds names 'crosss'; did you mean cross?"),
        (("--kinds", "magic"), "--kinds names 'magic'; there are"),
        (("--out", "a.gif"), "no form of attention file is known for 'a.gif'"),
    ],
)
def test_what_cannot_be_is_refused(
    transformer_folder: str, capsys: Captured, options: tuple[str, ...], sentence: str
) -> None:
    assert run(["inspect", transformer_folder, TEXT, "--to", "es", *options]) == 2
    assert sentence in capsys.readouterr().err


def test_kinds_without_the_layers_asked_for_are_refused(recurrent_folder: str, capsys: Captured) -> None:
    assert run(["inspect", "pocket-en-es", TEXT, "--to", "es", "--layers", "4", "--kinds", "cross"]) == 2
    assert "--layers leaves nothing to show: cross attention has layers 0 to 1." in capsys.readouterr().err
    assert run(["inspect", recurrent_folder, TEXT, "--kinds", "encoder"]) == 2
    assert "--kinds leaves nothing to show: " in capsys.readouterr().err


def test_a_model_without_attention_says_so(blind_folder: str, capsys: Captured) -> None:
    assert run(["inspect", blind_folder, TEXT]) == 2
    assert "this model has no attention to look at" in capsys.readouterr().err


# ---- what a word looks at -------------------------------------------------------------------------------------


def lines_of(capsys: Captured, *arguments: str) -> list[str]:
    assert run(["inspect", *arguments]) == 0
    answer = capsys.readouterr()
    assert answer.err == ""
    return answer.out.splitlines()


def refused(capsys: Captured, *arguments: str) -> str:
    assert run(["inspect", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("trasluz: ")


def test_a_word_that_a_translator_writes(transformer_folder: str, capsys: Captured) -> None:
    given = (transformer_folder, TEXT, "--target-text", "la lámpara", "--to", "es", "--word", "Lámpara")
    (line,) = lines_of(capsys, *given)
    title, word, looks = line.split("\t")
    assert (title, word) == ("cross attention · layer 1 · mean of the heads", "lámpara")
    words, shares = zip(*(look.rsplit(" ", 1) for look in looks.split(", ")), strict=True)
    assert set(words) <= {"<2es>", "</s>", *TEXT.split()}
    assert list(shares) == sorted(shares, reverse=True) and len(shares) == 5


def test_a_word_is_looked_up_in_what_each_kind_reads_or_writes(transformer_folder: str, capsys: Captured) -> None:
    chosen = (transformer_folder, TEXT, "--target-text", "la lámpara", "--to", "es", "--layers", "0", "--heads", "1")
    written = [line.split("\t")[:2] for line in lines_of(capsys, *chosen, "--word", "lámpara")]
    assert written == [[f"{kind} attention · layer 0 · head 1", "lámpara"] for kind in ("decoder", "cross")]
    read = [line.split("\t")[:2] for line in lines_of(capsys, *chosen, "--word", "lamp")]
    assert read == [["encoder attention · layer 0 · head 1", "lamp"]]
    twice = lines_of(capsys, *chosen, "--kinds", "encoder", "--word", "the")
    assert len(twice) == 2
    message = refused(capsys, *chosen, "--kinds", "encoder,cross", "--word", "tabel")
    assert message == (
        "--word is 'tabel', which is no word of '<2es> the lamp is on the table </s>' or 'la lámpara </s>'. "
        "Did you mean table?"
    )


# ---- encoders -------------------------------------------------------------------------------------------------

SENTENCE = "the old miller kept the bread."


@pytest.fixture
def encoder_folder(encoder: Callable[[str], str]) -> str:
    """An encoder of three layers with three heads."""
    return encoder("masks")


def test_an_encoder_is_drawn(encoder_folder: str, capsys: Captured) -> None:
    drawing = lines_of(capsys, encoder_folder, SENTENCE)
    assert drawing[0] == "encoder attention · layer 1 · mean of the heads"
    rows = [line.split()[0] for line in drawing[-10:-1]]
    assert rows == ["[CLS]", "the", "old", "miller", "kept", "the", "bread", ".", "[SEP]"]
    assert lines_of(capsys, encoder_folder, SENTENCE, "--kinds", "encoder") == drawing
    several = lines_of(capsys, encoder_folder, SENTENCE, "--layers", "2", "--heads", "2,0")
    titles = [line for line in several if "attention" in line]
    assert titles == ["encoder attention · layer 2 · head 0", "encoder attention · layer 2 · head 2"]
    assert any("##" in line for line in lines_of(capsys, encoder_folder, SENTENCE, "--pieces"))


def test_all_heads_of_a_layer_are_a_grid(encoder_folder: str, tmp_path: Path, capsys: Captured) -> None:
    from PIL import Image

    sizes = {}
    for heads in ("0,1", "0,1,2"):
        path = tmp_path / f"{len(heads)}.png"
        lines_of(capsys, encoder_folder, SENTENCE, "--layers", "1", "--heads", heads, "--out", str(path))
        with Image.open(path) as picture:
            sizes[heads] = picture.size
    path = tmp_path / "all.png"
    lines_of(capsys, encoder_folder, SENTENCE, "--layers", "1", "--out", str(path))
    with Image.open(path) as picture:
        assert picture.size == sizes["0,1,2"]
    # Heads of one layer stand side by side.
    assert sizes["0,1,2"][0] > sizes["0,1"][0] and sizes["0,1,2"][1] == sizes["0,1"][1]


def test_data_of_an_encoder_hold_every_layer_and_head(encoder_folder: str, tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    assert run(["inspect", encoder_folder, SENTENCE, "--out", str(path)]) == 0
    own, *maps = json.loads(path.read_text(encoding="utf-8"))
    assert (own["kind"], own["layer"], own["head"], own["merged"]) == ("encoder", 1, "mean", False)
    assert [(one["layer"], one["head"]) for one in maps] == [(layer, head) for layer in range(3) for head in range(3)]
    for one in (own, *maps):
        assert one["source_tokens"] == one["target_tokens"] == own["source_tokens"]
        assert np.allclose(np.sum(one["weights"], axis=1), 1.0, atol=1e-5)
    assert run(["inspect", encoder_folder, SENTENCE, "--layers", "2", "--heads", "1", "--out", str(path)]) == 0
    assert json.loads(path.read_text(encoding="utf-8")) == maps[7]


def test_a_word_of_an_encoder(encoder_folder: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_of(capsys, encoder_folder, SENTENCE, "--word", "Miller", "--layers", "2", "--heads", "0,1")
    assert [line.split("\t")[:2] for line in lines] == [
        [f"encoder attention · layer 2 · head {head}", "miller"] for head in (0, 1)
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{SENTENCE}\n".encode())))
    assert len(lines_of(capsys, encoder_folder, "--word", "the")) == 2
    (looked,) = lines_of(capsys, "pocket-bert", "The paper lets the [MASK] through.", "--word", "[MASK]")
    assert looked.split("\t")[1] == "[MASK]"
    said = "which is no word of '[CLS] the old miller kept the bread . [SEP]'."
    assert refused(capsys, encoder_folder, SENTENCE, "--word", "miler") == (
        f"--word is 'miler', {said} Did you mean miller?"
    )
    assert refused(capsys, encoder_folder, SENTENCE, "--word", "zzz") == f"--word is 'zzz', {said}"


def test_the_other_text_of_a_pair(encoder_folder: str, capsys: Captured) -> None:
    pair = (encoder_folder, SENTENCE, "--second-text", "nobody sees it")
    (line,) = lines_of(capsys, *pair, "--word", "nobody")
    assert line.split("\t")[1] == "nobody"
    rows = [line.split()[0] for line in lines_of(capsys, *pair)[-14:-1]]
    assert rows[-5:] == ["[SEP]", "nobody", "sees", "it", "[SEP]"]


def test_what_had_no_room_is_remarked(encoder_folder: str, capsys: Captured) -> None:
    assert run(["inspect", encoder_folder, "the bread " * 60, "--word", "bread"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("the last ") and error.endswith(" tokens had no room and are not shown\n")
    lines_of(capsys, encoder_folder, "the bread " * 60, "--word", "bread", "--quiet")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--target-text", "x"), "--target-text means nothing to FOLDER, which does not translate."),
        (("--from", "en"), "--from means nothing to FOLDER, which does not translate."),
        (("--to", "es"), "--to means nothing to FOLDER, which does not translate."),
        (("--kinds", "cross"), "--kinds names 'cross', but the attention of FOLDER is of the kind encoder only."),
        (
            ("--kinds", "encoder,decoder"),
            "--kinds names 'decoder', but the attention of FOLDER is of the kind encoder only.",
        ),
        (("--layers", "3"), "there is no layer 3; this model's attention layers are 0 to 2."),
        (("--heads", "3"), "there is no head 3; this model's heads are 0 to 2."),
        (("--word", "bread", "--out", "a.png"), "--word writes lines and --out writes a file; give one of them."),
    ],
)
def test_what_means_nothing_to_an_encoder_is_refused(
    encoder_folder: str, capsys: Captured, options: tuple[str, ...], sentence: str
) -> None:
    assert refused(capsys, encoder_folder, SENTENCE, *options) == sentence.replace("FOLDER", encoder_folder)


def test_a_second_text_means_nothing_to_a_translator(transformer_folder: str, capsys: Captured) -> None:
    message = refused(capsys, transformer_folder, TEXT, "--to", "es", "--second-text", "x")
    assert message == f"--second-text means nothing to {transformer_folder}, which translates."


def test_of_many_lines_the_first_is_shown_and_a_remark_says_so(
    encoder_folder: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.txt"
    for text, said in ((f"{SENTENCE}\nanother\n", True), (f"{SENTENCE}\n", False)):
        path.write_text(text)
        with path.open() as lines:
            monkeypatch.setattr(sys, "stdin", lines)
            assert run(["inspect", encoder_folder, "--word", "miller"]) == 0
        assert ("only the first is looked into" in capsys.readouterr().err) == said


def test_block_sparse_attention_is_drawn_as_any_other(encoder_folder: str, tmp_path: Path) -> None:
    longer = load_model(Path(encoder_folder)).lengthened(320, block_size=8, num_random_blocks=1)
    save_model(tmp_path / "long", longer.model, longer.source_tokenizer, longer.source_tokenizer)
    asked = ["inspect", str(tmp_path / "long"), "the bread " * 140, "--layers", "1", "--heads", "0", "--out"]
    assert run([*asked, str(tmp_path / "attention.png")]) == 0
    with Image.open(tmp_path / "attention.png") as picture:
        assert min(picture.size) > 280
    assert run([*asked, str(tmp_path / "attention.json")]) == 0
    read = json.loads((tmp_path / "attention.json").read_text(encoding="utf-8"))
    weights = np.array((read[0] if isinstance(read, list) else read)["weights"])
    assert weights.shape == (320, 320) and np.allclose(weights.sum(1), 1.0, atol=1e-5)
    # Away from the edges a word sees its block, its neighbours, one drawn at random, the first and the last.
    assert ((weights > 0).sum(1)[8:-8] <= 6 * 8).all()
