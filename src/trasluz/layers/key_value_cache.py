"""What decoding remembers of its own past: keys and values written once, never moved, found again by lineage.

    slot of step t, row r        t * rows + r
    origins[r, t]                the row in which the hypothesis that now stands in row r was written at step t

A search that reorders its hypotheses, or drops some, moves only that small table. Every layer of a model shares one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.kernels.attention_step import attention_step, can_step


class Lineage:
    """From which rows each hypothesis descends, step by step; the same for every layer."""

    def __init__(self, rows: int, capacity: int, device: torch.device) -> None:
        self.capacity = capacity
        self.rows_written = rows
        self.rows = rows
        self.length = 0
        self.device = device
        # None: nobody has moved yet.
        self._origins: Int32[Tensor, "rows capacity"] | None = None
        self._slots: Int32[Tensor, "rows length"] | None = None
        self._spans: tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]] | None = None

    def advance(self) -> None:
        """Begin the next step; every row writes into its own place."""
        if self._origins is not None:
            self._origins[:, self.length] = torch.arange(self.rows, dtype=torch.int32, device=self.device)
        self.length += 1
        self._slots = self._spans = None

    def select_rows(self, rows: Int[Tensor, " selected"]) -> None:
        """Keep these rows, in this order, repeats allowed; no more than there were at the start."""
        assert len(rows) <= self.rows_written
        if self._origins is None:
            own = torch.arange(self.rows, dtype=torch.int32, device=self.device)
            if rows.is_cpu and torch.equal(rows, own):
                return
            self._origins = own[:, None].expand(-1, self.capacity)
        self._origins = self._origins.index_select(0, rows)
        self.rows = len(rows)
        self._slots = None

    def slots(self) -> Int32[Tensor, "rows length"] | None:
        """Return where each row's past lies; None where each row has always stood where it stands."""
        if self._slots is None and self._origins is not None:
            steps = torch.arange(self.length, dtype=torch.int32, device=self.device)
            self._slots = self._origins[:, : self.length] + steps * self.rows_written
        return self._slots

    def spans(self) -> tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]]:
        """Return the first slot of each row, where nobody has moved, and how many slots it has."""
        if self._spans is None:
            own = torch.arange(self.rows, device=self.device)
            self._spans = own, torch.full_like(own, self.length)
        return self._spans


@dataclass
class KeyValueCache:
    """The keys and values of one layer, in tensors allocated once."""

    key: Float[Tensor, "capacity rows heads head_dim"]
    value: Float[Tensor, "capacity rows heads head_dim"]
    lineage: Lineage

    def write(self, new: KeyValue) -> None:
        """Write what the current step is to be remembered by, (rows, heads, head_dim) each."""
        step, rows = self.lineage.length - 1, self.lineage.rows
        self.key[step, :rows] = new.key
        self.value[step, :rows] = new.value

    def read(self) -> KeyValue:
        """Return all that is remembered, (rows, heads, length, head_dim) each."""
        slots = self.lineage.slots()
        if slots is None:
            return KeyValue(*(whole[: self.lineage.length].permute(1, 2, 0, 3) for whole in (self.key, self.value)))
        return KeyValue(*(whole.flatten(0, 1)[slots].transpose(1, 2) for whole in (self.key, self.value)))

    def can_attend(self, x: Tensor) -> bool:
        """Tell whether `attend` can be asked for queries projected from this."""
        return can_step(x, self.key.shape[-1])

    def attend(self, query: Float[Tensor, "rows heads head_dim"]) -> Float[Tensor, "rows heads head_dim"]:
        """Return each row's context over its own past, by the compiled kernel, which reads it where it lies."""
        lineage = self.lineage
        first, count = lineage.spans()
        slots = lineage.slots()
        return attention_step(query, self.key, self.value, count, first=first, step=lineage.rows_written, table=slots)
