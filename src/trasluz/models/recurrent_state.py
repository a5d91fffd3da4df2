"""What decoding remembers of a recurrent model: the source once, the recurrent states of every row."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.masks import Mask
from trasluz.layers.recurrent import RecurrentState


def expand_to_rows(parts: RecurrentState, num_beams: int) -> RecurrentState:
    """Return the states of each source once for every one of its beams."""
    return tuple(part.repeat_interleave(num_beams, dim=0) for part in parts)


def rows_of(parts: RecurrentState, rows: Int[Tensor, " rows"]) -> RecurrentState:
    """Return the states of these rows."""
    return tuple(part[rows] for part in parts)


def joined(parts: RecurrentState, others: RecurrentState) -> RecurrentState:
    """Return the states of both, one behind the other."""
    return tuple(torch.cat(both) for both in zip(parts, others, strict=True))


@dataclass
class AttentiveState:
    """The state of a decoder that looks over its source; `recurrent` holds all that goes from step to step."""

    memory: KeyValue
    memory_mask: Mask
    recurrent: RecurrentState

    def select_rows(self, rows: Int[Tensor, " rows"], sources: Int[Tensor, " sources"] | None = None) -> None:
        """Keep these rows and these sources."""
        self.recurrent = rows_of(self.recurrent, rows)
        if sources is not None:
            self.memory = self.memory.select(sources)
            assert self.memory_mask.key_lengths is not None
            self.memory_mask = Mask(self.memory_mask.key_lengths[sources])

    def join(self, other: "AttentiveState") -> None:
        """Take in the sources of a state that has made no step, behind these."""
        self.memory = self.memory.join(other.memory)
        self.memory_mask = self.memory_mask.join(other.memory_mask)
        self.recurrent = joined(self.recurrent, other.recurrent)
