"""The map itself: its checks, merging of sub-words, the JSON form, means."""

import json
from typing import Any

import numpy as np
import pytest

from trasluz.errors import RequestError
from trasluz.inspection.attention_map import AttentionMap, maps_of_heads, mean_map

SOURCE = ["▁A", "▁can", "dle", ".", "</s>"]
TARGET = ["▁Una", "▁ve", "la", ".", "</s>"]


def example(**changes: Any) -> AttentionMap:
    weights = np.random.default_rng(3).dirichlet([0.4] * len(SOURCE), size=len(TARGET)).astype(np.float32)
    fields: dict[str, Any] = {
        "weights": weights,
        "source_tokens": SOURCE,
        "target_tokens": TARGET,
        "kind": "cross",
        "layer": 2,
        "head": 1,
        "model": "candle-model",
        "source_words": [[0], [1, 2], [3], [4]],
        "target_words": [[0], [1, 2], [3], [4]],
    }
    return AttentionMap(**(fields | changes))


def test_merging_sums_over_source_pieces_and_averages_over_target_pieces() -> None:
    one = example()
    merged = one.words()
    assert merged.source_tokens == ["A", "candle", ".", "</s>"]
    assert merged.target_tokens == ["Una", "vela", ".", "</s>"]
    assert merged.merged
    expected = np.zeros((4, 4))
    for row, target in enumerate([[0], [1, 2], [3], [4]]):
        for column, source in enumerate([[0], [1, 2], [3], [4]]):
            expected[row, column] = np.mean([sum(one.weights[t, s] for s in source) for t in target])
    np.testing.assert_allclose(merged.weights, expected, atol=1e-6)
    np.testing.assert_allclose(merged.weights.sum(axis=1), 1, atol=1e-6)
    assert merged.words() is merged


def test_merging_without_groups_is_refused() -> None:
    with pytest.raises(RequestError, match="has no `target_words`"):
        example(target_words=None).words()


def test_the_json_form_is_the_documented_one_and_reads_back_to_the_bit() -> None:
    one = example()
    data = json.loads(json.dumps(one.to_dict()))
    assert list(data) == ["model", "kind", "layer", "head", "source_tokens", "target_tokens", "weights", "merged"]
    assert (data["model"], data["kind"], data["layer"], data["head"]) == ("candle-model", "cross", 2, 1)
    assert data["merged"] is False
    read = AttentionMap.from_dict(data)
    assert read.to_dict() == one.to_dict()
    assert read.weights.dtype == np.float32
    np.testing.assert_array_equal(read.weights, one.weights)
    assert "mean" == AttentionMap.from_dict(data | {"head": "mean"}).head


def test_groups_may_be_added_to_the_json_form() -> None:
    one = example()
    data = one.to_dict() | {"source_words": one.source_words, "target_words": one.target_words}
    assert AttentionMap.from_dict(data).words().to_dict() == one.words().to_dict()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [[1.0] * 5] * 2}, r"shape \(2, 5\); with 5 target and 5 source tokens they must have \(5, 5\)"),
        ({"weights": [[1.0], [1.0, 2.0]]}, "rows of numbers, all rows equally long"),
        ({"weights": [[float("nan")] * 5] * 5}, r"`weights\[0\]\[0\]` is nan; a weight is a number from 0 to 1"),
        ({"weights": [[-0.5] * 5] * 5}, r"`weights\[0\]\[0\]` is -0.5"),
        ({"source_tokens": "light"}, "`source_tokens` must be a list of texts, not str"),
        ({"target_tokens": [1, 2]}, r"`target_tokens\[0\]` is 1; every token must be a text"),
        ({"target_tokens": []}, "`target_tokens` is empty"),
        ({"kind": "cros"}, r"`kind` is 'cros' \(did you mean 'cross'\?\); it must be one of encoder, decoder, cross"),
        ({"layer": -1}, "`layer` is -1; it must be a number counted from 0, or 'mean'"),
        ({"head": "first"}, "`head` is 'first'"),
        ({"head": True}, "`head` is True"),
        ({"merged": "no"}, "`merged` is 'no'; it must be true or false"),
        ({"source_words": [[0], [1]]}, r"`source_words` must hold each of the positions 0 to 4 once"),
        ({"source_words": [[0, 1, 2, 3, 4], []]}, "in groups that are not empty"),
        ({"target_words": [0, 1]}, "`target_words` must be lists of token positions"),
    ],
)
def test_wrong_content_is_refused_with_its_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        AttentionMap.from_dict(example().to_dict() | changes)


def test_a_map_made_by_hand_is_checked_too() -> None:
    with pytest.raises(RequestError, match=r"shape \(2, 5\)"):
        example(weights=np.ones((2, 5)))
    with pytest.raises(RequestError, match="`source_tokens` is empty"):
        example(weights=np.ones((5, 0)), source_tokens=[])
    with pytest.raises(RequestError, match="`source_words` must hold each of the positions 0 to 4 once"):
        example(source_words=[[0], [0, 1, 2, 3, 4]])


def test_wrong_json_is_refused() -> None:
    data = example().to_dict()
    with pytest.raises(RequestError, match="lack 'weights'; needed are kind, layer"):
        AttentionMap.from_dict({key: value for key, value in data.items() if key != "weights"})
    with pytest.raises(RequestError, match="unknown key 'modle'; did you mean 'model'"):
        AttentionMap.from_dict(data | {"modle": "x"})
    with pytest.raises(RequestError, match="unknown key 'xyz'; known are kind"):
        AttentionMap.from_dict(data | {"xyz": "x"})
    with pytest.raises(RequestError, match="must be an object with names and values, not list"):
        AttentionMap.from_dict(json.loads("[1, 2]"))


def test_weights_are_kept_as_float32() -> None:
    assert example(weights=np.full((5, 5), 0.2)).weights.dtype == np.float32


def test_one_map_per_head_and_their_mean() -> None:
    weights = np.random.default_rng(1).dirichlet([1.0] * 5, size=(2, 5)).astype(np.float32)
    maps = maps_of_heads(weights, SOURCE, TARGET, kind="cross", layer=4, heads=[1, 5], model="m")
    assert [(one.layer, one.head) for one in maps] == [(4, 1), (4, 5)]
    mean = mean_map(maps)
    assert (mean.layer, mean.head) == (4, "mean")
    np.testing.assert_allclose(mean.weights, weights.mean(axis=0), atol=1e-7)
    other = maps_of_heads(weights, SOURCE, TARGET, kind="cross", layer=5)
    assert [one.head for one in other] == [0, 1]
    assert mean_map([*maps, *other]).layer == "mean"


def test_a_mean_needs_maps_of_the_same_tokens() -> None:
    with pytest.raises(RequestError, match="maps of one kind over the same tokens"):
        mean_map([example(), example(source_tokens=["a", "b", "c", "d", "e"])])
    with pytest.raises(RequestError, match="no attention map to take the mean of"):
        mean_map([])


def test_title_and_repr_say_what_is_shown() -> None:
    assert example().title == "cross attention · layer 2 · head 1"
    assert example(layer="mean", head="mean").title == "cross attention · mean of the layers · mean of the heads"
    assert repr(example()) == "AttentionMap(cross, layer 2, head 1, 5 target x 5 source tokens, model 'candle-model')"
