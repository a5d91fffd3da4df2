"""Devices and number types by name."""

import io

import pytest
import torch

from trasluz.devices import choose_device, choose_dtype, multiplies_bf16, set_threads, share_gpus, tune_allocator
from trasluz.errors import RequestError

CPU = torch.device("cpu")


def test_names() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda")
    assert choose_dtype("auto", CPU) == torch.float32
    assert choose_dtype("bf16", CPU) == torch.bfloat16
    set_threads(None)
    tune_allocator()


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
