"""generation_config.json in our words, ours and Hugging Face's."""

import pytest

from trasluz.checkpoints.generation_settings import forbidden_ids
from trasluz.decoding.settings import SearchSettings
from trasluz.errors import ModelError
from trasluz.tasks.search_defaults import search_defaults


def test_ours() -> None:
    assert search_defaults({"normalization": "gnmt"}, None) == SearchSettings()
    given = {"normalization": "gnmt", "num_beams": 6, "length_penalty": 1, "max_length": 101, "no_repeat_ngram_size": 3}
    assert search_defaults(given | {"forced_eos_token_id": 2}, 80) == SearchSettings(
        beam=6, length_penalty=1.0, max_length=80, no_repeat_ngram=3
    )


def test_theirs() -> None:
    settings = search_defaults({"normalization": "power"}, None)
    assert (settings.beam, settings.length_penalty, settings.normalization) == (1, 1.0, "power")
    # No limit relative to the source: a target may have all 512 tokens.
    assert settings.length_limits(1) == (0, 512)
    settings = search_defaults(
        {"normalization": "power", "max_new_tokens": 7, "renormalize_logits": True, "forced_eos_token_id": 0}, None
    )
    assert (settings.max_length, settings.renormalize, settings.at_limit) == (7, True, "free-end")


def test_forbidden() -> None:
    assert forbidden_ids({"bad_words_ids": [[3], [1]]}) == (3, 1)
    assert forbidden_ids({}) == ()
    with pytest.raises(ModelError, match=r"bad_words_ids holds \[3, 4\]; only lists of one token are known"):
        forbidden_ids({"bad_words_ids": [[1], [3, 4]]})
