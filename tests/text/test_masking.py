"""Masking: as many pieces as asked for, whole words together, and the right things in their place."""

import numpy as np
import pytest

from trasluz.text.masking import MASKING_UNITS, Masking

ORDINARY = np.arange(5, 100)


def draw(unit: str, rate: float = 0.15, length: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the word that each piece belongs to, and which pieces were chosen."""
    generator = np.random.default_rng(seed)
    starts = generator.random(length) < 0.6
    starts[0] = True
    masking = Masking(4, ORDINARY, rate, unit)  # type: ignore[arg-type]
    return starts.cumsum(), masking.choose(starts, generator)


@pytest.mark.parametrize("unit", MASKING_UNITS)
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_the_share_is_the_one_asked_for(unit: str, rate: float) -> None:
    for seed in range(20):
        words, chosen = draw(unit, rate, seed=seed)
        longest = int(np.bincount(words).max())
        assert round(rate * 200) <= chosen.sum() < round(rate * 200) + longest


@pytest.mark.parametrize("unit", MASKING_UNITS)
@pytest.mark.parametrize(("length", "share", "within"), [(5, 0.2, 0.05), (10, 0.15, 0.015), (25, 0.15, 0.01)])
def test_short_texts_keep_the_share_on_average(unit: str, length: int, share: float, within: float) -> None:
    # One of five is more than the rate, and some texts have only words of more than one.
    mean = np.mean([draw(unit, length=length, seed=seed)[1].mean() for seed in range(1000)])
    assert mean == pytest.approx(share, abs=within)


@pytest.mark.parametrize("unit", ["words", "spans"])
def test_where_only_long_words_are_left_the_share_is_kept_on_average(unit: str) -> None:
    masking = Masking(4, ORDINARY, unit=unit)  # type: ignore[arg-type]
    starts = np.arange(30) % 3 == 0
    chosen = [masking.choose(starts, np.random.default_rng(seed)) for seed in range(1000)]
    assert {int(one.sum()) for one in chosen} == {3, 6}
    assert np.mean(chosen) == pytest.approx(0.15, abs=0.005)
    # None fits at all: one is chosen nonetheless.
    assert all(masking.choose(starts[:6], np.random.default_rng(seed)).sum() == 3 for seed in range(20))


@pytest.mark.parametrize("unit", ["words", "spans"])
def test_words_stay_whole(unit: str) -> None:
    for seed in range(20):
        words, chosen = draw(unit, seed=seed)
        for word in range(1, int(words.max()) + 1):
            assert len(set(chosen[words == word].tolist())) == 1


@pytest.mark.parametrize("unit", ["words", "spans"])
@pytest.mark.parametrize("length", [8, 200])
def test_of_a_word_that_is_all_of_a_text_a_stretch_is_chosen(unit: str, length: int) -> None:
    masking = Masking(4, ORDINARY, unit=unit)  # type: ignore[arg-type]
    found = set()
    for seed in range(20):
        places = np.flatnonzero(masking.choose(np.zeros(length, bool), np.random.default_rng(seed)))
        assert places.tolist() == list(range(places[0], places[0] + len(places)))
        assert abs(len(places) - 0.15 * length) < 1
        found.add(int(places[0]))
    assert len(found) > 4


def test_spans_are_longer_stretches_than_words() -> None:
    def stretches(unit: str) -> float:
        return float(
            np.mean([np.count_nonzero(np.diff(draw(unit, seed=seed)[1].astype(int)) == 1) for seed in range(30)])
        )

    # A mean of some 3.8 words a span (Joshi et al. 2020) makes far fewer stretches of as many pieces.
    assert stretches("spans") < 0.5 * stretches("words") < 0.6 * stretches("tokens")


def test_a_single_piece_is_always_chosen() -> None:
    masking = Masking(4, ORDINARY)
    for seed in range(5):
        assert masking.choose(np.array([False]), np.random.default_rng(seed)).tolist() == [True]


def test_what_takes_the_place() -> None:
    ids = np.random.default_rng(0).choice(ORDINARY, 100_000).astype(np.uint16)
    chosen = np.arange(100_000) % 2 == 0
    corrupted = Masking(4, ORDINARY.astype(np.uint16)).corrupt(ids, chosen, np.random.default_rng(1))
    assert np.array_equal(corrupted[~chosen], ids[~chosen]) and corrupted.dtype == ids.dtype
    inside, before = corrupted[chosen], ids[chosen]
    assert (inside == 4).mean() == pytest.approx(0.8, abs=0.01)
    # Of the ten in a hundred that are drawn at random, one in 95 is what stood there.
    assert ((inside != 4) & (inside != before)).mean() == pytest.approx(0.1 * 94 / 95, abs=0.01)
    assert (inside == before).mean() == pytest.approx(0.1 + 0.1 / 95, abs=0.01)
    assert not np.isin(inside, [0, 1, 2, 3]).any()
