"""What decoding remembers of its own past: keys and values written once, never moved, found again by lineage.

    slot of position p of the prompt of source s     p * sources + s
    slot of step t, row r                            prompt length * sources + t * rows + r
    origins[r, t]                                    the row in which the hypothesis that now stands in row r was
                                                     written at step t

A prompt, where a model has one, is written once a source, and all hypotheses of the source find it there. A search that
reorders its hypotheses, or drops some, moves only a small table. Every layer of a model shares one.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.kernels.attention_step import attention_step, can_step

if TYPE_CHECKING:
    from trasluz.layers.compiled_block import CompiledBlock


class Lineage:
    """From which rows, and from which prompt, each hypothesis descends; the same for every layer.

    `rows` are hypotheses, those of one source side by side; `capacity` counts the steps there is room for. Without a
    prompt (`prompt_length` 0) it does not matter how many sources there are.
    """

    def __init__(
        self, rows: int, capacity: int, device: torch.device, prompt_length: int = 0, num_sources: int = 1
    ) -> None:
        self.capacity = capacity
        self.rows_written = rows
        self.rows = rows
        self.length = 0
        self.device = device
        self.prompt_length = prompt_length
        self.num_sources = num_sources
        # None: nobody has moved yet.
        self._origins: Int32[Tensor, "rows capacity"] | None = None
        self._sources: Int32[Tensor, " rows"] | None = None
        if prompt_length and num_sources < rows:
            own = torch.arange(num_sources, dtype=torch.int32, device=device)
            self._sources = own.repeat_interleave(rows // num_sources)
        self._slots: Int32[Tensor, "rows length"] | None = None
        self._spans: dict[int | None, tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]]] = {}

    @property
    def prompt_slots(self) -> int:
        """How many slots the prompts of all sources take."""
        return self.prompt_length * self.num_sources

    @property
    def num_slots(self) -> int:
        """How many slots there are, for prompts and all steps."""
        return self.prompt_slots + self.capacity * self.rows_written

    @property
    def num_positions(self) -> int:
        """How many positions each row remembers: its prompt, and the steps so far."""
        return self.prompt_length + self.length

    @property
    def written(self) -> int:
        """The slot of the first row at the current step; those of the other rows follow."""
        return self.prompt_slots + (self.length - 1) * self.rows_written

    def advance(self) -> None:
        """Begin the next step; every row writes into its own place."""
        if self._origins is not None:
            self._origins[:, self.length] = torch.arange(self.rows, dtype=torch.int32, device=self.device)
        self.length += 1
        self._slots = None
        self._spans.clear()

    def select_rows(self, rows: Int[Tensor, " selected"]) -> None:
        """Keep these rows, in this order, repeats allowed; no more than there were at the start."""
        assert len(rows) <= self.rows_written
        if self._origins is None:
            own = torch.arange(self.rows, dtype=torch.int32, device=self.device)
            if rows.is_cpu and torch.equal(rows, own):
                return
            self._origins = own[:, None].expand(-1, self.capacity)
            if self.prompt_length and self._sources is None:
                self._sources = own
        self._origins = self._origins.index_select(0, rows)
        if self._sources is not None:
            self._sources = self._sources.index_select(0, rows)
        self.rows = len(rows)
        self._slots = None

    def slots(self) -> Int32[Tensor, "rows length"] | None:
        """Return where each row's past lies; None where each row, with its own prompt, stands where it always stood."""
        if self._slots is None and (self._origins is not None or self._sources is not None):
            steps = torch.arange(self.length, dtype=torch.int32, device=self.device)
            origins = self._origins
            if origins is None:
                own = torch.arange(self.rows, dtype=torch.int32, device=self.device)
                origins = own[:, None].expand(-1, self.length)
            slots = origins[:, : self.length] + (steps * self.rows_written + self.prompt_slots)
            if self._sources is not None:
                places = torch.arange(self.prompt_length, dtype=torch.int32, device=self.device)
                slots = torch.cat([self._sources[:, None] + places * self.num_sources, slots], dim=1)
            self._slots = slots
        return self._slots

    def spans(self, band: int | None = None) -> tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]]:
        """Return the first slot of each row, where nobody has moved, and how many slots it has.

        Of the last `band` positions, where a band is given.
        """
        if band not in self._spans:
            count = self.num_positions if band is None else min(band, self.num_positions)
            first = (self.num_positions - count) * self.rows_written
            own = torch.arange(first, first + self.rows, device=self.device)
            self._spans[band] = own, torch.full_like(own, count)
        return self._spans[band]


@dataclass
class KeyValueCache:
    """The keys and values of one layer, in tensors allocated once."""

    key: Float[Tensor, "slots memory_heads head_dim"]
    value: Float[Tensor, "slots memory_heads head_dim"]
    lineage: Lineage
    compiled: "CompiledBlock | None" = field(default=None, init=False, repr=False, compare=False)
    """The block that remembers here, as a kernel has it, once it has been described to one (`compiled_block`)."""

    @property
    def newest(self) -> int:
        """The position that the current step writes."""
        return self.lineage.num_positions - 1

    def write_prompt(self, prompt: KeyValue) -> None:
        """Write what the prompts are to be remembered by, (sources, memory_heads, prompt length, head_dim) each."""
        slots = self.lineage.prompt_slots
        self.key[:slots] = prompt.key.permute(2, 0, 1, 3).flatten(0, 1)
        self.value[:slots] = prompt.value.permute(2, 0, 1, 3).flatten(0, 1)

    def write(self, new: KeyValue) -> None:
        """Write what the current step is to be remembered by, (rows, memory_heads, head_dim) each."""
        lineage = self.lineage
        first = lineage.written
        self.key[first : first + lineage.rows] = new.key
        self.value[first : first + lineage.rows] = new.value

    def read(self) -> KeyValue:
        """Return all that is remembered, (rows, memory_heads, positions, head_dim) each."""
        both = self.key, self.value
        length, rows = self.lineage.num_positions, self.lineage.rows_written
        if not length:
            # A graph that is drawn of a beginning cannot cut nothing into rows.
            return KeyValue(*(whole.new_empty(rows, whole.shape[1], 0, whole.shape[2]) for whole in both))
        slots = self.lineage.slots()
        if slots is None:
            parts = (whole[: length * rows].unflatten(0, (length, rows)) for whole in both)
            return KeyValue(*(part.permute(1, 2, 0, 3) for part in parts))
        return KeyValue(*(whole[slots].transpose(1, 2) for whole in both))

    def can_attend(self, x: Tensor) -> bool:
        """Tell whether `attend` can be asked for queries projected from this."""
        return can_step(x, self.key.shape[-1])

    def attend(
        self, query: Float[Tensor, "rows heads head_dim"], band: int | None = None
    ) -> Float[Tensor, "rows heads head_dim"]:
        """Return each row's context over its own past, or the last `band` positions of it.

        By the compiled kernel, which reads them where they lie.
        """
        lineage = self.lineage
        first, count = lineage.spans(band)
        slots = lineage.slots()
        if slots is not None and band is not None:
            slots = slots[:, -band:]
        return attention_step(query, self.key, self.value, count, first=first, step=lineage.rows_written, table=slots)
