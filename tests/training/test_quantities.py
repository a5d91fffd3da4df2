"""Amounts as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trasluz.training.quantities import (
    Average,
    Every,
    format_duration,
    parse_average,
    parse_count,
    parse_duration,
    parse_every,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("60m", 3600), ("1h30m", 5400), ("2d", 172800), ("0.5s", 0.5)]
)
def test_durations_are_read_and_written_back(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(format_duration(seconds)) == seconds


@given(seconds=st.floats(1e-6, 1e9))
def test_any_duration_is_written_with_all_its_digits(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["60", "m", "1x", "-5m", "", "5 minutes", "0s", 60])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match=r"90s, 60m|longer than nothing"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (7, 7),
        ("20k", 20_000),
        ("1.5M", 1_500_000),
        ("1e6", 10**6),
        ("20_000", 20_000),
        ("2.01k", 2010),
        ("8.11k", 8110),
        ("2.05M", 2_050_000),
    ],
)
def test_counts(text: object, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", [0, -1, 1.5, "ten", True, "1.0001k", "1e999999999", None])
def test_what_is_no_count(text: object) -> None:
    with pytest.raises(ValueError, match="whole number of at least 1"):
        parse_count(text)


def test_rhythms_and_averages() -> None:
    assert parse_every("500 steps") == Every(500, "steps") and str(parse_every("1 epoch")) == "1 epoch"
    assert str(Every(2, "epochs")) == "2 epochs"
    assert parse_average("last-5") == Average("last", 5) and parse_average("none") is None
    for wrong in ("500", "steps", "5 hours"):
        with pytest.raises(ValueError, match=r"rhythm|whole number"):
            parse_every(wrong)
    for wrong in ("last", "best-0", "5"):
        with pytest.raises(ValueError, match="last-N"):
            parse_average(wrong)
