"""Pairs of which a model wrote one side: that side is read behind a tag, and never written."""

from pathlib import Path
from typing import Any

import pytest
from small_run import prepared, run, small_recipe, write_pairs

import trasluz
from trasluz.errors import DataError, RecipeError, RequestError
from trasluz.training.recipe import Recipe
from trasluz.training.translation_examples import TranslationExamples
from trasluz.training.translation_job import TranslationJob


def pairs_of(recipe: Recipe) -> tuple[Any, list[tuple[str, str]]]:
    """Return the data of a recipe, and all examples of its epochs as text, tags included."""
    data = prepared(recipe, TranslationExamples(recipe))
    job = TranslationJob(recipe, None)
    stream = job.stream(data, job.build_model(data), processes=trasluz.training.processes.ALONE)

    def text(ids: Any, tokenizer: Any) -> str:
        return " ".join(tokenizer.backend.id_to_token(int(one)) for one in ids).replace("▁", "")

    examples = [stream.example(number) for number in range(stream.num_examples)]
    for (source, target), sizes in zip(examples, zip(*stream._lengths, strict=True), strict=True):
        assert (len(source), len(target)) == sizes
    both = data.source_tokenizer, data.target_tokenizer
    return data, [(text(source, both[0]), text(target, both[1])) for source, target in examples]


def by_model(folder: Path) -> str:
    """Write pairs whose English, and pairs whose Spanish, a model wrote; return the key that names them."""
    (folder / "en.tsv").write_text("ant cow\tCOW ANT\nowl\tOWL\n")
    (folder / "es.tsv").write_text("pig ant\tANT PIG\n")
    entries = [
        f"{name}: {{path: {folder / name}.tsv, columns: {{en: 1, es: 2}}, header: false}}" for name in ("en", "es")
    ]
    return f"data.back_translated={{{', '.join(entries)}}}"


def test_each_is_read_one_way_behind_the_tag(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, by_model(tmp_path), "data.both_directions=true")
    data, examples = pairs_of(recipe)
    assert data.counts.back_translated == 3
    assert f"{data.counts.used:,} training pairs, 3 of them back-translated" in str(data.counts)
    assert len(examples) == 2 * (data.counts.used - 3) + 3
    tagged = [example for example in examples if "<bt>" in example[0]]
    assert sorted(tagged) == sorted(
        [("<2es> <bt> ant cow", "COW ANT"), ("<2es> <bt> owl", "OWL"), ("<2en> <bt> ANT PIG", "pig ant")]
    )
    assert not any("<bt>" in target for _, target in examples)


def test_of_one_direction_only_what_is_read(tmp_path: Path) -> None:
    key = by_model(tmp_path)
    with pytest.raises(RecipeError, match=r"3: data: back_translated names es, which this model writes.*it as en$"):
        small_recipe(tmp_path, key)
    with pytest.raises(RecipeError, match=r"back_translated names fr, but the languages are en and es"):
        small_recipe(tmp_path, "data.back_translated={fr: a.tsv}")
    with pytest.raises(RecipeError, match=r"back_translated is 'a.tsv': data by the language.*such as \{en: a.tsv\}"):
        small_recipe(tmp_path, "data.back_translated=a.tsv")
    only = f"data.back_translated={{en: {{path: {tmp_path / 'en.tsv'}, columns: {{en: 1, es: 2}}, header: false}}}}"
    two = ("tokenizer.shared=false", "model.tied_embeddings=target")
    data, examples = pairs_of(small_recipe(tmp_path, only, *two, name="two"))
    assert [example for example in examples if "<bt>" in example[0]] == [
        ("<bt> ant cow", "COW ANT"),
        ("<bt> owl", "OWL"),
    ]
    assert data.target_tokenizer.id_of("<bt>") is None


def test_what_a_tokenizer_or_a_task_does_not_know(tmp_path: Path) -> None:
    plain = prepared(small_recipe(tmp_path), TranslationExamples(small_recipe(tmp_path)))
    plain.source_tokenizer.save(tmp_path / "tokens")
    key = by_model(tmp_path)
    both = "data.both_directions=true"
    with pytest.raises(RequestError, match=r"the tokenizer has no tag <bt>, which data\.back_translated needs"):
        pairs_of(small_recipe(tmp_path, key, both, f"tokenizer.load={tmp_path / 'tokens'}", name="loaded"))
    with pytest.raises(RecipeError, match=r"data\.back_translated"):
        small_recipe(tmp_path, "data.back_translated={en: a.tsv}", "task=generate")
    with pytest.raises(DataError, match=r"data\.back_translated\.es: there is no file nowhere\.tsv"):
        pairs_of(small_recipe(tmp_path, "data.back_translated={es: nowhere.tsv}", both, name="nowhere"))
    excluded = f"data.exclude=[{{path: {tmp_path / 'es.tsv'}, columns: {{en: 1, es: 2}}, header: false}}]"
    only = f"data.back_translated={{es: {{path: {tmp_path / 'es.tsv'}, columns: {{en: 1, es: 2}}, header: false}}}}"
    with pytest.raises(DataError, match=r"data\.back_translated: none of these pairs is left"):
        pairs_of(small_recipe(tmp_path, only, both, excluded, name="excluded"))


def test_those_that_are_too_long_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "long.tsv").write_text(f"{'ant ' * 30}\tANT\nowl\tOWL\n")
    only = f"data.back_translated={{en: {{path: {tmp_path / 'long.tsv'}, columns: {{en: 1, es: 2}}, header: false}}}}"
    data, examples = pairs_of(small_recipe(tmp_path, only))
    assert (data.counts.back_translated, data.counts.too_long) == (1, 1)
    assert [example for example in examples if "<bt>" in example[0]] == [("<bt> owl", "OWL")]


def test_a_run_is_not_gone_on_with_by_others(tmp_path: Path) -> None:
    key, both = by_model(tmp_path), "data.both_directions=true"
    run(small_recipe(tmp_path, key, both))
    only = f"data.back_translated={{en: {{path: {tmp_path / 'es.tsv'}, columns: {{en: 1, es: 2}}, header: false}}}}"
    for other in (only, "data.back_translated={}"):
        with pytest.raises(RecipeError, match=r"back_translated is .*, but the run in .* was begun with"):
            run(small_recipe(tmp_path, other, both, "training.max_steps=30"), resume=True)


def test_a_model_that_learnt_from_them(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.tsv")
    recipe = small_recipe(tmp_path, by_model(tmp_path), "data.both_directions=true")
    run(recipe)
    card = (tmp_path / "run" / "README.md").read_text()
    assert "3 of them back-translated" in card
    assert "pairs whose en a model wrote" in card and "pairs whose es a model wrote" in card
    translator = trasluz.load(tmp_path / "run")
    assert "<" not in translator("ant bee", to="es").text
