"""What a search is told: how wide to look, how to rank what it found, and what a text may look like."""

import math
from dataclasses import dataclass, fields
from typing import Literal

from trasluz.errors import RequestError


@dataclass(frozen=True)
class SearchSettings:
    """Options of `search`.

    A finished hypothesis Y of a source X is ranked by (Wu et al. 2016, equation 14; |Y| counts the end token)

        score = log P(Y | X) / lp(Y) + coverage_penalty * sum_i log(min(sum_t weights(t, i), 1))
        lp(Y) = ((5 + |Y|) / 6)^length_penalty      normalization "gnmt"
        lp(Y) = |Y|^length_penalty                  normalization "power", as Marian and transformers do

    `renormalize` makes the tokens that constraints leave possible sum to 1 again. `at_limit` says what stands at the
    maximum length: "end", the end token at its own price; "free-end", the same at log-probability 0; "open", whatever
    is likeliest, so that a text may stop without an end. `renormalize` and "free-end" are conventions of transformers,
    needed to equal it.
    """

    beam: int = 4
    length_penalty: float = 0.6
    coverage_penalty: float = 0.0
    normalization: Literal["gnmt", "power"] = "gnmt"
    nbest: int = 1
    min_length_ratio: float = 0.0
    max_length_ratio: float = 3.0
    max_length: int = 512
    no_repeat_ngram: int = 0
    renormalize: bool = False
    at_limit: Literal["end", "free-end", "open"] = "end"

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        least = {"beam": 1, "nbest": 1, "max_length": 1}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str):
                continue
            lowest = least.get(field.name, 0)
            if not math.isfinite(value) or (value < lowest and field.name != "length_penalty"):
                raise RequestError(f"`{field.name}` must be a number from {lowest} up, but is {value}.")
        if self.nbest > self.beam:
            raise RequestError(f"`nbest` must not exceed `beam` ({self.beam}), but is {self.nbest}.")
        if self.max_length_ratio < self.min_length_ratio:
            raise RequestError(
                f"`max_length_ratio` ({self.max_length_ratio}) must not be below `min_length_ratio` "
                f"({self.min_length_ratio})."
            )

    def length_limits(self, source_length: int) -> tuple[int, int]:
        """Return the fewest and the most tokens, end token included, that a target of this source may have.

        Fewest: ceil(min_length_ratio * source tokens). Most: ceil(max_length_ratio * source tokens) + 10, so that a
        source of one word may have a longer target, but no more than max_length.
        """
        most = min(math.ceil(self.max_length_ratio * source_length) + 10, self.max_length)
        return min(math.ceil(self.min_length_ratio * source_length), most), most

    def normalized(self, log_probability: float, length: int) -> float:
        """Return log P / lp for a target of `length` tokens."""
        base = (5 + length) / 6 if self.normalization == "gnmt" else length
        return float(log_probability / base**self.length_penalty)


NO_END = -1
"""In place of an end token, where a model has none: no token is it."""


@dataclass(frozen=True)
class DecodingTokens:
    """The ids a search must know: what a target begins and ends with, and what may never stand in it."""

    start_id: int
    eos_id: int
    forbidden_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Hypothesis:
    """One target found: its ids without the start token and with the end token, if it ended, and how it was ranked."""

    ids: tuple[int, ...]
    log_probability: float
    score: float
