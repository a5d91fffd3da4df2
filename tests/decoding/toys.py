"""Decoders small enough to be searched exhaustively."""

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.decoding.settings import DecodingTokens, Hypothesis, SearchSettings

TOKENS = DecodingTokens(start_id=1, eos_id=2, forbidden_ids=(0, 1))


class ToyState:
    """The rows' pasts, and which source each came from."""

    def __init__(self, sources: Tensor, num_beams: int) -> None:
        self.sources = sources.repeat_interleave(num_beams)
        self.past = torch.zeros(len(self.sources), 0, dtype=torch.int64)

    def select_rows(self, rows: Int[Tensor, " rows"], sources: Int[Tensor, " sources"] | None = None) -> None:
        self.sources, self.past = self.sources[rows], self.past[rows]


class ToyDecoder:
    """Random logits for every source and past: a full table of what could be said."""

    def __init__(self, num_sources: int, vocab_size: int, longest: int, seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.vocab_size = vocab_size
        self.tables = [
            torch.randn(num_sources, vocab_size**length, vocab_size, generator=draw) * 2 for length in range(longest)
        ]

    def start(
        self,
        source: Int[Tensor, "sources source"],
        source_lengths: Int[Tensor, " sources"],
        num_beams: int,
        capacity: int,
    ) -> ToyState:
        return ToyState(source[:, 0], num_beams)

    def step(self, ids: Int[Tensor, " rows"], state: ToyState) -> tuple[Float[Tensor, "rows vocab"], ToyState]:
        length = state.past.shape[1]
        state.past = torch.cat([state.past, ids[:, None]], dim=1)
        code = torch.zeros(len(ids), dtype=torch.int64)
        for column in state.past[:, 1:].unbind(1):
            code = code * self.vocab_size + column
        return self.tables[length][state.sources, code], state


def all_targets(decoder: ToyDecoder, source: int, settings: SearchSettings, source_length: int) -> list[Hypothesis]:
    """Return every target the settings allow, best first."""
    shortest, longest = settings.length_limits(source_length)
    ordinary = [token for token in range(decoder.vocab_size) if token not in (0, 1, 2)]
    found = []
    for length in range(max(shortest, 1), longest + 1):
        for middle in itertools.product(ordinary, repeat=length - 1):
            ids = (*middle, 2)
            if (
                any(
                    middle[i : i + settings.no_repeat_ngram] == middle[j : j + settings.no_repeat_ngram]
                    for j in range(len(middle) - settings.no_repeat_ngram + 1)
                    for i in range(j)
                )
                and settings.no_repeat_ngram
            ):
                continue
            total, code = 0.0, 0
            for position, token in enumerate(ids):
                total += float(decoder.tables[position][source, code].log_softmax(-1)[token])
                code = code * decoder.vocab_size + token
            found.append(Hypothesis(ids, total, settings.normalized(total, length)))
    return sorted(found, key=lambda hypothesis: -hypothesis.score)
