"""trasluz: attention models you can see through. Names are imported when first used: `import trasluz` costs nothing."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trasluz.errors import TrasluzError as TrasluzError
    from trasluz.inspection.attention_map import AttentionMap as AttentionMap
    from trasluz.inspection.recorder import record_attention as record_attention
    from trasluz.tasks.loading import load as load
    from trasluz.tasks.translation import Translation as Translation
    from trasluz.tasks.translator import Translator as Translator

__version__ = "0.1.0"

_HOMES = {
    "AttentionMap": "trasluz.inspection.attention_map",
    "Translation": "trasluz.tasks.translation",
    "Translator": "trasluz.tasks.translator",
    "TrasluzError": "trasluz.errors",
    "load": "trasluz.tasks.loading",
    "record_attention": "trasluz.inspection.recorder",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trasluz' has no name {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
