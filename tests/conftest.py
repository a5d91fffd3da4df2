"""What every test shares: one thread, fixed seeds, real data where it is, a GPU where there is one."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

SOURCES = Path(__file__).parents[1] / "src"


# The same examples every time: a run fails for what was changed. CONTRIBUTING.md says how others are drawn.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None)
settings.load_profile("same")


def pytest_configure() -> None:
    torch.set_num_threads(1)
    # Nor do processes that tests start take more: several workers share the cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Processes that tests start find the package where the tests do.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test starts from the same random state, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data named by TRASLUZ_DATA; tests that need it are skipped where it is unset."""
    folder = os.environ.get("TRASLUZ_DATA")
    if not folder:
        pytest.skip("TRASLUZ_DATA names no folder of real data")
    return Path(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device here")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)
