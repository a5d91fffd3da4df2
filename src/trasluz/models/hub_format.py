"""Formats of Hugging Face checkpoints: each says how its config and its keys read as one of our architectures.

A format's file registers it, as an architecture's does; nothing else has to know it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from trasluz.errors import ModelError
from trasluz.models import registry
from trasluz.models.key_map import KeyMap


@dataclass(frozen=True)
class HubFormat:
    """One `model_type` of the Hugging Face library.

    `read_config` takes config.json and the checkpoint's keys; `write_config` gives None where the format has no place
    for something the config says. Both raise ModelError with a sentence. `class_name` is that of the library's class
    for a model of a config.
    """

    model_type: str
    summary: str
    class_name: Callable[[Any], str]
    config_class: type[Any]
    read_config: Callable[[Mapping[str, Any], Collection[str]], Any]
    write_config: Callable[[Any], dict[str, Any] | None]
    key_map: Callable[[Any], KeyMap]


# Theirs, ours. Where two of theirs are one of ours, the first is written.
_ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "swish": "swish",
    "silu": "swish",
}

_formats: dict[str, HubFormat] = {}


def register_format(hub_format: HubFormat) -> None:
    """Make a format known; called once at the end of its file."""
    _formats[hub_format.model_type] = hub_format


def hub_formats() -> dict[str, HubFormat]:
    """Return every format by its `model_type`, in alphabetical order."""
    registry.architectures()
    return dict(sorted(_formats.items()))


def format_for(config: Any) -> tuple[HubFormat, dict[str, Any]] | None:
    """Return the format that can hold a model of this config, and the config in its words; None if there is none."""
    for hub_format in hub_formats().values():
        if type(config) is hub_format.config_class:
            written = hub_format.write_config(config)
            if written is not None:
                return hub_format, written
    return None


def read_activation(key: str, name: str) -> str:
    """Return our name of an activation; ModelError naming the key of config.json where there is none."""
    if name not in _ACTIVATIONS:
        raise ModelError(f"config.json: {key} is {name!r}; known are {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]


def hub_activation(name: str) -> str:
    """Return Hugging Face's name of one of our activations."""
    return next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == name)
