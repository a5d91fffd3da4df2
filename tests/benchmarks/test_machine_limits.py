"""Reading is measured over all bytes of a piece, by every way, and a share takes the larger of its two limits."""

import machine_limits
import pytest


def test_every_way_looks_at_all_of_a_piece() -> None:
    reading = machine_limits._Reading(1 << 16, 1 << 14, threads=2)
    assert reading.rate() > 0
    seen: list[tuple[int, int]] = []
    reading._in_parts(1 << 14, lambda address, size: seen.append((address - reading._numbers.data_ptr(), size)))
    assert sorted(seen) == [(1 << 14, 1 << 13), ((1 << 14) + (1 << 13), 1 << 13)]
    # Neither loop of the C library may end early.
    address, size = reading._numbers.data_ptr(), 1 << 14
    assert reading._memchr(address, 1, size) is None
    assert reading._memcmp(address, address + size // 2, size // 2) == 0


def test_a_share_is_of_products_or_of_reading_whichever_is_larger() -> None:
    limit = {"fp32": 100.0, "read": 10.0}
    assert machine_limits.share(2.0, {"gflop": 5.0, "gb": 1.0}, limit, "fp32") == pytest.approx(0.2)
    assert machine_limits.share(2.0, {"gflop": 30.0, "gb": 1.0}, limit, "fp32") == pytest.approx(0.6)
    assert machine_limits.share(2.0, {"gflop": 5.0}, limit, "int8") is None
