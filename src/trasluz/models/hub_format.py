"""Formats of Hugging Face checkpoints: each says how its config and its keys read as one of our architectures.

A format's file registers it, as an architecture's does; nothing else has to know it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from trasluz.models import registry
from trasluz.models.key_map import KeyMap


@dataclass(frozen=True)
class HubFormat:
    """One `model_type` of the Hugging Face library.

    `read_config` takes config.json and the checkpoint's keys; `write_config` gives None where the format has no place
    for something the config says. Both raise ModelError with a sentence.
    """

    model_type: str
    summary: str
    class_name: str
    config_class: type[Any]
    read_config: Callable[[Mapping[str, Any], Collection[str]], Any]
    write_config: Callable[[Any], dict[str, Any] | None]
    key_map: Callable[[Any], KeyMap]


_formats: dict[str, HubFormat] = {}


def register_format(hub_format: HubFormat) -> None:
    """Make a format known; called once at the end of its file."""
    _formats[hub_format.model_type] = hub_format


def hub_formats() -> dict[str, HubFormat]:
    """Return every format by its `model_type`."""
    registry.architectures()
    return dict(_formats)


def format_for(config: Any) -> tuple[HubFormat, dict[str, Any]] | None:
    """Return the format that can hold a model of this config, and the config in its words; None if there is none."""
    for hub_format in hub_formats().values():
        if type(config) is hub_format.config_class:
            written = hub_format.write_config(config)
            if written is not None:
                return hub_format, written
    return None
