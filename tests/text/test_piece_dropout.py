"""Pieces taken apart are still the same text."""

import numpy as np
import pytest

from trasluz.text.piece_dropout import drop_pieces, find_parents
from trasluz.text.tokenizer import Tokenizer, train_tokenizer

TEXTS = ["The lantern hangs over the old lane.", "Another lantern, an older lane: the lanterns hang there."]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS * 5, "bpe", 300)


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_the_text_stays(tokenizer: Tokenizer, probability: float) -> None:
    parents = find_parents(tokenizer)
    assert parents is not None
    generator = np.random.default_rng(1)
    for text in TEXTS:
        (ids,) = tokenizer.encode_arrays([text])
        dropped = drop_pieces(ids, parents, probability, generator)
        assert tokenizer.decode(dropped.tolist()) == text
        assert dropped.dtype == ids.dtype
        if probability == 0.0:
            assert dropped.tolist() == ids.tolist()
        if probability == 1.0:
            assert (parents[dropped] < 0).all() and len(dropped) > 2 * len(ids)


def test_the_share_is_what_was_asked_for(tokenizer: Tokenizer) -> None:
    parents = find_parents(tokenizer)
    assert parents is not None
    # Pieces made of two that are whole: each is left or becomes two.
    joined = np.flatnonzero((parents[:, 0] >= 0) & (parents[parents] < 0).all((1, 2)))
    ids = np.resize(joined, 20_000)
    assert len(drop_pieces(ids, parents, 0.3, np.random.default_rng(2))) == pytest.approx(26_000, rel=0.02)


def test_whole_words_have_no_parents() -> None:
    assert find_parents(train_tokenizer(TEXTS, "word", 30)) is None
