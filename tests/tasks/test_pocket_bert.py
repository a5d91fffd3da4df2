"""The bundled encoder: every verb of encoders works with it, offline, and it is as small as it is meant to be."""

import math
import unicodedata
from pathlib import Path

import pytest

import trasluz
from trasluz.checkpoints.model_folder import load_model
from trasluz.tasks.loading import bundled_models

FOLDER = bundled_models().get("pocket-bert")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="pocket-bert is not in this tree")


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_it_is_small_and_says_where_it_comes_from() -> None:
    assert FOLDER is not None
    assert (FOLDER / "model.safetensors").stat().st_size <= 8_000_000 and size_of(FOLDER) <= 14_000_000
    fill = trasluz.load("pocket-bert")
    config = fill.config
    assert load_model(FOLDER).attention_default == fill.attention_place == (config.num_layers - 2, "mean")
    assert config.num_layers >= 4 and config.num_heads >= 6
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for named in ("Tatoeba", "CC-BY", "python-docs", "tldr", "react.dev", "XQuAD", "CC-BY-SA"):
        assert named in card


def test_what_is_made_of_a_head_of_its_own_keeps_the_licence(tmp_path: Path) -> None:
    trasluz.load("pocket-bert", task="classify").save(tmp_path)
    assert "CC-BY-SA" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_every_task_answers() -> None:
    fill = trasluz.load("pocket-bert")
    (mask,) = fill("She drinks a cup of [MASK] every morning.", top=5).masks
    assert len(mask.candidates) == 5 and 0 < mask.candidates[0].probability < 1
    classify = trasluz.load("pocket-bert", task="classify")
    assert set(classify.labels) == {"food", "travel", "weather", "computers", "music"}
    assert math.isclose(sum(classify("Could you pass me the butter, please?").scores.values()), 1.0, rel_tol=1e-4)
    tag = trasluz.load("pocket-bert", task="tag")
    assert {one.label for one in tag("Ana Ruiz moved from Lima to Lisbon on Monday.").entities} <= {
        "person",
        "place",
        "time",
    }
    answer = trasluz.load("pocket-bert", task="answer")
    context = "When evening came, Irene lit the lamp."
    found = answer("Who lit the lamp?", context=context)
    assert found.text == context[found.start : found.end] != ""
    assert trasluz.load("pocket-bert", task="embed")("A short text.").vector.shape == (fill.config.model_dim,)


def test_accents_that_are_characters_of_their_own_stay_with_their_letters() -> None:
    def decomposed(text: str) -> str:
        return unicodedata.normalize("NFD", text)

    tag, text = trasluz.load("pocket-bert", task="tag"), "José Muñoz moved to Bogotá and Panamá."
    composed, found = tag(text), tag(decomposed(text))
    assert any(one.text in ("José", "Bogotá", "Panamá") for one in composed.entities)
    assert [one.text for one in found.entities] == [decomposed(one.text) for one in composed.entities]
    assert [one.text for one in found.words] == [decomposed(one.text) for one in composed.words]
    answer, context = trasluz.load("pocket-bert", task="answer"), "The canal is in Panamá"
    best = answer("Where is the canal?", decomposed(context), top=50)
    theirs = answer("Where is the canal?", context, top=50)
    texts = [one.text for one in (best, *best.alternatives)]
    assert texts == [decomposed(one.text) for one in (theirs, *theirs.alternatives)]


def test_it_has_learnt_something() -> None:
    """Above chance, one in five, on sentences of our own that it has not seen; its card has the figures."""
    rows = (Path(__file__).parents[2] / "recipes/pocket-bert/topics-test.tsv").read_text(encoding="utf-8").splitlines()
    labels, texts = zip(*(row.split("\t") for row in rows[1:]), strict=True)
    found = trasluz.load("pocket-bert", task="classify")(list(texts))
    assert sum(one.label == label for one, label in zip(found, labels, strict=True)) > 0.3 * len(labels)
