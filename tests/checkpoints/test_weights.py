"""Weights come from whole safetensors files only; everything else gets its sentence."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.models.zoo import small_model

from trasluz.checkpoints.weights import INDEX, WEIGHTS, model_tensors, read_weights, write_weights
from trasluz.errors import ModelError, WriteError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}


def resident(kind: str) -> float:
    """Return how much of this process is in memory, in MB: RssFile, of files; RssAnon, of its own."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024


def test_written_then_read(tmp_path: Path) -> None:
    write_weights(tmp_path / WEIGHTS, TENSORS)
    read = read_weights(tmp_path).tensors
    assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())
    write_weights(tmp_path / WEIGHTS, TENSORS, torch.float16)
    read = read_weights(tmp_path).tensors
    assert (read["a"].dtype, read["b"].dtype) == (torch.float16, torch.int64)
    assert (tmp_path / WEIGHTS).stat().st_size < 300


def test_what_was_let_go_of_is_there_again(tmp_path: Path) -> None:
    tensors = {"none": torch.zeros(0, 3), "one": torch.tensor(2.5), "many": torch.randn(300, 200)}
    write_weights(tmp_path / WEIGHTS, tensors)
    stored = read_weights(tmp_path)
    for _ in range(2):
        assert all(torch.equal(stored.tensors[name], tensor) for name, tensor in tensors.items())
        stored.let_go()


def test_what_is_read_is_in_memory_until_it_is_let_go_of(tmp_path: Path) -> None:
    write_weights(tmp_path / WEIGHTS, {"x": torch.randn(1 << 23)})
    before = resident("RssFile")
    stored = read_weights(tmp_path)
    assert resident("RssFile") - before < 8
    stored.tensors["x"].sum()
    assert resident("RssFile") - before > 24
    stored.let_go()
    assert resident("RssFile") - before < 8


def test_types_that_models_have_none_of(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2, dtype=torch.complex64)}, tmp_path / WEIGHTS)
    with pytest.raises(ModelError, match=r"model\.safetensors: x is of type C64; known are F64, F32, F16"):
        read_weights(tmp_path)


def test_a_tied_matrix_is_held_once() -> None:
    assert "target_embedding.weight" not in model_tensors(small_model("transformer-post"))
    assert "output_head.weight" in model_tensors(small_model("transformer-untied"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 70000.0])
def test_numbers_that_do_not_fit_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ModelError, match="x holds numbers that float16 cannot: infinite, or no number at all"):
        write_weights(tmp_path / WEIGHTS, {"x": torch.tensor([value])}, torch.float16)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write"):
        write_weights(tmp_path / "file" / WEIGHTS, TENSORS)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt"])
def test_a_pickle_is_never_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=rf"has its weights only as {name}, a pickle, which can run any program .*"):
        read_weights(tmp_path)
    with pytest.raises(ModelError, match=r"convert it once with the `transformers` library: .*save_pretrained"):
        read_weights(tmp_path)


def test_other_formats_and_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no weights: model\.safetensors .* is missing"):
        read_weights(tmp_path)
    (tmp_path / "tf_model.h5").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"has its weights only as tf_model\.h5; trasluz reads"):
        read_weights(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_a_file_cut_short(tmp_path: Path, keep: int) -> None:
    write_weights(tmp_path / WEIGHTS, TENSORS)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[:keep])
    with pytest.raises(ModelError, match=r"model\.safetensors is no whole safetensors file .*cut short or damaged"):
        read_weights(tmp_path)


def test_a_damaged_header(tmp_path: Path) -> None:
    write_weights(tmp_path / WEIGHTS, TENSORS)
    content = bytearray((tmp_path / WEIGHTS).read_bytes())
    content[8:12] = b"\xff\xfe\x00{"
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match="is no whole safetensors file"):
        read_weights(tmp_path)


def write_shards(folder: Path, weight_map: object) -> None:
    save_file({"a": TENSORS["a"]}, folder / "model-1.safetensors")
    save_file({"b": TENSORS["b"]}, folder / "model-2.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_shards(tmp_path: Path) -> None:
    write_shards(tmp_path, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    assert read_weights(tmp_path).tensors.keys() == {"a", "b"}
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(ModelError, match=r"names the shard 'model-2\.safetensors', which is no file in"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../model-1.safetensors"}, r"names the shard '\.\./model-1\.safetensors'"),
        ({"a": "model-1.safetensors", "c": "model-2.safetensors"}, r"promises c in model-2\.safetensors"),
        (["a"], "is no index of shards that can be read"),
        (None, "is no index of shards that can be read"),
    ],
)
def test_a_wrong_index(tmp_path: Path, weight_map: object, message: str) -> None:
    write_shards(tmp_path, weight_map)
    with pytest.raises(ModelError, match=message):
        read_weights(tmp_path)
