"""A table of keys reads and writes the same tensors, and says what does not fit."""

import re

import pytest
import torch

from trasluz.errors import ModelError
from trasluz.models.key_map import KeyMap, Row

ROWS = [
    Row("emb.weight", "embedding.weight"),
    Row("layers.{}.fc.weight", "blocks.{}.expand.weight"),
    Row("layers.{}.parts.{}.fc.weight", "blocks.{}.inner.{}.weight"),
    Row("layers.{}.qkv.weight", ("blocks.{}.query.weight", "blocks.{}.key.weight")),
    Row("layers.{}.turned", ("blocks.{}.left.weight", "blocks.{}.right.weight"), transposed=True),
    Row("bias", "head.bias", (1, -1)),
    Row("head.weight", None),
]
OURS = {
    "embedding.weight": (5, 3),
    "blocks.0.expand.weight": (4, 3),
    "blocks.1.expand.weight": (4, 3),
    "blocks.11.inner.2.weight": (2, 2),
    "blocks.0.query.weight": (2, 3),
    "blocks.0.key.weight": (4, 3),
    "blocks.3.left.weight": (2, 3),
    "blocks.3.right.weight": (4, 3),
    "head.bias": (5,),
}


def ours() -> dict[str, torch.Tensor]:
    return {name: torch.randn(shape) for name, shape in OURS.items()}


def test_written_then_read_is_equal_to_the_bit() -> None:
    tensors = ours()
    written = KeyMap(ROWS).write(tensors)
    assert set(written) == {
        "emb.weight",
        "layers.0.fc.weight",
        "layers.1.fc.weight",
        "layers.11.parts.2.fc.weight",
        "layers.0.qkv.weight",
        "layers.3.turned",
        "bias",
    }
    assert written["bias"].shape == (1, 5)
    assert torch.equal(written["layers.0.qkv.weight"][2:], tensors["blocks.0.key.weight"])
    assert torch.equal(written["layers.3.turned"][:, 2:], tensors["blocks.3.right.weight"].T)
    read = KeyMap(ROWS).read(written, OURS, "a file")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_a_copy_is_dropped_by_its_full_name_only() -> None:
    theirs = KeyMap(ROWS).write(ours())
    KeyMap(ROWS).read({**theirs, "head.weight": torch.zeros(5, 3)}, OURS, "a file")
    with pytest.raises(
        ModelError, match=r"^a file holds the weights of another model: it has my\.head\.weight, unknown"
    ):
        KeyMap(ROWS).read({**theirs, "my.head.weight": torch.zeros(5, 3)}, OURS, "a file")


def test_missing_and_unexpected_keys_are_named_as_in_the_file() -> None:
    theirs = KeyMap(ROWS).write(ours())
    del theirs["layers.1.fc.weight"], theirs["layers.0.qkv.weight"]
    theirs["layers.x.fc.weight"] = torch.zeros(1)
    message = "it lacks layers.1.fc.weight, layers.0.qkv.weight and it has layers.x.fc.weight, unknown here."
    with pytest.raises(ModelError, match=re.escape(message)):
        KeyMap(ROWS).read(theirs, OURS, "a file")


def test_a_layer_too_many_is_unexpected() -> None:
    theirs = KeyMap(ROWS).write(ours())
    theirs |= {f"layers.{layer}.fc.weight": torch.zeros(4, 3) for layer in range(2, 7)}
    with pytest.raises(ModelError, match=r"it has layers\.2\.fc\.weight, .* and 2 more, unknown here"):
        KeyMap(ROWS).read(theirs, OURS, "a file")


@pytest.mark.parametrize(
    ("key", "wrong", "expected"),
    [
        ("emb.weight", (5, 4), "[5, 3]"),
        ("bias", (5,), "[1, 5]"),
        ("layers.0.qkv.weight", (5, 3), "[6, 3]"),
        ("layers.3.turned", (6, 3), "[3, 6]"),
    ],
)
def test_another_shape_is_refused(key: str, wrong: tuple[int, ...], expected: str) -> None:
    theirs = KeyMap(ROWS).write(ours())
    theirs[key] = torch.zeros(wrong)
    with pytest.raises(ModelError) as error:
        KeyMap(ROWS).read(theirs, OURS, "a file")
    assert str(error.value) == f"a file: {key} has shape {list(wrong)}, but the config asks for {expected}."


def test_a_tensor_without_a_row_is_a_fault_of_the_table() -> None:
    with pytest.raises(AssertionError, match=r"the table has no row for blocks\.0\.norm"):
        KeyMap(ROWS).write({"blocks.0.norm": torch.zeros(1)})
