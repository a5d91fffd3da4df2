"""The bundled GPT: it goes on in Spanish, offline, the same text from the same seed, and is small."""

import pytest

import trasluz
from trasluz.tasks.loading import bundled_models

FOLDER = bundled_models().get("pocket-gpt-es")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="pocket-gpt-es is not in this tree")


def test_it_is_small_and_says_where_it_comes_from() -> None:
    assert FOLDER is not None
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 8_000_000
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "Cervantes" in card and "public domain" in card


def test_it_goes_on_in_the_words_of_its_book() -> None:
    generate = trasluz.load("pocket-gpt-es")
    result = generate("Respondió el caballero", max_tokens=60, seed=3)
    assert result.text == generate("Respondió el caballero", max_tokens=60, seed=3).text
    assert result.text != generate("Respondió el caballero", max_tokens=60, seed=4).text
    words = result.text.lower().split()
    assert len(words) > 20 and len({"que", "de", "y", "la", "a", "el", "en", "no"} & set(words)) >= 4
    assert "".join(generate.stream("Respondió el caballero", max_tokens=60, seed=3)) == result.text


def test_a_beams_texts_up_to_a_stop_string_differ() -> None:
    generate = trasluz.load("pocket-gpt-es")
    best = generate("En un lugar", beam=4, samples=4, max_tokens=30, stop=",")
    texts = [best, *best.alternatives]
    assert len({one.text for one in texts}) == len(texts) > 1
    for one in texts:
        assert "," not in generate.tokenizer.decode(one.ids[:-1])
