"""Devices and number types by name."""

import copy
import io
import platform
import subprocess
import sys

import pytest
import torch

from trasluz.devices import (
    choose_device,
    choose_dtype,
    memory_for_weights,
    multiplies_bf16,
    set_threads,
    share_gpus,
    trim_heap,
    tune_allocator,
)
from trasluz.errors import RequestError

CPU = torch.device("cpu")


def test_names() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda")
    assert choose_dtype("auto", CPU) == torch.float32
    assert choose_dtype("bf16", CPU) == torch.bfloat16
    set_threads(None)
    tune_allocator()


@pytest.mark.parametrize("shape", [(3, 5), (1_000, 1_000), (2, 600, 1_100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_memory_for_weights(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    room = memory_for_weights(shape, dtype)
    assert room.shape == shape and room.dtype == dtype and not room.any()
    room += 1
    assert torch.equal(room, torch.ones(shape, dtype=dtype)) and room.is_contiguous()
    assert torch.equal(copy.deepcopy(room), room)


@pytest.mark.parametrize(
    ("line", "has"),
    [("flags\t\t: fpu avx512f avx512_bf16", True), ("Features\t: fp asimd bf16", True), ("flags : avx2", False)],
)
def test_bf16_instructions(monkeypatch: pytest.MonkeyPatch, line: str, has: bool) -> None:
    monkeypatch.setattr("builtins.open", lambda *given, **named: io.StringIO(f"processor : 0\n{line}\n"))
    assert multiplies_bf16(CPU) is has


def test_processes_of_a_machine_share_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    share_gpus(1)
    assert chosen == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for local_rank in range(3):
        share_gpus(local_rank)
    assert chosen == [0, 1, 0]


@pytest.mark.gpu
def test_auto_on_a_gpu() -> None:
    assert choose_device("auto").type == "cuda"


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "CPU"])
def test_unknown_device(name: str) -> None:
    with pytest.raises(RequestError, match=f"there is no device '{name}'; say auto, cpu, cuda or cuda:n"):
        choose_device(name)


def test_device_that_is_not_there() -> None:
    with pytest.raises(RequestError, match=r"device 'cuda:99' is not there: this machine shows \d+ CUDA device"):
        choose_device("cuda:99")


def test_unknown_dtype() -> None:
    with pytest.raises(RequestError, match="no dtype 'fp17'; say auto, fp32, bf16 or int8"):
        choose_dtype("fp17", CPU)


def test_int8_is_for_the_cpu() -> None:
    assert choose_dtype("int8", CPU) == torch.int8
    with pytest.raises(RequestError, match="int8 is for the CPU, but the device is cuda; say bf16, or --device cpu"):
        choose_dtype("int8", torch.device("cuda"))


def test_threads() -> None:
    with pytest.raises(RequestError, match="`threads` must be at least 1, but is 0"):
        set_threads(0)


_TRIM = """
import sys
import torch
from trasluz.devices import trim_heap


def held():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


# Small enough to lie in the heap, of which the last keeps all below from going by itself.
blocks = [torch.ones(16_000) for _ in range(1_000)]
del blocks[:-1]
before = held()
trim_heap()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap is not glibc's")
def test_what_was_freed_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _TRIM], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 40


def test_where_the_heap_cannot_be_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", nothing)
    trim_heap()
