"""Maps in files: what is read back equals what was written; wrong endings and places say so."""

import json
from pathlib import Path

import numpy as np
import pytest

from trasluz.errors import DataError, RequestError, WriteError
from trasluz.inspection.attention_file import load_maps, save_maps
from trasluz.inspection.attention_map import AttentionMap


def example(head: int = 0, size: int = 3) -> AttentionMap:
    weights = np.random.default_rng(head).dirichlet([0.5] * (size + 1), size=size).astype(np.float32)
    return AttentionMap(
        weights,
        ["a", "ñu", "日本", "😀", "x"][: size + 1],
        ["<s>", "b", "</script>"][:size],
        kind="cross",
        layer=1,
        head=head,
        model="modelo",
        source_words=[[0], [1, 2], [3]],
        target_words=[[0], [1], [2]],
    )


@pytest.mark.parametrize("ending", [".json", ".npz", ".NPZ"])
def test_one_map_reads_back_to_the_bit(tmp_path: Path, ending: str) -> None:
    one = example()
    one.save(tmp_path / f"alpha{ending}")
    read = AttentionMap.load(tmp_path / f"alpha{ending}")
    assert read.to_dict() == one.to_dict()
    np.testing.assert_array_equal(read.weights, one.weights)
    if ending != ".json":
        assert read.words().to_dict() == one.words().to_dict()


@pytest.mark.parametrize("ending", [".json", ".npz"])
def test_several_maps_read_back_in_order(tmp_path: Path, ending: str) -> None:
    maps = [example(head) for head in range(12)]
    save_maps(maps, tmp_path / f"alpha{ending}")
    read = load_maps(tmp_path / f"alpha{ending}")
    assert [one.to_dict() for one in read] == [one.to_dict() for one in maps]
    with pytest.raises(RequestError, match="holds 12 attention maps; read them with load_maps"):
        AttentionMap.load(tmp_path / f"alpha{ending}")


def test_npz_is_plain_arrays(tmp_path: Path) -> None:
    one = example()
    one.save(tmp_path / "alpha.npz")
    with np.load(tmp_path / "alpha.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["weights"], one.weights)
        assert arrays["source_tokens"].tolist() == one.source_tokens
        assert arrays["source_words"].tolist() == [0, 1, 1, 2]
        assert (arrays["kind"].item(), arrays["layer"].item(), arrays["merged"].item()) == ("cross", 1, False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alpha.bmp", r"its ending .bmp is none of .png .svg .pdf .html .json .npz"),
        ("alpha.htm", r"did you mean .html\?"),
        ("alpha", "'alpha': it has no ending, which must be one of .png"),
    ],
)
def test_unknown_endings_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=message):
        example().save(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".json", ".npz", ".html"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, ending: str) -> None:
    (tmp_path / "file").write_text("here already")
    with pytest.raises(WriteError, match=r"cannot write .*file/alpha"):
        example().save(tmp_path / "file" / f"alpha{ending}")
    assert (tmp_path / "file").read_text() == "here already"


def test_nothing_to_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no attention map to write"):
        save_maps([], tmp_path / "alpha.json")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*missing.json: No such file"):
        load_maps(tmp_path / "missing.json")
    with pytest.raises(RequestError, match=r"none of \.json \.npz"):
        load_maps(tmp_path / "picture.png")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match=r"broken\.json is no attention file"):
        load_maps(tmp_path / "broken.json")
    (tmp_path / "other.json").write_text(json.dumps({"kind": "cross"}))
    with pytest.raises(DataError, match=r"other\.json: attention data lack 'layer'"):
        load_maps(tmp_path / "other.json")
    example().save(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.npz is no attention file"):
        load_maps(tmp_path / "cut.npz")
    np.savez(tmp_path / "pickled.npz", weights=np.array([object()], dtype=object))
    with pytest.raises(DataError, match=r"pickled\.npz is no attention file"):
        load_maps(tmp_path / "pickled.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(DataError, match=r"array\.npz is no attention file"):
        load_maps(tmp_path / "array.npz")
    np.savez(tmp_path / "empty.npz", other=np.zeros(3))
    with pytest.raises(DataError, match=r"empty\.npz is no attention file"):
        load_maps(tmp_path / "empty.npz")
