"""A run of any size, planned: parameters, operations, memory, devices and time.

operations of training   3 * forward          backward is twice forward (Kaplan et al. 2020, section 2.1)
                         4 * forward          with recomputed activations
time                     operations / (devices * peak * utilisation)
compute-optimal tokens   20 a parameter       Hoffmann et al. 2022, table 3
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trasluz.errors import RequestError
from trasluz.models.config import ModelConfig
from trasluz.models.registry import build_config, find_preset
from trasluz.planning.machines import Accelerator
from trasluz.planning.memory import TrainingMemory, training_memory

TOKENS_A_PARAMETER = 20
# What the framework, its buffers and fragments of memory take.
_USABLE = 0.9
_MOST_DEVICES = 1 << 16


@dataclass(frozen=True)
class Layout:
    """How many devices are needed at least, and how they share the model."""

    parallel: str
    devices: int
    recompute: bool
    bytes_a_device: float


@dataclass(frozen=True)
class Plan:
    """What is known of a run before it begins."""

    model: str
    parameters: int
    source: int
    target: int
    tokens: float
    batch_sequences: int
    forward_a_token: float
    """Operations for each target token, its part of the source included."""
    memory: TrainingMemory
    device: Accelerator
    layout: Layout | None
    """None: not even all devices that are thought of suffice."""
    devices: int
    utilisation: float

    @property
    def operations(self) -> float:
        """Of the whole training, without recomputation, which is no progress."""
        return 3 * self.forward_a_token * self.tokens

    @property
    def optimal_tokens(self) -> float:
        """Tokens that bring the lowest loss for the operations they take."""
        return float(TOKENS_A_PARAMETER * self.parameters)

    @property
    def seconds(self) -> float:
        """Time of the training; recomputation counts here."""
        extra = 4 / 3 if self.layout is not None and self.layout.recompute else 1.0
        return extra * self.operations / (self.devices * self.device.operations * self.utilisation)

    def utilisation_within(self, seconds: float) -> float:
        """Return what share of the devices' rate a training of so many seconds makes use of."""
        return self.operations / (seconds * self.devices * self.device.operations)


def make_plan(
    preset: str | Mapping[str, Any],
    device: Accelerator,
    *,
    vocab_size: int | None = None,
    length: int | None = None,
    tokens: float | None = None,
    batch_sequences: int = 1,
    devices: int | None = None,
    utilisation: float = 0.4,
) -> Plan:
    """Return the plan of a preset, or of one with changes; nothing is built.

    `length` counts the tokens of a sequence (of source and target, each); the longest the model reads, or 512, where it
    is not given. `tokens` are those trained on; compute-optimal ones where they are not given. `devices` are the fewest
    that suffice where they are not given. Raises RequestError for sizes that mean nothing.
    """
    for name, value in (("length", length), ("tokens", tokens), ("batch", batch_sequences), ("devices", devices)):
        if value is not None and value < 1:
            raise RequestError(f"{name} is {value}; it must be 1 or more.")
    if not 0 < utilisation <= 1:
        raise RequestError(f"utilisation is {utilisation}; it is a share of the peak, above 0 and at most 1.")
    name = preset if isinstance(preset, str) else str(preset["preset"])
    architecture, found = find_preset(name)
    size = vocab_size or found.paper_vocab_size or 32_000
    config: Any = build_config(preset, **dict.fromkeys(architecture.vocab_fields, size))
    parameters = architecture.count_parameters(config)
    workload = architecture.workload(config)
    target = length or _longest(config)
    source = target if workload.reads_a_source else 0
    memory = training_memory(parameters, workload, source, target, batch_sequences)
    layout = smallest_layout(memory, device)
    return Plan(
        model=name,
        parameters=parameters,
        source=source,
        target=target,
        tokens=tokens or float(TOKENS_A_PARAMETER * parameters),
        batch_sequences=batch_sequences,
        forward_a_token=workload.forward_operations(source, target) / target,
        memory=memory,
        device=device,
        layout=layout,
        devices=devices or (layout.devices if layout else 1),
        utilisation=utilisation,
    )


def smallest_layout(memory: TrainingMemory, device: Accelerator) -> Layout | None:
    """Return the fewest devices that hold a run, recomputing activations only where it saves devices; None: too few.

    Sliced over n devices (FSDP), each has 1/n of weights, gradients and moments, the layer at work and the next one
    whole, and activations of its own sequences.
    """
    usable = _USABLE * device.memory
    devices = 1
    while devices <= _MOST_DEVICES:
        for recompute in (False, True):
            activations = memory.activations_recomputed if recompute else memory.activations
            gathered = 2 * memory.largest_layer if devices > 1 else 0.0
            needed = memory.state / devices + gathered + activations
            if needed <= usable:
                return Layout("none" if devices == 1 else "fsdp", devices, recompute, needed)
        devices *= 2
    return None


def _longest(config: ModelConfig) -> int:
    longest = getattr(config, "longest_text", None) or getattr(config, "max_positions", None)
    return int(longest) if longest else 512
