"""`inspect` draws, or writes, what was asked for."""

import json
from pathlib import Path

import numpy as np
import pytest

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


def test_layers_heads_and_kinds_are_chosen(transformer_folder: str, tmp_path: Path) -> None:
    options = ("--to", "es", "--layers", "0", "--heads", "1,0", "--kinds", "encoder")
    maps = written(transformer_folder, tmp_path / "some.json", *options)
    assert [(one["kind"], one["layer"], one["head"]) for one in maps] == [("encoder", 0, 0), ("encoder", 0, 1)]


def test_a_recurrent_model_has_its_one_attention(recurrent_folder: str, tmp_path: Path) -> None:
    (only,) = written(recurrent_folder, tmp_path / "rnn.json")
    assert (only["kind"], only["layer"], only["head"]) == ("cross", 0, 0)


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


def test_a_model_without_attention_says_so(blind_folder: str, capsys: Captured) -> None:
    assert run(["inspect", blind_folder, TEXT]) == 2
    assert "this model has no attention to look at" in capsys.readouterr().err
