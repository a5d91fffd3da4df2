"""One tree of errors, two exit codes, and the nearest name."""

import pytest

from trasluz import errors


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.RequestError, 2),
        (errors.RecipeError, 2),
        (errors.DataError, 2),
        (errors.ModelError, 2),
        (errors.WorkError, 1),
        (errors.TrainingError, 1),
        (errors.WriteError, 1),
    ],
)
def test_exit_codes(error: type[errors.TrasluzError], exit_code: int) -> None:
    assert error.exit_code == exit_code
    assert issubclass(error, errors.TrasluzError)


def test_nearest() -> None:
    assert errors.nearest("lerning_rate", ["learning_rate", "schedule"]) == "learning_rate"
    assert errors.nearest("xyz", ["learning_rate", "schedule"]) is None
