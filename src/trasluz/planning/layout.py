"""How many devices hold a run, and how they share it.

none    one device has the whole model
ddp     each has the whole model, and its part of an update's sequences
fsdp    each has 1/n of weights, gradients and moments, the layer at work and its neighbour whole, all that is outside
        of layers whole, and activations of its part of an update's sequences
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trasluz.planning.machines import Accelerator
from trasluz.planning.memory import TrainingMemory

POWERS_OF_TWO = tuple(1 << power for power in range(17))
# What the framework, its buffers and fragments of memory take.
_USABLE = 0.9


@dataclass(frozen=True)
class Layout:
    """How many devices share a run, and how."""

    parallel: str
    devices: int
    recompute: bool
    bytes_a_device: float
    sequences: int
    """That a device works on at once."""


def smallest_layout(
    memory_on: Callable[[int], TrainingMemory],
    device: Accelerator,
    *,
    recompute: bool = False,
    has_separate_layers: bool = True,
    tried: Iterable[int] = POWERS_OF_TWO,
) -> Layout | None:
    """Return the layout on the fewest of the devices that are tried; None: none of these numbers suffices.

    `memory_on` says what one of so many devices holds if it has the whole model. Activations are recomputed only where
    that saves devices, unless they are to be anyway. Without `has_separate_layers` none can be computed again, and each
    device has the whole model.
    """
    for devices in tried:
        memory = memory_on(devices)
        for again in (True,) if recompute else (False, True) if has_separate_layers else (False,):
            for sliced in (False, True) if has_separate_layers and devices > 1 else (False,):
                if layout := _layout(memory, device, devices, again, sliced):
                    return layout
    return None


def _layout(memory: TrainingMemory, device: Accelerator, devices: int, recompute: bool, sliced: bool) -> Layout | None:
    """Return the layout of a run over so many devices; None where they do not hold it."""
    state = memory.state / devices + memory.gathered if sliced else memory.state
    needed = state + memory.passing(recompute=recompute)
    if needed > _USABLE * device.memory:
        return None
    parallel = "fsdp" if sliced else "none" if devices == 1 else "ddp"
    return Layout(parallel, devices, recompute, needed, memory.sequences)
