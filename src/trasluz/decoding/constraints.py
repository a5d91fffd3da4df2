"""What a target may look like: lengths, forbidden tokens, no n-gram twice; what may not be gets probability 0."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trasluz.decoding.settings import DecodingTokens, SearchSettings
from trasluz.errors import ModelError
from trasluz.layers.kernels.likeliest import log_sum_exp

IMPOSSIBLE = float("-inf")

NO_TOKEN = -1
"""What stands in a history before a row that began later than others."""


class Constraints:
    """The constraints on the rows of one search."""

    def __init__(
        self,
        settings: SearchSettings,
        tokens: DecodingTokens,
        source_lengths: Int[Tensor, " sources"],
        num_beams: int = 1,
    ) -> None:
        self.settings = settings
        self.tokens = tokens
        device = source_lengths.device
        # In steps of the search: all of these rows begin with it.
        limits = torch.tensor([settings.length_limits(length) for length in source_lengths.tolist()], device=device)
        self._shortest, self._longest = limits.repeat_interleave(num_beams, dim=0).unbind(1)
        self._forbidden = torch.tensor(tokens.forbidden_ids, dtype=torch.int64, device=device)
        self._find_bounds()

    def apply(
        self, logits: Float[Tensor, "rows vocab"], history: Int[Tensor, "rows target"], step: int | None = None
    ) -> Float[Tensor, " rows"]:
        """Rule out, in place, every next token that `history` (the ids so far, start token left out) does not allow.

        Rows that began later than others have NO_TOKEN before their first; `step` counts those of the search, this one
        included, and is that of the history where not given. Returns the normalizer of each row: the log-probability
        of a token is its logit less that.
        """
        settings, eos_id = self.settings, self.tokens.eos_id
        normalizer = normalizer_of(logits)
        step = history.shape[1] + 1 if step is None else step
        if self.tokens.forbidden_ids:
            logits.index_fill_(1, self._forbidden, IMPOSSIBLE)
        if settings.no_repeat_ngram:
            forbid_repeated_ngrams(logits, history, settings.no_repeat_ngram, eos_id)
        if step < self._first_long_enough:
            logits[:, eos_id] = IMPOSSIBLE
        elif step < self._last_too_short:
            logits[:, eos_id].masked_fill_(step < self._shortest, IMPOSSIBLE)
        if step >= self._first_forced and settings.at_limit != "open":
            must_end = step >= self._longest
            end = logits[:, eos_id].clone()
            if settings.at_limit == "free-end":
                end = torch.where(must_end, normalizer, end)
            logits.masked_fill_(must_end[:, None], IMPOSSIBLE)
            logits[:, eos_id] = end
        return log_sum_exp(logits) if settings.renormalize else normalizer

    def run_out(self, step: int) -> Bool[Tensor, " rows"]:
        """Tell of each row whether its target stops after this step, ended or not: there is room for no more."""
        return self._longest <= step

    def join(self, other: "Constraints", step: int) -> None:
        """Take in rows that begin after this step, behind these."""
        self._shortest = torch.cat([self._shortest, other._shortest + step])
        self._longest = torch.cat([self._longest, other._longest + step])
        self._find_bounds()

    def select_rows(self, rows: Int[Tensor, " selected"]) -> None:
        """Keep these rows, in this order."""
        self._shortest, self._longest = self._shortest[rows], self._longest[rows]
        self._find_bounds()

    @property
    def capacity(self) -> int:
        """How many tokens the longest target may have, where all begin with the search."""
        return int(self._longest.max())

    def _find_bounds(self) -> None:
        # Most steps are within all limits, and then nothing has to be looked at.
        self._first_long_enough, self._last_too_short = (int(one) for one in self._shortest.aminmax())
        self._first_forced = int(self._longest.min())


def normalizer_of(logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
    """Return what log-probabilities are less than the model's logits; ModelError where these are no numbers."""
    normalizer = log_sum_exp(logits)
    # Any NaN among the logits of a row, any +inf, or nothing but -inf: each leaves the sum of all not finite.
    if not math.isfinite(float(normalizer.sum())):
        raise ModelError(
            "the model's scores for the next token are no numbers (NaN or infinite): its weights are damaged, or too "
            "large for the type it computes in; try fp32, or another checkpoint."
        )
    return normalizer


def forbid_repeated_ngrams(
    logits: Float[Tensor, "rows vocab"], history: Int[Tensor, "rows target"], size: int, eos_id: int
) -> None:
    """Rule out, in place, every token that would repeat an n-gram of `size` tokens; the end stays possible."""
    prefix_length = size - 1
    if history.shape[1] < size:
        return
    end = logits[:, eos_id].clone()
    # Every n-gram so far is a prefix and a last token; those whose prefix equals the newest tokens forbid their last.
    followers = history[:, prefix_length:]
    ngrams = history.unfold(1, size, 1)
    newest = history[:, history.shape[1] - prefix_length :]
    repeated = (ngrams[:, :, :prefix_length] == newest[:, None]).all(-1) & (ngrams != NO_TOKEN).all(-1)
    penalty = logits.new_zeros(()).expand(repeated.shape).masked_fill(repeated, IMPOSSIBLE)
    logits.scatter_add_(1, followers.clamp(min=0), penalty)
    logits[:, eos_id] = end
