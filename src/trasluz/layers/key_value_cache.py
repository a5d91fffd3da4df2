"""What decoding remembers of its own past: keys and values written once, and found again by a table of slots.

    slot of position p of the prompt of source s     p * sources + s
    slots of a step                                  one a row, side by side, behind those of the step before
    table[r, p]                                      the slot of position p of the hypothesis that now stands in row r

A prompt, where a model has one, is written once a source, and all hypotheses of the source find it there. A search that
reorders its hypotheses, drops some, or begins others beside them, changes the table alone. Behind the prompts the slots
are a ring: what is older than every row is written over. Where all of it is still looked at, there is more room made,
as much again. Every layer of a model shares one lineage.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.kernels.attention_step import attention_step, can_step
from trasluz.layers.masks import EVERYTHING, Mask

if TYPE_CHECKING:
    from trasluz.layers.compiled_blocks import CompiledBlocks

# Steps there is room for at first: most targets are no longer, however long they may be.
FIRST_STEPS = 64


@dataclass(frozen=True)
class _Growth:
    """How a ring was made longer: all stays where it was, but that slots from `begin` to `end` move to `to`."""

    slots_before: int
    begin: int
    end: int
    to: int


class Lineage:
    """Where each row finds its past and its prompt; the same for every layer.

    `rows` are hypotheses, those of one source side by side; `capacity` is how many steps are expected at most. Without
    a prompt (`prompt_length` 0) it does not matter how many sources there are.
    """

    def __init__(
        self, rows: int, capacity: int, device: torch.device, prompt_length: int = 0, num_sources: int = 1
    ) -> None:
        self.rows = rows
        self.length = 0
        """Steps that the row has made which has made most."""
        self.device = device
        self.prompt_length = prompt_length
        self.num_sources = num_sources
        self.num_slots = prompt_length * num_sources + rows * min(capacity, FIRST_STEPS)
        self.growth: _Growth | None = None
        """What `num_slots` became greater by, the last time it did."""
        self.rows_at_start = rows
        self.compiled: CompiledBlocks | None = None
        """The blocks that remember here, as a kernel has them, once they have been described (`compiled_blocks`)."""
        # None: nobody has moved yet, and what lies where can be told without a table.
        self._table: Int32[Tensor, "rows table_width"] | None = None
        if prompt_length and num_sources < rows:
            self._table = self._places(torch.arange(num_sources, device=device).repeat_interleave(rows // num_sources))
        # None: all rows have made as many steps.
        self._ages: Int[Tensor, " rows"] | None = None
        # The slots of the steps that some row looks at.
        self._firsts: list[int] = []
        self._head = self.prompt_slots
        # Where the slots written last before the ring closed end; None while they lie in the order of their steps.
        self._closed_at: int | None = None
        # What was told of the current rows; every layer asks the same.
        self._spans: dict[int | None, tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]]] = {}
        self._mask: Mask | None = None

    @property
    def prompt_slots(self) -> int:
        """How many slots the prompts of all sources take."""
        return self.prompt_length * self.num_sources

    @property
    def num_positions(self) -> int:
        """How many positions the longest row remembers: its prompt, and its steps so far."""
        return self.prompt_length + self.length

    @property
    def ages(self) -> Int[Tensor, " rows"] | None:
        """How many steps each row has made; None where all have made `length`."""
        return self._ages

    @property
    def written(self) -> int:
        """The slot of the first row at the current step; those of the other rows follow."""
        return self._firsts[-1]

    def advance(self) -> None:
        """Begin the next step; every row writes into a slot of its own."""
        first = self._find_room()
        self._firsts.append(first)
        self._head = first + self.rows
        if self._table is not None:
            if self.num_positions == self._table.shape[1]:
                self._table = torch.nn.functional.pad(self._table, (0, FIRST_STEPS))
            slots = torch.arange(first, self._head, dtype=torch.int32, device=self.device)
            if self._ages is None:
                self._table[:, self.num_positions] = slots
            else:
                self._table.scatter_(1, self._ages[:, None], slots[:, None])
                self._ages = self._ages + 1
        self.length += 1
        self._forget_answers()

    def select_rows(self, rows: Int[Tensor, " selected"]) -> None:
        """Keep these rows, in this order, repeats allowed."""
        if self._table is None:
            own = torch.arange(self.rows, device=self.device)
            if rows.is_cpu and torch.equal(rows, own):
                return
            self._table = self._places(own)
        self._table = self._table.index_select(0, rows)
        self.rows = len(rows)
        if self._ages is not None:
            self._ages = self._ages[rows]
            self._let_go(int(self._ages.max()) if self.rows else 0)
        self._forget_answers()

    def join(self, rows: int) -> None:
        """Take in so many rows that have made no step, behind the others; not where there are prompts."""
        assert not self.prompt_length
        if not self.rows:
            self._let_go(0)
        if self._table is None:
            self._table = self._places(torch.arange(self.rows, device=self.device))
        if self._ages is None:
            self._ages = torch.full((self.rows,), self.length, device=self.device)
        # A slot that has been written, if any: whoever is looked at may be hidden, but must be a number.
        self._table = torch.nn.functional.pad(self._table, (0, 0, 0, rows))
        self._ages = torch.nn.functional.pad(self._ages, (0, rows))
        self.rows += rows
        self._forget_answers()

    def slots(self, band: int | None = None) -> Int32[Tensor, "rows positions"] | None:
        """Return where the positions of each row lie, as far as it has some; None where no row has moved.

        Of the last `band` positions, where a band is given.
        """
        if self._table is None:
            return None
        first = 0 if band is None else max(0, self.num_positions - band)
        return self._table[:, first : self.num_positions]

    def spans(self, band: int | None = None) -> tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]]:
        """Return the first slot of each row, where nobody has moved, and how many positions it looks at.

        Of the last `band` positions, where a band is given; not for rows of different ages.
        """
        if band not in self._spans:
            count = self.num_positions if band is None else min(band, self.num_positions)
            first = (self.num_positions - count) * self.rows_at_start
            own = torch.arange(first, first + self.rows, device=self.device)
            assert self._ages is None or band is None
            self._spans[band] = own, torch.full_like(own, count) if self._ages is None else self._ages
        return self._spans[band]

    def mask(self) -> Mask:
        """Return which of the positions in `slots` each row may see: all of its own."""
        if self._mask is None:
            self._mask = EVERYTHING if self._ages is None else Mask(self._ages)
        return self._mask

    def _forget_answers(self) -> None:
        self._spans.clear()
        self._mask = None

    def _places(self, sources: Int[Tensor, " rows"]) -> Int32[Tensor, "rows table_width"]:
        """Return the table of rows that have not moved, with the prompts of these sources."""
        prompt = torch.arange(self.prompt_length, device=self.device) * self.num_sources + sources[:, None]
        steps = torch.arange(self.length + FIRST_STEPS, device=self.device) * self.rows_at_start + self.prompt_slots
        own = torch.arange(self.rows, device=self.device)[:, None]
        return torch.cat([prompt, own + steps], dim=1).int()

    def _let_go(self, length: int) -> None:
        """Let go of all steps but the last so many."""
        self.length = length
        del self._firsts[: len(self._firsts) - length]
        if not length:
            self._head, self._closed_at = self.prompt_slots, None

    def _find_room(self) -> int:
        """Return the first of as many free slots as there are rows, side by side."""
        tail = self._firsts[0] if self._firsts else None
        if self._closed_at is not None and tail is not None and tail < self._head:
            # All that lay before the end of the ring has been let go of.
            self._closed_at = None
        if self._closed_at is None:
            if self._head + self.rows <= self.num_slots:
                return self._head
            if tail is not None and self.prompt_slots + self.rows < tail:
                self._closed_at = self._head
                return self.prompt_slots
        elif tail is None or self._head + self.rows < tail:
            return self._head
        self._grow()
        return self._head

    def _grow(self) -> None:
        """Make the ring twice as long, or more, and lie in order again."""
        before, begin, end = self.num_slots, self.prompt_slots, self._head
        # Where it does not lie in order, what was written from the begin on goes behind what was written before it.
        to = begin if self._closed_at is None else self._closed_at
        moved = to - begin
        self._head += moved
        self.num_slots = max(2 * before, self._head + self.rows)
        self.growth = _Growth(before, begin, end if moved else begin, to)
        if moved:
            assert self._table is not None
            self._table = torch.where((self._table >= begin) & (self._table < end), self._table + moved, self._table)
            self._firsts = [first + moved if first < end else first for first in self._firsts]
        self._closed_at = None


@dataclass
class KeyValueCache:
    """The keys and values of one layer."""

    key: Float[Tensor, "slots memory_heads head_dim"]
    value: Float[Tensor, "slots memory_heads head_dim"]
    lineage: Lineage

    @property
    def newest(self) -> int:
        """The position that the current step writes, where it is the same for all rows."""
        return self.lineage.num_positions - 1

    def make_room(self) -> None:
        """Take as many slots as the lineage has come to; to be asked for whenever it has come to more."""
        growth, slots = self.lineage.growth, self.lineage.num_slots
        if len(self.key) == slots:
            return
        assert growth is not None and len(self.key) == growth.slots_before
        grown = []
        for old in (self.key, self.value):
            new = old.new_empty(slots, *old.shape[1:])
            new[: len(old)] = old
            new[growth.to : growth.to + growth.end - growth.begin] = old[growth.begin : growth.end]
            grown.append(new)
        self.key, self.value = grown

    def write_prompt(self, prompt: KeyValue) -> None:
        """Write what the prompts are to be remembered by, (sources, memory_heads, prompt length, head_dim) each."""
        slots = self.lineage.prompt_slots
        self.key[:slots] = prompt.key.permute(2, 0, 1, 3).flatten(0, 1)
        self.value[:slots] = prompt.value.permute(2, 0, 1, 3).flatten(0, 1)

    def write(self, new: KeyValue) -> None:
        """Write what the current step is to be remembered by, (rows, memory_heads, head_dim) each."""
        self.make_room()
        lineage = self.lineage
        first = lineage.written
        self.key[first : first + lineage.rows] = new.key
        self.value[first : first + lineage.rows] = new.value

    def read(self) -> KeyValue:
        """Return all that is remembered, (rows, memory_heads, positions, head_dim) each.

        Of rows of different ages, what lies behind the end of one means nothing.
        """
        both = self.key, self.value
        length, rows = self.lineage.num_positions, self.lineage.rows_at_start
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
        step, slots = lineage.rows_at_start, lineage.slots(band)
        return attention_step(query, self.key, self.value, count, first=first, step=step, table=slots)
