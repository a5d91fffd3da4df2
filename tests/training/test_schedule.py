"""Schedules against their formulas."""

import math

import pytest

from trasluz.training.schedule import Schedule


def test_noam_is_the_papers_curve_with_its_peak_at_one() -> None:
    schedule = Schedule("noam", warmup_steps=400)
    # Vaswani et al. 2017, equation 3, divided by its value at the end of the warm-up.
    peak = 400**-0.5
    for step in (1, 13, 399, 400, 401, 5000):
        paper = min(step**-0.5, step * 400**-1.5)
        assert schedule.multiplier(step, 0.0) == pytest.approx(paper / peak)


@pytest.mark.parametrize("kind", ["noam", "linear", "cosine", "constant", "plateau"])
def test_all_warm_up_linearly(kind: str) -> None:
    schedule = Schedule(kind, warmup_steps=10)  # type: ignore[arg-type]
    assert [schedule.multiplier(step, step / 100) for step in (1, 5, 10)] == [0.1, 0.5, 1.0]


def test_linear_and_cosine_fall_from_the_end_of_the_warm_up_to_the_end_of_the_budget() -> None:
    for kind, middle in (("linear", 0.25), ("cosine", (1 + math.cos(0.75 * math.pi)) / 2)):
        schedule = Schedule(kind, warmup_steps=20)  # type: ignore[arg-type]
        for step in range(1, 21):
            schedule.multiplier(step, step / 100)
        assert schedule.multiplier(80, 0.8) == pytest.approx(middle)
        assert schedule.multiplier(100, 1.0) == pytest.approx(0.0)


def test_without_a_warm_up() -> None:
    assert Schedule("constant", 0).multiplier(1, 0.0) == 1.0
    assert Schedule("noam", 0).multiplier(4, 0.0) == 0.5
    assert Schedule("linear", 0).multiplier(1, 0.5) == 0.5


def test_plateau_falls_after_its_patience_and_remembers() -> None:
    schedule = Schedule("plateau", 0, plateau_factor=0.5, plateau_patience=2)
    seen = []
    for better in (True, False, False, False, True, False, False):
        schedule.observe(better)
        seen.append(schedule.multiplier(5, 0.0))
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25]
    again = Schedule("plateau", 0)
    again.restore(schedule.state())
    assert again == Schedule("plateau", 0, reductions=2)
