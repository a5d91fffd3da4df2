"""How vectors are made: written and read again, in the words of older and newer sentence-transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.checkpoints.hub_encoders import write_encoder

import trasluz
from trasluz.checkpoints.sentence_vectors import Pooling, PoolingKind, read_pooling, write_pooling
from trasluz.errors import ModelError

OLD = "sentence_transformers.models."
# The modules of releases from 5 on stand in other places, under the same names.
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}
PATHS = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize", "Dense": "2_Dense"}


def write(folder: Path, pooling: Any, *names: str, types: dict[str, str] | None = None) -> None:
    """Write the files as sentence-transformers would: the config of the pooling, and what comes beside it."""
    names = names or ("Transformer", "Pooling")
    modules = [
        {"idx": index, "name": str(index), "path": PATHS.get(name, ""), "type": (types or {}).get(name, OLD + name)}
        for index, name in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        read_pooling(folder)
    return str(error.value).replace(str(folder), "FOLDER")


@pytest.mark.parametrize("kind", ["cls", "mean", "max"])
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("max_tokens", [None, 128])
@pytest.mark.parametrize("lower_case", [False, True])
def test_what_was_written_is_read(
    tmp_path: Path, kind: PoolingKind, normalized: bool, max_tokens: int | None, lower_case: bool
) -> None:
    pooling = Pooling(kind, normalized, max_tokens, lower_case)
    write_pooling(tmp_path, 384, pooling)
    assert read_pooling(tmp_path) == pooling
    modules = json.loads((tmp_path / "modules.json").read_text())
    assert [module["type"] for module in modules] == [
        *(OLD + "Transformer", OLD + "Pooling"),
        *([OLD + "Normalize"] if normalized else []),
    ]
    modes = json.loads((tmp_path / "1_Pooling" / "config.json").read_text())
    assert modes.pop("word_embedding_dimension") == 384
    assert {name: value for name, value in modes.items() if value} == {
        {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens"}[
            kind
        ]: True
    }


def test_a_folder_that_does_not_say(tmp_path: Path) -> None:
    assert read_pooling(tmp_path) is None


def test_a_key_for_each_kind_is_the_older_form(tmp_path: Path) -> None:
    modes = {
        "word_embedding_dimension": 21,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
        "include_prompt": True,
    }
    write(tmp_path, modes, "Transformer", "Pooling", "Normalize")
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 64, "do_lower_case": false}')
    assert read_pooling(tmp_path) == Pooling("cls", True, 64)


@pytest.mark.parametrize("named", ["max", ["max"]])
def test_the_name_of_the_kind_is_the_newer_form(tmp_path: Path, named: Any) -> None:
    pooling = {"embedding_dimension": 21, "pooling_mode": named, "include_prompt": True}
    write(tmp_path, pooling, *NEW, types=NEW)
    (tmp_path / "sentence_bert_config.json").write_text('{"transformer_task": "feature-extraction"}')
    assert read_pooling(tmp_path) == Pooling("max", True, None)


@pytest.mark.parametrize("name", ["sentence_roberta_config.json", "sentence_distilbert_config.json"])
def test_limits_have_had_other_names(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"pooling_mode": "mean"})
    (tmp_path / name).write_text('{"max_seq_length": 32}')
    assert read_pooling(tmp_path) == Pooling("mean", False, 32)


# ---- what is refused ------------------------------------------------------------------------------------------


def test_a_layer_behind_the_pooling(tmp_path: Path) -> None:
    write(tmp_path, {"pooling_mode": "mean"}, "Transformer", "Pooling", "Dense")
    expected = "FOLDER/modules.json: a module 'Dense' is not known; known are Pooling and Normalize."
    assert refusal(tmp_path) == expected


@pytest.mark.parametrize(
    ("pooling", "name"),
    [
        ({"pooling_mode_weightedmean_tokens": True}, "pooling_mode_weightedmean_tokens"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_lasttoken": True}, "pooling_mode_lasttoken"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode": ["mean", "lasttoken"]}, "lasttoken"),
        ({"pooling_mode": None}, "None"),
    ],
)
def test_poolings_of_another_kind(tmp_path: Path, pooling: dict[str, Any], name: str) -> None:
    write(tmp_path, pooling)
    known = "cls, mean, max"
    if "pooling_mode" not in pooling:
        known = "pooling_mode_cls_token, pooling_mode_mean_tokens, pooling_mode_max_tokens"
    assert refusal(tmp_path) == f"FOLDER/1_Pooling/config.json: the pooling {name} is not known; known are {known}."


@pytest.mark.parametrize(
    ("pooling", "count"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, 2),
        ({"pooling_mode": ["cls", "mean", "max"]}, 3),
        ({"pooling_mode_mean_tokens": False}, 0),
    ],
)
def test_other_than_one_pooling(tmp_path: Path, pooling: dict[str, Any], count: int) -> None:
    write(tmp_path, pooling)
    expected = f"FOLDER/modules.json: one kind of pooling was expected, cls, mean, max, not {count}."
    assert refusal(tmp_path) == expected


def test_a_pooling_module_that_is_missing(tmp_path: Path) -> None:
    write(tmp_path, {"pooling_mode": "mean"}, "Transformer", "Normalize")
    assert refusal(tmp_path).endswith("one kind of pooling was expected, cls, mean, max, not 0.")


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", "sentence_bert_config.json"])
def test_broken_json_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"pooling_mode": "mean"})
    (tmp_path / name).write_text('{"pooling_mode": ')
    assert refusal(tmp_path).startswith(f"FOLDER/{name} cannot be read: Expecting value: line 1 column ")


def test_json_of_another_shape_is_named(tmp_path: Path) -> None:
    write(tmp_path, ["mean"])
    assert refusal(tmp_path) == "FOLDER/1_Pooling/config.json holds no JSON object, but it must."
    (tmp_path / "modules.json").write_text('{"Pooling": "1_Pooling"}')
    assert refusal(tmp_path) == "FOLDER/modules.json holds no list of modules, but it must."


@pytest.mark.parametrize("limit", ['"many"', "0", "2.5"])
def test_a_limit_that_is_none(tmp_path: Path, limit: str) -> None:
    write(tmp_path, {"pooling_mode": "mean"})
    (tmp_path / "sentence_bert_config.json").write_text(f'{{"max_seq_length": {limit}}}')
    shown = limit.replace('"', "'")
    expected = f"FOLDER/sentence_bert_config.json: max_seq_length is {shown}; it must be a number from 1 up, or null."
    assert refusal(tmp_path) == expected


@pytest.mark.parametrize("said", ["1", '"yes"'])
def test_lower_case_that_is_neither_true_nor_false(tmp_path: Path, said: str) -> None:
    write(tmp_path, {"pooling_mode": "mean"})
    (tmp_path / "sentence_bert_config.json").write_text(f'{{"do_lower_case": {said}}}')
    shown = said.replace('"', "'")
    expected = f"FOLDER/sentence_bert_config.json: do_lower_case is {shown}; it must be true, false or null."
    assert refusal(tmp_path) == expected


# ---- in use ---------------------------------------------------------------------------------------------------


def test_an_embedder_makes_vectors_as_its_folder_says_and_keeps_that(tmp_path: Path) -> None:
    write_encoder(tmp_path / "first", "BertModel")
    write(tmp_path / "first", {"pooling_mode": "max"})
    (tmp_path / "first" / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    embed = trasluz.load(tmp_path / "first")
    assert embed.pooling == Pooling("max", False, 12)
    text = "the old miller kept the bread, and nobody sees it again"
    found = embed(text)
    assert found.left_out > 0
    np.testing.assert_array_equal(found.vector, embed(text, pooling="max", normalize=False).vector)
    embed.save(tmp_path / "second")
    again = trasluz.load(tmp_path / "second")
    assert again.pooling == embed.pooling
    np.testing.assert_array_equal(again(text).vector, found.vector)


def test_texts_are_lower_cased_where_the_folder_says_so_and_stripped_nowhere(tmp_path: Path) -> None:
    # Its bytes know capitals and blanks.
    write_encoder(tmp_path, "RobertaModel")
    write(tmp_path, {"pooling_mode": "mean"})
    plain = trasluz.load(tmp_path, task="embed")
    (tmp_path / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    lower = trasluz.load(tmp_path, task="embed")
    texts = ["The LAMP", " the lamp", "Łódź", "ΟΔΟΣ"]
    # A sigma at a word's end stays one of its middle, in sentence-transformers, too.
    small = ["the lamp", " the lamp", "łódź", "οδοσ"]
    np.testing.assert_array_equal(lower.vectors(texts), plain.vectors(small))
    assert not np.array_equal(plain.vectors(texts), plain.vectors(small))
    assert not np.array_equal(*lower.vectors(texts[:2]))
    assert [one.text for one in lower(texts)] == texts


def test_a_folder_that_does_not_say_is_saved_without_saying(tmp_path: Path) -> None:
    write_encoder(tmp_path / "first", "BertModel")
    embed = trasluz.load(tmp_path / "first")
    assert embed.pooling == Pooling("mean", True, None)
    embed.save(tmp_path / "second")
    assert not (tmp_path / "second" / "modules.json").exists()
