"""Where models are found by name: each architecture's file registers itself, and nothing else has to know it.

build_model("transformer-tiny", source_vocab_size=8000, target_vocab_size=8000)
"""

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from torch import nn

import trasluz.models
from trasluz.errors import ModelError, nearest
from trasluz.models.config import ModelConfig, Overrides
from trasluz.models.workload import Workload


@dataclass(frozen=True)
class Preset:
    """A named shape: what it changes of its architecture's config.

    `paper_vocab_size` and `paper_parameters` are what the paper states, for the check of sizes.
    """

    name: str
    summary: str
    overrides: Overrides
    paper_vocab_size: int | None = None
    paper_parameters: int | None = None


@dataclass(frozen=True)
class Architecture:
    """What a model file offers: classes, presets, and the closed formula of its parameter count.

    `workload` says what a model of a config computes. `vocab_fields` are the fields of its config that hold the size of
    a vocabulary.
    """

    model_type: str
    config_class: type[Any]
    model_class: type[Any]
    count_parameters: Callable[[Any], int]
    tasks: tuple[str, ...]
    presets: tuple[Preset, ...]
    workload: Callable[[Any], Workload]
    vocab_fields: tuple[str, ...] = ("source_vocab_size", "target_vocab_size")


_architectures: dict[str, Architecture] = {}


def register(architecture: Architecture) -> None:
    """Make an architecture known; called once at the end of its file."""
    _architectures[architecture.model_type] = architecture


@functools.cache
def _import_all() -> None:
    for module in pkgutil.iter_modules(trasluz.models.__path__):
        importlib.import_module(f"trasluz.models.{module.name}")


def architectures() -> dict[str, Architecture]:
    """Return every architecture by its model type, in alphabetical order, whichever was imported first."""
    _import_all()
    return dict(sorted(_architectures.items()))


def presets() -> dict[str, tuple[Architecture, Preset]]:
    """Return every preset by its name."""
    return {
        preset.name: (architecture, preset)
        for architecture in architectures().values()
        for preset in architecture.presets
    }


def find_preset(name: str) -> tuple[Architecture, Preset]:
    """Return a preset and its architecture; ModelError with the nearest name if there is none."""
    known = presets()
    if name not in known:
        close = nearest(name, known)
        hint = f" Did you mean {close}?" if close else ""
        raise ModelError(f"there is no preset {name!r}.{hint} `trasluz models` lists them all.", "preset")
    return known[name]


def find_architecture(model_type: str) -> Architecture:
    """Return an architecture by its model type; ModelError if there is none."""
    known = architectures()
    if model_type not in known:
        raise ModelError(f"there is no model type {model_type!r}; known are {', '.join(sorted(known))}.")
    return known[model_type]


def build_config(preset: str | Mapping[str, Any], **fields: Any) -> ModelConfig:
    """Return the config of a preset, or of a mapping with the key `preset` and fields to change.

    `fields` are what a recipe does not say: vocabulary sizes, special ids, heads and labels. Raises ModelError with the
    field, its value and what would be right.
    """
    changes = dict(preset) if isinstance(preset, Mapping) else {"preset": preset}
    name = changes.pop("preset", None)
    if not isinstance(name, str):
        raise ModelError("a model given as a mapping needs the key `preset`, the name of the shape it starts from.")
    architecture, found = find_preset(name)
    return make_config(architecture, {**found.overrides, **changes, **fields}, f"preset {name}")


def make_config(architecture: Architecture, fields: Mapping[str, Any], where: str) -> ModelConfig:
    """Return a checked config; ModelError says which field is wrong, or which do not fit, and `where` their origin."""
    try:
        config: ModelConfig = architecture.config_class(**fields)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            close = nearest(field, architecture.config_class.model_fields)
            hint = f" Did you mean {close}?" if close else ""
            sentence = f"{where}: there is no field {field!r} in a {architecture.model_type}.{hint}"
            raise ModelError(sentence, field) from None
        reason = problem["msg"].removeprefix("Value error, ")
        value = f"{field}={problem['input']!r}: " if field else ""
        keys = [field] if field else re.findall(r"`(\w+)`", reason)
        raise ModelError(f"{where}: {value}{reason}.", *keys) from None
    return config


def build_model(preset: str | Mapping[str, Any], **fields: Any) -> nn.Module:
    """Return a freshly initialised model of a preset; see `build_config`."""
    return model_of(build_config(preset, **fields))


def model_of(config: ModelConfig) -> nn.Module:
    """Return a freshly initialised model of a config."""
    model: nn.Module = architecture_of(config).model_class(config)
    return model


def architecture_of(config: ModelConfig) -> Architecture:
    """Return the architecture that a config is of."""
    for architecture in architectures().values():
        if type(config) is architecture.config_class:
            return architecture
    raise ModelError(f"no registered architecture has the config {type(config).__name__}.")
