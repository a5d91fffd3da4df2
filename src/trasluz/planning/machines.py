"""What well-known accelerators can do, as their makers state it: dense matrix products, and memory.

The rates of K80 to P100 are the sustained ones in single precision that Vaswani et al. 2017 (section 6.1, footnote)
reckon with; of V100 on, the peaks of 16-bit products with sums of 32 bits.
"""

from dataclasses import dataclass

from trasluz.errors import RequestError, nearest


@dataclass(frozen=True)
class Accelerator:
    """One device: operations a second, and bytes of memory."""

    name: str
    operations: float
    memory: float


_GB = 1e9

ACCELERATORS = {
    one.name: one
    for one in (
        Accelerator("k80", 2.8e12, 12 * _GB),
        Accelerator("k40", 3.7e12, 12 * _GB),
        Accelerator("m40", 6.0e12, 24 * _GB),
        Accelerator("p100", 9.5e12, 16 * _GB),
        Accelerator("v100", 125e12, 32 * _GB),
        Accelerator("a100-40gb", 312e12, 40 * _GB),
        Accelerator("a100", 312e12, 80 * _GB),
        Accelerator("h100", 989e12, 80 * _GB),
        Accelerator("h200", 989e12, 141 * _GB),
        Accelerator("b200", 2250e12, 180 * _GB),
    )
}


def find_accelerator(name: str) -> Accelerator:
    """Return a device by its name; RequestError with the nearest name where it is not known."""
    if name not in ACCELERATORS:
        close = nearest(name, ACCELERATORS)
        hint = f"did you mean {close}?" if close else f"known are {', '.join(ACCELERATORS)}."
        raise RequestError(f"there is no device {name!r} in the list; {hint} Or give --peak and --memory.")
    return ACCELERATORS[name]
