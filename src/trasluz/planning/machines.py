"""What well-known accelerators can do, as their makers state it: dense matrix products, and memory.

The rates of K80 to P100 are the sustained ones in single precision that Vaswani et al. 2017 (section 6.1, footnote)
reckon with; the others are peaks, of bf16 products with sums of 32 bits and of single precision outside the matrix
units. V100 has matrix units for fp16 alone, in which nothing is trained here.
"""

from dataclasses import dataclass, replace
from typing import Literal

from trasluz.errors import RequestError, nearest

Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class Accelerator:
    """One device: operations a second in the fastest type that it trains in, and bytes of memory."""

    name: str
    operations: float
    memory: float
    fp32_operations: float | None = None
    """Those in single precision, where the fastest type is bf16; None: it has no instructions for bf16."""

    @property
    def has_bf16(self) -> bool:
        """Whether it multiplies in bf16."""
        return self.fp32_operations is not None

    def precision(self, wanted: str) -> Precision:
        """Return in which type a run computes its products here that wants `auto`, `bf16`, `fp32`, or `int8`."""
        return "bf16" if self.has_bf16 and wanted != "fp32" else "fp32"

    def rate(self, precision: Precision) -> float:
        """Return the operations a second in a type."""
        return self.operations if precision == "bf16" else self.fp32_operations or self.operations

    def with_rate(self, operations: float) -> "Accelerator":
        """Return the device with another rate, whatever the type."""
        return replace(self, operations=operations, fp32_operations=operations if self.has_bf16 else None)


_GB = 1e9

ACCELERATORS = {
    one.name: one
    for one in (
        Accelerator("k80", 2.8e12, 12 * _GB),
        Accelerator("k40", 3.7e12, 12 * _GB),
        Accelerator("m40", 6.0e12, 24 * _GB),
        Accelerator("p100", 9.5e12, 16 * _GB),
        Accelerator("v100", 15.7e12, 32 * _GB),
        Accelerator("a100-40gb", 312e12, 40 * _GB, 19.5e12),
        Accelerator("a100", 312e12, 80 * _GB, 19.5e12),
        Accelerator("h100", 989e12, 80 * _GB, 67e12),
        Accelerator("h200", 989e12, 141 * _GB, 67e12),
        Accelerator("b200", 2250e12, 180 * _GB, 75e12),
    )
}


def find_accelerator(name: str) -> Accelerator:
    """Return a device by its name; RequestError with the nearest name where it is not known."""
    if name not in ACCELERATORS:
        close = nearest(name, ACCELERATORS)
        hint = f"did you mean {close}?" if close else f"known are {', '.join(ACCELERATORS)}."
        raise RequestError(f"there is no device {name!r} in the list; {hint} Or give --peak and --memory.")
    return ACCELERATORS[name]
