"""What this machine can do at most: matrix products in fp32, bf16 and int8, and reading memory.

    python benchmarks/machine_limits.py

The limits take their turns among the contenders of every question, so that a share of a limit is one of the same
moment. A product is of two square matrices of 2,048. Reading goes through half a gigabyte in huge pages, a piece of
32 MiB after the other, in four ways: as one stream and as two, with the C library's and with PyTorch's loops. Of all
repetitions within a turn the best counts: a limit is what can be reached, and is meant to lie above what any program
reaches for longer.
"""

import argparse
import contextlib
import ctypes
import json
import mmap
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from alternate import Contender, Reply, Spread, serve, serving

SIZE = 2_048
# A piece is read again only after all the others: no cache has kept much of it. It is short, so that the best of many
# is a moment in which nobody else had the processor or the memory.
READ_BYTES, PIECE_BYTES = 1 << 29, 1 << 25
_REPETITIONS = 3

# Flags that decide which kernels there are, in Linux's words.
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx_vnni",
    "avx512_vnni",
    "amx_bf16",
    "amx_int8",
    "asimddp",
    "bf16",
    "i8mm",
)

LIMITS = Contender("the machine's limits", "machine_limits.py", {}, packages=())


def describe() -> dict[str, Any]:
    """Return what identifies a machine, and nothing that names it."""
    from trasluz.devices import cpu_flags
    from trasluz.layers.kernels import load_kernels

    flags = cpu_flags()
    return {
        "cpu": _first_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "last_cache": last_cache(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "compiled_kernels": load_kernels() is not None,
        "memory_gb": round(int((_first_of("/proc/meminfo", "MemTotal") or "0").split()[0]) / (1 << 20), 1),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def last_cache() -> str | None:
    """Return the size of the last cache before the memory, in Linux's words; None where it is not told."""
    found = [
        Path(folder, "size").read_text(encoding="ascii").strip()
        for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
        if Path(folder, "size").is_file()
    ]
    return found[-1] if found else None


def _first_of(path: str, key: str) -> str | None:
    with contextlib.suppress(OSError):
        for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return None


def _best(work: Callable[[], object], amount: float) -> float:
    rates = []
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        work()
        rates.append(amount / (time.perf_counter() - start))
    return max(rates)


class _Reading:
    """Reading memory as fast as it goes: a buffer far larger than the caches, and several ways through it.

    No one way is the fastest everywhere: what a core can have under way depends on how wide its loads are, how many a
    loop makes before it looks at them, and on how many streams the prefetchers follow. `memchr` and `memcmp` of the C
    library are one and two unrolled streams of the widest loads, `sum` and a product with a vector PyTorch's own. Huge
    pages keep the translation of addresses out of it. Threads read parts of a piece of their own.
    """

    def __init__(self, num_bytes: int, piece: int, threads: int) -> None:
        import torch

        self._memory = mmap.mmap(-1, num_bytes)
        with contextlib.suppress(AttributeError, OSError):
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        # Written once, so that every page is there and is its own.
        self._numbers = torch.frombuffer(self._memory, dtype=torch.float32).fill_(1.0)
        self._vector = torch.ones(1_024)
        self._threads, self._pool = threads, ThreadPoolExecutor(threads)
        self._piece, self._pieces = piece, num_bytes // piece
        self._next = 0
        library = ctypes.CDLL(None)
        self._memchr, self._memcmp = library.memchr, library.memcmp
        self._memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
        self._memchr.restype = ctypes.c_void_p
        self._memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

    def rate(self) -> float:
        """Return the best of all ways and pieces, in gigabytes a second."""
        best = 0.0
        for way in (self._one_stream, self._two_streams, self._summed, self._multiplied):
            for _ in range(_REPETITIONS * self._pieces):
                begin, self._next = self._next * self._piece, (self._next + 1) % self._pieces
                start = time.perf_counter()
                way(begin)
                best = max(best, self._piece / (time.perf_counter() - start) / 1e9)
        return best

    def _one_stream(self, begin: int) -> None:
        # The byte 1 does not occur in a float of 1.0, so that all is looked at.
        self._in_parts(begin, lambda address, size: self._memchr(address, 1, size))

    def _two_streams(self, begin: int) -> None:
        self._in_parts(begin, lambda address, size: self._memcmp(address, address + size // 2, size // 2))

    def _in_parts(self, begin: int, read: Callable[[int, int], object]) -> None:
        size = self._piece // self._threads // 64 * 64
        addresses = [self._numbers.data_ptr() + begin + number * size for number in range(self._threads)]
        # ctypes lets go of the interpreter's lock, so that these run side by side.
        list(self._pool.map(lambda address: read(address, size), addresses))

    def _summed(self, begin: int) -> None:
        self._numbers[begin // 4 : (begin + self._piece) // 4].sum()

    def _multiplied(self, begin: int) -> None:
        self._numbers[begin // 4 : (begin + self._piece) // 4].view(-1, len(self._vector)) @ self._vector


def _prepare(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    import torch

    from trasluz.devices import choose_device, multiplies_bf16, set_threads

    set_threads(settings.get("threads"))
    size = SIZE
    left, right = torch.randn(size, size), torch.randn(size, size)
    operations = 2 * size**3 / 1e9
    reading = _Reading(READ_BYTES, PIECE_BYTES, settings.get("threads") or len(os.sched_getaffinity(0)))
    measured: dict[str, tuple[Callable[[], object], float]] = {
        "fp32": (lambda: left @ right, operations),
    }
    if multiplies_bf16(choose_device("cpu")):
        narrow_left, narrow_right = left.bfloat16(), right.bfloat16()
        measured["bf16"] = (lambda: narrow_left @ narrow_right, operations)
    packed = _packed_int8(right)
    if packed is not None:
        measured["int8"] = (lambda: torch.ops.quantized.linear_dynamic(left, packed, False), operations)

    @torch.inference_mode()
    def turn(_: dict[str, Any]) -> Reply:
        products = {name: _best(work, amount) for name, (work, amount) in measured.items()}
        return {**products, "read": reading.rate()}

    turn({})
    return turn


def _packed_int8(weight: Any) -> Any:
    """Return a matrix in PyTorch's eight-bit form, by the engine it chooses itself; None where it has none."""
    import torch

    with warnings.catch_warnings(), contextlib.suppress(RuntimeError):
        warnings.simplefilter("ignore")
        scale = float(weight.abs().max()) / 127
        return torch.ops.quantized.linear_prepack(torch.quantize_per_tensor(weight, scale, 0, torch.qint8), None)
    return None


def spreads(replies: Sequence[Reply]) -> dict[str, Spread]:
    """Return each limit's spread over the rounds."""
    names = [name for name in ("fp32", "bf16", "int8", "read") if all(name in reply for reply in replies)]
    return {name: Spread.of([reply[name] for reply in replies]) for name in names} if replies else {}


def sentence(replies: Sequence[Reply]) -> str:
    """Say what the limits were."""
    found = spreads(replies)
    products = ", ".join(f"{name} {found[name]}" for name in ("fp32", "bf16", "int8") if name in found)
    return f"Limits measured in the same rounds: matrix products {products} G(FL)OP/s, reading {found['read']} GB/s."


def share(rate: float, cost: Mapping[str, float], limit: Reply, precision: str) -> float | None:
    """Return the share of the limit that work of this rate takes, of the larger of products and reading.

    `cost` is what one unit of work needs: `gflop`, and `gb` of weights read where it is known. That counts every use of
    a weight: where a cache holds part of them less is read from memory, and the share is higher than the memory's own.
    """
    if precision not in limit:
        return None
    shares = [rate * cost["gflop"] / limit[precision]]
    if "gb" in cost:
        shares.append(rate * cost["gb"] / limit["read"])
    return max(shares)


def main() -> None:
    """Measure the limits alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, help="threads (as many as there are cores)")
    options = parser.parse_args()
    turn = _prepare({"threads": options.threads or len(os.sched_getaffinity(0))})
    print(json.dumps(describe()))
    print(sentence([turn({}) for _ in range(options.rounds)]))


if __name__ == "__main__":
    serve(_prepare) if serving() else main()
