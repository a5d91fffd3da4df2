"""A run of any size, planned: parameters, operations, memory, devices and time.

operations of training   3 * forward          backward is twice forward (Kaplan et al. 2020, section 2.1)
                         4 * forward          with recomputed activations
                         1 * forward          of frozen layers, which lie below all that is learnt
                         + forward            of a teacher, where there is one
time                     operations / (devices * peak * utilisation)
compute-optimal tokens   20 a parameter       Hoffmann et al. 2022, table 3
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from trasluz.errors import RequestError
from trasluz.planning.layout import POWERS_OF_TWO, Layout, smallest_layout
from trasluz.planning.machines import Accelerator, Precision
from trasluz.planning.memory import TrainingMemory
from trasluz.planning.run import Run, at_least_one

TOKENS_A_PARAMETER = 20


@dataclass(frozen=True)
class Plan:
    """What is known of a run before it begins."""

    run: Run
    device: Accelerator
    precision: Precision
    """Of the products, on that device."""
    smallest: Layout | None
    """None: not even all devices that are thought of suffice."""
    used: Layout | None
    """On the devices that there are, else the smallest; None: they do not hold the run."""
    less_at_once: Layout | None
    """With a smaller batch at once the run fits where it does not, or on fewer devices; None: it does not."""
    devices: int | None
    """Those that there are, else of the smallest layout; None: nobody says how many there are, and none suffice."""
    utilisation: float

    @property
    def batch_sequences(self) -> int:
        """Sequences that a device works on at once; where no number of devices suffices, on the most of them."""
        return self.run.sequences_on(self.devices or POWERS_OF_TWO[-1])

    @property
    def memory(self) -> TrainingMemory:
        """What so many sequences take on a device that has the whole model."""
        return self.run.memory_on(self.devices or POWERS_OF_TWO[-1], self.precision)

    @property
    def tokens(self) -> float:
        """Tokens that are trained on: the run's, else the compute-optimal ones."""
        return self.run.tokens or self.optimal_tokens

    @property
    def optimal_tokens(self) -> float:
        """Tokens that bring the lowest loss for the operations they take."""
        return float(TOKENS_A_PARAMETER * self.run.parameters)

    @property
    def operations(self) -> float:
        """Of the whole training, without recomputation, which is no progress."""
        run = self.run
        return (3 * run.forward_a_token - 2 * run.frozen_a_token + run.teacher_a_token) * self.tokens

    @property
    def rate(self) -> float | None:
        """Operations a second of all devices at their peak."""
        return None if self.devices is None else self.devices * self.device.rate(self.precision)

    @property
    def recompute(self) -> bool:
        """Whether the devices that there are must recompute activations, or enough of them would have to."""
        layout = self.used or self.smallest
        return self.run.recompute if layout is None else layout.recompute

    @property
    def seconds(self) -> float | None:
        """Time of the training on its devices; recomputation counts here."""
        if self.rate is None:
            return None
        again = (self.run.forward_a_token - self.run.frozen_a_token) * self.tokens if self.recompute else 0.0
        return (self.operations + again) / (self.rate * self.utilisation)

    def utilisation_within(self, seconds: float) -> float | None:
        """Return what share of the devices' rate a training of so many seconds makes use of."""
        return None if self.rate is None else self.operations / (seconds * self.rate)


def make_plan(run: Run, device: Accelerator, *, devices: int | None = None, utilisation: float = 0.4) -> Plan:
    """Return the plan of a run; nothing is built.

    `devices` are those of the smallest layout where they are not given. Raises RequestError for sizes that mean
    nothing.
    """
    at_least_one("devices", devices)
    if not 0 < utilisation <= 1:
        raise RequestError(f"`utilisation` is {utilisation}; it is a share of the peak, above 0 and at most 1.")
    smallest = _smallest(run, device)
    used = smallest if devices is None else _smallest(run, device, (devices,))
    return Plan(
        run,
        device,
        device.precision(run.precision),
        smallest,
        used,
        _with_less_at_once(run, device, used, POWERS_OF_TWO if devices is None else (devices,)),
        devices or (smallest.devices if smallest else None),
        utilisation,
    )


def _smallest(run: Run, device: Accelerator, tried: Iterable[int] = POWERS_OF_TWO) -> Layout | None:
    precision = device.precision(run.precision)
    return smallest_layout(
        lambda devices: run.memory_on(devices, precision),
        device,
        recompute=run.recompute,
        has_separate_layers=run.has_separate_layers,
        tried=tried,
    )


def _with_less_at_once(run: Run, device: Accelerator, used: Layout | None, tried: Iterable[int]) -> Layout | None:
    """Return the layout on the fewest devices that hold a sequence each, with as many at once as they hold."""
    fewest = _smallest(replace(run, batch_sequences=1), device, tried)
    if fewest is None or (used is not None and used.devices <= fewest.devices):
        return None
    sequences = run.sequences_on(fewest.devices)
    while sequences > 1:
        sequences //= 2
        if found := _smallest(replace(run, batch_sequences=sequences), device, (fewest.devices,)):
            return found
    return None
