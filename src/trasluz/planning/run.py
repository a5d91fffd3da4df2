"""What a plan is of: a model, what it learns from and how, as far as arithmetic needs to know."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from trasluz.errors import RequestError
from trasluz.models.config import ModelConfig
from trasluz.models.registry import architecture_of, build_config, find_preset, model_of, presets
from trasluz.models.workload import Workload
from trasluz.planning.memory import TrainingMemory, teacher_bytes, training_memory
from trasluz.tasks.loading import bundled_models, read_model

# What is learnt from labels alone says no words.
_OF_LABELS = ("classify", "tag", "answer", "embed")
_USUAL_LENGTH = 512


@dataclass(frozen=True)
class Run:
    """A training, before it begins. Raises RequestError for sizes that mean nothing."""

    name: str
    config: ModelConfig
    task: str | None = None
    """Labels, unlike words, are too little to count; None: words, where the model says any."""
    length: int | None = None
    """Tokens of a sequence, of source and target each; None: the longest that the model reads, or 512."""
    tokens: float | None = None
    """Those trained on; None: nobody says."""
    batch_tokens: int | None = None
    """Target tokens of an update, over all devices."""
    micro_batch_tokens: int | None = None
    """At most so many go through a device at once."""
    batch_sequences: int | None = None
    """Sequences that a device works on at once, whatever the tokens of an update; one where neither is said."""
    precision: str = "auto"
    optimizer: str = "adamw"
    recompute: bool = False
    """Whether activations are recomputed, even if that saves no devices."""
    freeze_layers: int = 0
    """Of an encoder: the embeddings and so many of the lowest layers stay as they are."""
    teacher: ModelConfig | None = None
    """The model that is learnt from by distillation."""

    def __post_init__(self) -> None:
        for option in ("length", "tokens", "batch_tokens", "micro_batch_tokens", "batch_sequences"):
            at_least_one(option, getattr(self, option))
        longest = longest_text(self.config)
        if longest is not None and self.target > longest:
            raise RequestError(
                f"length is {self.target:,}, but {self.name} reads at most {longest:,} tokens: it must be that or less."
            )

    @property
    def parameters(self) -> int:
        """Numbers that are learnt."""
        return architecture_of(self.config).count_parameters(self.config)

    @property
    def target(self) -> int:
        """Tokens of a target, or of the only text."""
        usual = getattr(self.config, "max_positions", _USUAL_LENGTH)
        return self.length or longest_text(self.config) or int(usual)

    @property
    def source(self) -> int:
        """Tokens of a source; 0 where there is none."""
        return self.target if self.workload.reads_a_source else 0

    @property
    def workload(self) -> Workload:
        """What the model computes."""
        return self._workload(self.config)

    @property
    def has_separate_layers(self) -> bool:
        """Whether layers can be computed again, and sliced: those of a Transformer can, recurrent ones cannot."""
        return all(stack.num_heads for stack in self.workload.stacks)

    @property
    def forward_a_token(self) -> float:
        """Operations for each target token, its part of the source included."""
        return self.workload.forward_operations(self.source, self.target) / self.target

    @cached_property
    def frozen(self) -> int:
        """Numbers that stay as they are."""
        if not self.freeze_layers:
            return 0
        with torch.device("meta"):
            model: Any = model_of(self.config)
        depths = model.depths()
        return sum(one.numel() for name, one in model.named_parameters() if depths[name] <= self.freeze_layers)

    @property
    def frozen_a_token(self) -> float:
        """Of the forward operations those of layers that nothing goes back through."""
        frozen = [replace(one, num_layers=min(one.num_layers, self.freeze_layers)) for one in self.workload.stacks]
        return Workload(tuple(frozen)).forward_operations(self.source, self.target) / self.target

    @property
    def teacher_a_token(self) -> float:
        """Operations of the teacher, forward, for each token; 0 where there is none."""
        if self.teacher is None:
            return 0.0
        return self._workload(self.teacher).forward_operations(self.source, self.target) / self.target

    def sequences_on(self, devices: int) -> int:
        """Return how many sequences each of so many devices works on at once."""
        if self.batch_sequences is not None:
            return self.batch_sequences
        if self.batch_tokens is None:
            return 1
        of_each = -(-max(1, self.batch_tokens // self.target) // devices)
        return min(of_each, max(1, (self.micro_batch_tokens or self.batch_tokens) // self.target))

    def memory_on(self, devices: int, precision: str) -> TrainingMemory:
        """Return the bytes of one of so many devices, if it has the whole model."""
        number_bytes = 2 if precision == "bf16" else 4
        sizes = self.source, self.target, self.sequences_on(devices)
        memory = training_memory(
            self.parameters,
            self.workload,
            *sizes,
            number_bytes=number_bytes,
            muon=self.optimizer == "muon",
            frozen=self.frozen,
            frozen_layers=self.freeze_layers,
        )
        if self.teacher is None:
            return memory
        parameters = architecture_of(self.teacher).count_parameters(self.teacher)
        return replace(
            memory, teacher=teacher_bytes(parameters, self._workload(self.teacher), *sizes, number_bytes=number_bytes)
        )

    def _workload(self, config: ModelConfig) -> Workload:
        workload = architecture_of(config).workload(config)
        return replace(workload, head_vocab_size=0, judged_share=1.0) if self.task in _OF_LABELS else workload


def preset_run(preset: str | Mapping[str, Any], vocab_size: int | None = None, **known: Any) -> Run:
    """Return the run of a preset, or of one with changes; `known` are fields of `Run`."""
    name = preset if isinstance(preset, str) else str(preset["preset"])
    return Run(name, preset_config(preset, vocab_size), **known)


def named_run(name: str, vocab_size: int | None = None, **known: Any) -> Run:
    """Return the run of what has a name: a preset, or a trained model; an error where nothing has it."""
    # A name without a slash that is nothing else is a preset with a slip in it.
    is_model = name in bundled_models() or "/" in name or Path(name).is_dir()
    if name in presets() or not is_model:
        return preset_run(name, vocab_size, **known)
    loaded = read_model(name)
    refuse_vocabulary(name, vocab_size)
    return Run(name, loaded.config, task=loaded.task, **known)


def preset_config(preset: str | Mapping[str, Any], vocab_size: int | None = None) -> ModelConfig:
    """Return the config of a preset, or of one with changes, with a vocabulary of so many words, else the paper's."""
    at_least_one("vocab_size", vocab_size)
    architecture, found = find_preset(preset if isinstance(preset, str) else str(preset["preset"]))
    size = vocab_size or found.paper_vocab_size or 32_000
    return build_config(preset, **dict.fromkeys(architecture.vocab_fields, size))


def refuse_vocabulary(name: str, vocab_size: int | None) -> None:
    """Raise RequestError where a vocabulary is asked for of a trained model."""
    if vocab_size is not None:
        raise RequestError(f"{name} has a vocabulary already; `vocab_size` is for a preset.")


def longest_text(config: ModelConfig) -> int | None:
    """Return how many tokens a model reads; None: any number."""
    if getattr(config, "positions", None) == "sinusoidal":
        return None
    longest = getattr(config, "longest_text", None) or getattr(config, "max_positions", None)
    return int(longest) if longest else None


def at_least_one(option: str, value: float | int | None) -> None:
    """Raise RequestError for an amount that is no number of at least 1."""
    if value is not None and not 1 <= value < math.inf:
        raise RequestError(f"`{option}` must be at least 1, but is {value}.")
