"""A run of any size, planned: parameters, operations, memory, devices and time.

operations of training   3 * forward          backward is twice forward (Kaplan et al. 2020, section 2.1)
                         4 * forward          with recomputed activations
time                     operations / (devices * peak * utilisation)
compute-optimal tokens   20 a parameter       Hoffmann et al. 2022, table 3
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from trasluz.errors import RequestError
from trasluz.models.config import ModelConfig
from trasluz.models.registry import architecture_of, build_config, find_preset
from trasluz.planning.machines import Accelerator
from trasluz.planning.memory import TrainingMemory, training_memory

TOKENS_A_PARAMETER = 20
# What the framework, its buffers and fragments of memory take.
_USABLE = 0.9
_MOST_DEVICES = 1 << 16
# What is tried, in turns, by whether it is asked for.
_RECOMPUTING = {False: (False, True), True: (True,)}


@dataclass(frozen=True)
class Layout:
    """How many devices share the model, and how."""

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
    tokens_assumed: bool
    """Whether nobody said how many, and they are the compute-optimal ones."""
    batch_sequences: int
    forward_a_token: float
    """Operations for each target token, its part of the source included."""
    memory: TrainingMemory
    device: Accelerator
    layout: Layout | None
    """The smallest; None: not even all devices that are thought of suffice."""
    layout_here: Layout | None
    """On the devices that there are; None: they are too few."""
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
        extra = 4 / 3 if self.recomputes else 1.0
        return extra * self.operations / (self.devices * self.device.operations * self.utilisation)

    @property
    def recomputes(self) -> bool:
        """Whether the devices that there are must recompute activations, or enough of them would have to."""
        layout = self.layout_here or self.layout
        return layout is not None and layout.recompute

    def utilisation_within(self, seconds: float) -> float:
        """Return what share of the devices' rate a training of so many seconds makes use of."""
        return self.operations / (seconds * self.devices * self.device.operations)


def make_plan(
    model: str | Mapping[str, Any] | ModelConfig,
    device: Accelerator,
    *,
    name: str | None = None,
    vocab_size: int | None = None,
    only_labels: bool = False,
    length: int | None = None,
    cut: bool = False,
    tokens: float | None = None,
    batch_sequences: int | None = None,
    batch_tokens: int | None = None,
    devices: int | None = None,
    recompute: bool = False,
    utilisation: float = 0.4,
) -> Plan:
    """Return the plan of a preset, of one with changes, or of a config, which has a `name`; nothing is built.

    A preset gets a vocabulary of `vocab_size`, else the paper's; a config has its own. With `only_labels` the model
    says no words, and what says labels is too little to count. `length` counts the tokens of a sequence (of source and
    target, each); the longest the model reads, or 512, where it is not given. What is longer than the model reads is
    refused, or with `cut`, cut. `tokens` are those trained on; compute-optimal ones where they are not given. A device
    works on `batch_sequences` at once, or on as many as `batch_tokens` hold; on one where neither is given. `devices`
    are those of the smallest layout where they are not given. Activations are recomputed where that saves devices, or
    with `recompute` anyway. Raises RequestError for sizes that mean nothing.
    """
    for option, value in (
        ("vocab_size", vocab_size),
        ("length", length),
        ("tokens", tokens),
        ("batch_sequences", batch_sequences),
        ("batch_tokens", batch_tokens),
        ("devices", devices),
    ):
        if value is not None and not 1 <= value < math.inf:
            raise RequestError(f"`{option}` must be at least 1, but is {value}.")
    if not 0 < utilisation <= 1:
        raise RequestError(f"`utilisation` is {utilisation}; it is a share of the peak, above 0 and at most 1.")
    config = model if isinstance(model, ModelConfig) else _config(model, vocab_size)
    if config is model and vocab_size is not None:
        raise RequestError(f"{name or 'the model'} has a vocabulary already; `vocab_size` is for a preset.")
    if name is None:
        name = model if isinstance(model, str) else str(model["preset"]) if isinstance(model, Mapping) else "a model"
    architecture = architecture_of(config)
    parameters = architecture.count_parameters(config)
    workload = architecture.workload(config)
    if only_labels:
        workload = replace(workload, head_vocab_size=0)
    most = _most(config)
    target = length or most or int(getattr(config, "max_positions", 512))
    if most is not None and target > most:
        if not cut:
            raise RequestError(
                f"length is {target:,}, but {name} reads at most {most:,} tokens: it must be that or less."
            )
        target = most
    source = target if workload.reads_a_source else 0
    sequences = batch_sequences or max(1, (batch_tokens or 1) // target)
    memory = training_memory(parameters, workload, source, target, sequences)
    layout = smallest_layout(memory, device, recompute=recompute)
    return Plan(
        model=name,
        parameters=parameters,
        source=source,
        target=target,
        tokens=tokens or float(TOKENS_A_PARAMETER * parameters),
        tokens_assumed=tokens is None,
        batch_sequences=sequences,
        forward_a_token=workload.forward_operations(source, target) / target,
        memory=memory,
        device=device,
        layout=layout,
        layout_here=layout if devices is None else layout_on(memory, device, devices, recompute=recompute),
        devices=devices or (layout.devices if layout else 1),
        utilisation=utilisation,
    )


def _config(preset: str | Mapping[str, Any], vocab_size: int | None) -> ModelConfig:
    architecture, found = find_preset(preset if isinstance(preset, str) else str(preset["preset"]))
    size = vocab_size or found.paper_vocab_size or 32_000
    return build_config(preset, **dict.fromkeys(architecture.vocab_fields, size))


def smallest_layout(memory: TrainingMemory, device: Accelerator, *, recompute: bool = False) -> Layout | None:
    """Return the fewest of 1, 2, 4, 8 ... devices that hold a run; None: there are not enough.

    Activations are recomputed only where that saves devices, unless they are to be anyway.
    """
    devices = 1
    while devices <= _MOST_DEVICES:
        for again in _RECOMPUTING[recompute]:
            if layout := _layout(memory, device, devices, again):
                return layout
        devices *= 2
    return None


def layout_on(memory: TrainingMemory, device: Accelerator, devices: int, *, recompute: bool = False) -> Layout | None:
    """Return how a run fits on so many devices: whole on each, or sliced over all; None: it does not.

    Activations are recomputed only where they must be, unless they are to be anyway.
    """
    for again in _RECOMPUTING[recompute]:
        for sharing in (1, devices):
            if layout := _layout(memory, device, sharing, again):
                return layout
    return None


def _layout(memory: TrainingMemory, device: Accelerator, devices: int, recompute: bool) -> Layout | None:
    """Return the layout of a run over so many devices; None where they do not hold it.

    Sliced over n devices (FSDP), each has 1/n of weights, gradients and moments, the layer at work and the next one
    whole, and activations of its own sequences.
    """
    activations = memory.activations_recomputed if recompute else memory.activations
    gathered = 2 * memory.largest_layer if devices > 1 else 0.0
    needed = memory.state / devices + gathered + activations
    if needed > _USABLE * device.memory:
        return None
    return Layout("none" if devices == 1 else "fsdp", devices, recompute, needed)


def _most(config: ModelConfig) -> int | None:
    """Return how many tokens a model reads; None: any number."""
    if getattr(config, "positions", None) == "sinusoidal":
        return None
    longest = getattr(config, "longest_text", None) or getattr(config, "max_positions", None)
    return int(longest) if longest else None
