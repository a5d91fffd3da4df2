"""The door to the compiled kernels: open, shut, or leading elsewhere."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trasluz.layers import kernels
from trasluz.layers.kernels import kernels_are_missing, load_kernels, training_kernels_for
from trasluz.layers.linear import trains_on_cpu


def test_where_there_is_a_compiler_there_are_kernels() -> None:
    """Else every test of a kernel would be skipped, and an error of the compiler would look like success."""
    if shutil.which("g++") is None:
        pytest.skip("there is no compiler")
    assert not kernels_are_missing()


def test_where_they_are_missing_a_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "load_kernels", lambda: None)
    monkeypatch.setattr(kernels, "cpu_flags", lambda: frozenset({"avx2", "fma"}))
    assert kernels_are_missing() == (sys.platform == "linux")
    monkeypatch.setattr(kernels, "cpu_flags", frozenset)
    assert not kernels_are_missing()


def test_without_the_library_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernels, "LIBRARY", tmp_path / "none.so")
    assert load_kernels.__wrapped__() is None
    (tmp_path / "none.so").write_bytes(b"no library")
    assert load_kernels.__wrapped__() is None


def test_a_library_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_VERSION", -1)
    assert load_kernels.__wrapped__() is None


def test_the_runtime_of_threads_is_found_wherever_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ["/opt/a user/libgomp-1.so", "/opt/a user/libgomp-1.so", "/lib/libc.so", ""]
    maps = "".join(f"7f00-7f01 r-xp 00000000 08:01 123                    {path}\n" for path in paths)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: maps)
    assert kernels._thread_libraries() == ["/opt/a user/libgomp-1.so"]


@pytest.mark.filterwarnings("ignore")
def test_who_traces_a_graph_meets_no_kernel() -> None:
    found = []

    def ask(x: Tensor) -> Tensor:
        found.append((training_kernels_for(x), trains_on_cpu(x, x)))
        return x + 1

    torch.jit.trace(ask, torch.randn(3, 8), check_trace=False)
    assert found == [(None, False)]
    assert trains_on_cpu(torch.randn(3, 8))
