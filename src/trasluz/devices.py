"""Where and in which number type work runs: devices, precision, threads, and the allocator's manners."""

import contextlib
import ctypes
import math
import mmap
import re
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from trasluz.errors import RequestError

_HUGE_PAGE = 1 << 21

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of a name: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:n`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not match:
        raise RequestError(f"there is no device {name!r}; say auto, cpu, cuda or cuda:n.")
    count = torch.cuda.device_count()
    if int(match[1] or 0) >= count:
        raise RequestError(f"device {name!r} is not there: this machine shows {count} CUDA device(s). Say cpu or auto.")
    return torch.device(name)


def share_gpus(local_rank: int) -> None:
    """Give this process, one of several on a machine, the GPU of its number wherever no other is named."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the number type of a name: `auto` is fp32 on a CPU and bf16 on a GPU that has it."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and multiplies_bf16(device) else torch.float32
    if name not in _DTYPES:
        raise RequestError(f"there is no dtype {name!r}; say auto, fp32, bf16 or int8.")
    if name == "int8" and device.type != "cpu":
        raise RequestError(f"dtype int8 is for the CPU, but the device is {device.type}; say bf16, or --device cpu.")
    return _DTYPES[name]


def multiplies_bf16(device: torch.device) -> bool:
    """Tell whether a device has instructions for bfloat16 matrix products.

    A CPU without AVX512-BF16 or AMX (on ARM: bf16) makes them some fifty times slower than those of float32.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_flags())


@cache
def has_matrix_unit() -> bool:
    """Tell whether this CPU multiplies tiles of matrices in bfloat16 (AMX)."""
    return "amx_bf16" in cpu_flags()


@cache
def onednn_leads(dtype: torch.dtype) -> bool:
    """Tell whether the products of many rows on this CPU are best made by oneDNN, as it offers itself to a compiler.

    In bfloat16 it makes them all, but this way with the bias on sums that are at hand. In float32 PyTorch asks MKL,
    which on AMD's processors leaves AVX-512 unused: oneDNN is two to four times as fast there (Zen 5).
    """
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return multiplies_bf16(torch.device("cpu"))
    return dtype == torch.float32 and _is_amd_with_avx512()


@cache
def halves_wide_work() -> bool:
    """Tell whether this CPU knows AVX-512, but computes eight floats at a time all the same: AMD's Zen 4."""
    return _is_amd_with_avx512() and "avx_vnni" not in cpu_flags()


def _is_amd_with_avx512() -> bool:
    return "AuthenticAMD" in _cpu_words("vendor_id") and "avx512f" in cpu_flags()


def cpu_flags() -> frozenset[str]:
    """Return what this CPU says it can do, in Linux's words; nothing on other systems."""
    return _cpu_words("flags", "Features")


def _cpu_words(*keys: str) -> frozenset[str]:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="ascii", errors="replace") as cpuinfo:
        for line in cpuinfo:
            if line.startswith(keys):
                return frozenset(line.split())
    return frozenset()


def set_threads(count: int | None) -> None:
    """Let torch use `count` threads; None leaves its choice."""
    if count is None:
        return
    if count < 1:
        raise RequestError(f"`threads` must be at least 1, but is {count}.")
    torch.set_num_threads(count)


def tune_allocator() -> None:
    """Ask glibc to keep large buffers instead of giving them back, and faulting them in again, at every training step.

    The same as MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ and MALLOC_TOP_PAD_, without the user having to set them.
    Does nothing on systems without glibc.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        # glibc takes ints: 1 GiB is the largest power of two that says "practically never".
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)
        mallopt(top_pad, 1 << 28)


def memory_for_weights(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return room on the CPU, filled with zeros, for what is read as a whole again and again.

    It is in pages of 2 MiB where Linux has them to give: to find where each small one lies takes a twentieth of the
    time in which it is read.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(*shape, dtype=dtype, device="cpu")
    # Private: of memory that processes share Linux makes small pages.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(*shape)


def trim_heap() -> None:
    """Ask glibc to give back what it has kept: for when much was freed that nobody will ask for again.

    Does nothing on systems without glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
