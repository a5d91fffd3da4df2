"""A decoding state as a row of named tensors, and back: for engines that know nothing of our classes.

    {"memories.0.key": ..., "memory_mask.key_lengths": ..., "caches.0.key": ...}

A name is the way to the tensor: fields of dataclasses and named tuples, places in lists. A state put together again
has caches that grow by joining, since no engine writes into a tensor it was given.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.key_value_cache import KeyValueCache, Lineage


class _JoinedLineage(Lineage):
    """The lineage of rows that stand side by side in one tensor: whoever holds the tensor reorders it."""

    def advance(self) -> None:
        """Nothing to do: what is written makes the tensor longer."""


@dataclass
class JoiningCache(KeyValueCache):
    """A cache that is full at every moment: one more position makes it longer."""

    key: Float[Tensor, "rows memory_heads length head_dim"]
    value: Float[Tensor, "rows memory_heads length head_dim"]

    @property
    def newest(self) -> int:
        """The position that the current step writes: the one behind all that are there."""
        return self.key.shape[2]

    def write(self, new: KeyValue) -> None:
        """Put the new position behind the others."""
        self.key = torch.cat([self.key, new.key[:, :, None]], dim=2)
        self.value = torch.cat([self.value, new.value[:, :, None]], dim=2)

    def read(self) -> KeyValue:
        """Return all that is remembered."""
        return KeyValue(self.key, self.value)

    def can_attend(self, x: Tensor) -> bool:
        """No kernel knows this layout."""
        return False


def parts_of(state: Any) -> dict[str, Tensor]:
    """Return every tensor of a state by its name, always in the same order."""
    return dict(_walk(state, ""))


def with_parts(state: Any, parts: Iterable[Tensor]) -> Any:
    """Return a state like this one that holds other tensors, given in the order of `parts_of`."""
    return _rebuild(state, iter(parts))


def _walk(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    else:
        for place, part in _children(value):
            yield from _walk(part, f"{name}.{place}" if name else place)


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, KeyValueCache):
        return list(value.read()._asdict().items())
    if is_dataclass(value):
        return [(field.name, getattr(value, field.name)) for field in fields(value) if field.init]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, list | tuple):
        return [(str(place), part) for place, part in enumerate(value)]
    return []


def _rebuild(value: Any, parts: Iterator[Tensor]) -> Any:
    if isinstance(value, Tensor):
        return next(parts)
    if isinstance(value, KeyValueCache):
        key, values = next(parts), next(parts)
        lineage = _JoinedLineage(key.shape[0], 0, key.device)
        lineage.length = key.shape[2]
        return JoiningCache(key, values, lineage)
    kind: Any = type(value)
    if is_dataclass(value):
        return kind(**{name: _rebuild(part, parts) for name, part in _children(value)})
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind(*(_rebuild(part, parts) for part in value))
    if isinstance(value, list | tuple):
        return kind(_rebuild(part, parts) for part in value)
    return value
