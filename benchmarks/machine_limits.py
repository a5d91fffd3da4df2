"""What this machine can do at most: matrix products in fp32, bf16 and int8, and reading memory.

    python benchmarks/machine_limits.py

The limits take their turns among the contenders of every question, so that a share of a limit is one of the same
moment. A product is of two square matrices of 2,048; reading is a sum over half a gigabyte. Of several repetitions
within a turn the best counts: a limit is what can be reached.
"""

import argparse
import contextlib
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alternate import Contender, Reply, Spread, serve, serving

SIZE = 2_048
READ_BYTES = 1 << 29
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

    flags = cpu_flags()
    return {
        "cpu": _first_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "memory_gb": round(int((_first_of("/proc/meminfo", "MemTotal") or "0").split()[0]) / (1 << 20), 1),
        "system": platform.system(),
        "python": platform.python_version(),
    }


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


def _prepare(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    import torch

    from trasluz.devices import choose_device, multiplies_bf16, set_threads

    set_threads(settings.get("threads"))
    size = SIZE
    left, right = torch.randn(size, size), torch.randn(size, size)
    operations = 2 * size**3 / 1e9
    buffer = torch.ones(READ_BYTES // 4)
    measured: dict[str, tuple[Callable[[], object], float]] = {
        "fp32": (lambda: left @ right, operations),
        "read": (buffer.sum, READ_BYTES / 1e9),
    }
    if multiplies_bf16(choose_device("cpu")):
        narrow_left, narrow_right = left.bfloat16(), right.bfloat16()
        measured["bf16"] = (lambda: narrow_left @ narrow_right, operations)
    packed = _packed_int8(right)
    if packed is not None:
        measured["int8"] = (lambda: torch.ops.quantized.linear_dynamic(left, packed, False), operations)

    @torch.inference_mode()
    def turn(_: dict[str, Any]) -> Reply:
        return {name: _best(work, amount) for name, (work, amount) in measured.items()}

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

    `cost` is what one unit of work needs: `gflop`, and `gb` of memory read where it is known.
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
