"""What may be seen: one small object, one meaning (True = may attend), and the cheapest form for each kernel."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

T = TypeVar("T")

Stretches = tuple[Int[Tensor, " texts"], Int[Tensor, " texts"]]
"""Where each text begins among the positions of all rows, and how many it has."""


@dataclass(frozen=True, eq=False)
class Mask:
    """Which keys a query may see.

    `key_lengths` hides the padding behind each sentence; `causal` hides the keys after the query. Queries are aligned
    with the *end* of the keys, so one new query over ten remembered keys sees all ten. `texts` is for self-attention
    over rows in which several texts lie one behind the other: the number of the text at each position, and a position
    sees those of its own text. `band` hides the keys that lie so many positions or more before the query. `places` is
    for a memory in which others lie, too: at which place of axis 0 the keys of each sentence do (None: at its own).

        causal, 3 queries over 5 keys      key_lengths = 2, 3 queries over 5 keys      texts = 1 1 2 2 2
            x x x . .                          x x . . .                                   x x . . .
            x x x x .                          x x . . .                                   x x . . .
            x x x x x                          x x . . .                                   . . x x x
                                                                                           . . x x x
        causal, band = 2, as above                                                         . . x x x
            . x x . .
            . . x x .
            . . . x x
    """

    key_lengths: Int[Tensor, " batch"] | None = None
    causal: bool = False
    texts: Int[Tensor, "batch positions"] | None = None
    band: int | None = None
    places: Int[Tensor, " batch"] | None = None
    _answers: dict[tuple[Any, ...], Any] = field(default_factory=dict, init=False, repr=False)

    def sees_everything(self, num_queries: int, num_keys: int) -> bool:
        """Tell whether no key is hidden from any of the queries."""
        if (self.causal and num_queries > 1) or self.texts is not None:
            return False
        if self.band_hides(num_keys):
            return False
        if self.key_lengths is None:
            return True
        # On a GPU the answer would have to be waited for, and a graph that is being drawn is for any lengths.
        if not self.key_lengths.is_cpu or torch.compiler.is_exporting():
            return False
        lengths = self.key_lengths
        return self._remembered(("full", num_keys), lambda: bool((lengths >= num_keys).all()))

    def band_hides(self, num_keys: int) -> bool:
        """Tell whether some key may lie beyond the band; in a graph that is being drawn, for any length, one may."""
        return self.band is not None and (torch.compiler.is_exporting() or num_keys > self.band)

    def hides_only_padding(self) -> bool:
        """Tell whether what a single query sees are all keys of its sentence."""
        return self.texts is None and self.band is None

    def hides_everything_somewhere(self) -> bool:
        """Tell whether some sentence has no key at all; a graph that is being drawn must stand it."""
        if self.key_lengths is None:
            return False
        lengths = self.key_lengths
        return torch.compiler.is_exporting() or self._remembered(("empty",), lambda: bool((lengths == 0).any()))

    def dense(
        self, num_queries: int, num_keys: int, device: torch.device | None = None
    ) -> Bool[Tensor, "#batch query key"]:
        """Return the mask written out."""
        lengths, texts = self.key_lengths, self.texts
        if lengths is None and texts is None:
            return self._by_place(num_queries, num_keys, device)

        def answer() -> Tensor:
            seen = self._by_place(num_queries, num_keys, device)
            if lengths is not None:
                seen = seen & (torch.arange(num_keys, device=device) < lengths[:, None, None])
            if texts is not None:
                seen = seen & (texts[:, num_keys - num_queries :, None] == texts[:, None, :])
            return seen

        return self._remembered(("dense", num_queries, num_keys, device), answer)

    def narrowed(self, band: int) -> "Mask":
        """Return this mask with a band as well."""
        return self._remembered(("narrowed", band), lambda: replace(self, band=band))

    def join(self, other: "Mask") -> "Mask":
        """Return the mask of these sentences and of others behind them, where both hide padding alone."""
        assert self.key_lengths is not None and other.key_lengths is not None and self.hides_only_padding()
        assert self.places is None and other.places is None
        return Mask(torch.cat([self.key_lengths, other.key_lengths]))

    def of_keys(self, begin: int, end: int) -> "Mask":
        """Return the mask of these keys alone, for queries that stand at their end; not for one with key lengths."""
        assert self.key_lengths is None
        texts = self.texts
        if texts is None:
            return self
        return self._remembered(("keys", begin, end), lambda: replace(self, texts=texts[:, begin:end]))

    def stretches(self, batch: int, num_queries: int, num_keys: int) -> tuple[Stretches, Stretches]:
        """Return where each text's queries begin among those of all rows, and how many they are; the same of its keys.

        Not for a mask with a band; what a causal one hides is still to be hidden.
        """

        def answer() -> tuple[Stretches, Stretches]:
            if self.texts is not None:
                changes = self.texts.diff(dim=1, prepend=self.texts[:, :1] - 1).flatten()
                begins = changes.nonzero().squeeze(1)
                ends = torch.cat([begins[1:], begins.new_tensor([changes.numel()])])
                return (begins, ends - begins), (begins, ends - begins)
            rows = torch.arange(batch)
            queries = torch.full((batch,), num_queries)
            return (rows * num_queries, queries), (rows * num_keys, counts(self.key_lengths, batch, num_keys))

        if self.key_lengths is None and self.texts is None:
            # Quickly made; CAUSAL, which all models share, would keep them for every shape there ever was.
            return answer()
        return self._remembered(("stretches", batch, num_queries, num_keys), answer)

    def spans(self, num_keys: int, rows: int) -> tuple[Int[Tensor, " rows"], Int[Tensor, " rows"]]:
        """Return where each sentence's keys begin among those of all, end to end, and how many of them may be seen.

        There are as many `rows` for each sentence.
        """

        lengths = self.key_lengths
        assert lengths is not None
        repeats = rows // len(lengths)

        def answer() -> tuple[Tensor, Tensor]:
            places = torch.arange(len(lengths), device=lengths.device) if self.places is None else self.places
            first = places * num_keys
            return first.repeat_interleave(repeats), counts(lengths, len(lengths), num_keys).repeat_interleave(repeats)

        return self._remembered(("spans", num_keys, repeats), answer)

    def _by_place(self, num_queries: int, num_keys: int, device: torch.device | None) -> Bool[Tensor, "1 query key"]:
        """Return what may be seen by where queries and keys stand, whatever the texts."""
        if not self.causal and self.band is None:
            return torch.ones(1, num_queries, num_keys, dtype=torch.bool, device=device)
        queries = torch.arange(num_keys - num_queries, num_keys, device=device)[:, None]
        keys = torch.arange(num_keys, device=device)
        if self.band is None:
            return (keys <= queries)[None]
        near = keys > queries - self.band
        return (near & (keys <= queries) if self.causal else near)[None]

    def _remembered(self, question: tuple[Any, ...], answer: Callable[[], T]) -> T:
        """Return what was found out before about these sentences: every layer of a model asks the same."""
        if torch.compiler.is_exporting():
            # Sizes are symbols there, by which nothing can be found again.
            return answer()
        if question not in self._answers:
            self._answers[question] = answer()
        found: T = self._answers[question]
        return found


def counts(lengths: Int[Tensor, "#batch"] | None, rows: int, most: int) -> Int[Tensor, " batch"]:
    """Return lengths as kernels read them: one a row, 64 bits each, and none beyond the positions that there are."""
    if lengths is None:
        return torch.full((rows,), most)
    return lengths.long().clamp(max=most).expand(rows).contiguous()


EVERYTHING = Mask()
CAUSAL = Mask(causal=True)
