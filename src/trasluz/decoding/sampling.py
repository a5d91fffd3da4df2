"""Sampling: each next token is drawn from the model's distribution, reshaped by the settings, in this order.

    repetition penalty (Keskar et al. 2019, section 4.1)     x_v / r for every token v of prompt and text so far
    frequency penalty                                        x_v - f * (times that v stands in the text so far)
    temperature (Ackley et al. 1985)                         x_v / T;  0: the likeliest token, nothing is drawn
    top-k (Fan et al. 2018, section 5.4)                     only the k likeliest tokens, whatever ties with the last
    top-p (Holtzman et al. 2020, section 3.1)                only the fewest tokens whose probabilities sum to p
    min-p (Nguyen et al. 2024, section 3)                    only tokens at least m times as likely as the likeliest

Logits below zero are multiplied by r, as the formula as it was printed would make such tokens likelier.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Generic

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.decoding.constraints import IMPOSSIBLE, normalizer_of
from trasluz.decoding.settings import DecodingTokens
from trasluz.errors import RequestError
from trasluz.layers.kernels.likeliest import best_of_rows
from trasluz.models.stepper import StateT, Stepper

# Of float32, in which logits are.
_LARGEST, _SMALLEST = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class SamplingSettings:
    """How a next token is drawn; the defaults leave the model's distribution as it is."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not math.isfinite(value) or (value < 0 and field.name != "frequency_penalty"):
                least = "a number" if field.name == "frequency_penalty" else "a number from 0 up"
                raise RequestError(f"`{field.name}` must be {least}, but is {value}.")
            if abs(value) > _LARGEST:
                raise RequestError(f"`{field.name}` must not be larger than {_LARGEST:.2g}, but is {value}.")
        if not 0 < self.top_p <= 1:
            raise RequestError(f"`top_p` must be above 0 and at most 1 (1: all tokens), but is {self.top_p}.")
        if self.min_p > 1:
            raise RequestError(f"`min_p` must be from 0 (all tokens) to 1, but is {self.min_p}.")
        if not self.repetition_penalty:
            raise RequestError("`repetition_penalty` must be above 0 (1: none), but is 0.")


@dataclass(frozen=True)
class Drawn:
    """The next token of a row; its log-probability is the model's own, whatever the settings made of it."""

    row: int
    token: int
    log_probability: float


def generator_of(seed: int, sample: int, source: Sequence[int] = ()) -> torch.Generator:
    """Return the random numbers of one sample of a source.

    Those of another seed, sample or source are others; but sources that differ in zeros at their end alone share them.
    """
    (word,) = np.random.SeedSequence((seed, sample, *source)).generate_state(1, np.uint64)
    # Torch takes whole numbers with a sign.
    return torch.Generator().manual_seed(int(word >> np.uint64(1)))


class Sampling(Generic[StateT]):
    """Texts that grow by one drawn token a step; those of one source lie side by side, as beams do.

    Each row has a generator of its own, so what it draws does not depend on its neighbours. `window` is for models
    whose sources are what they continue: the most tokens that may be read; a text that has grown over it is read anew
    from its last half on.
    """

    def __init__(
        self,
        stepper: Stepper[StateT],
        source: Int[Tensor, "sources source"],
        settings: SamplingSettings,
        tokens: DecodingTokens,
        generators: Sequence[torch.Generator],
        max_tokens: int,
        window: int | None = None,
    ) -> None:
        self._stepper, self._settings, self._tokens = stepper, settings, tokens
        self._generators = list(generators)
        self._left, self._window = max_tokens, window
        self._per_source = len(generators) // len(source)
        self._rows = list(range(len(generators)))
        self._ended: set[int] = set()
        self._begins = source.shape[1]
        # With the source, which counts as text so far.
        self._history = source.repeat_interleave(self._per_source, dim=0)
        self._state: StateT
        self._ids: Int[Tensor, " rows"]
        self._read(source)

    @property
    def is_over(self) -> bool:
        """Tell whether no row goes on."""
        return not self._rows or not self._left

    @torch.inference_mode()
    def step(self) -> list[Drawn]:
        """Draw the next token of every row that goes on; a row whose token is the end stops by itself."""
        if not self._room:
            self._slide()
        logits, self._state = self._stepper.step(self._ids, self._state)
        logits = logits.float()
        normalizer = normalizer_of(logits)
        shaped = penalized(logits, self._history, self._begins, self._settings)
        if self._tokens.forbidden_ids:
            shaped[:, list(self._tokens.forbidden_ids)] = IMPOSSIBLE
        if self._settings.temperature:
            uniform = [self._uniform(row) for row in self._rows]
            ids = drawn(filtered(shaped, self._settings), torch.tensor(uniform, dtype=torch.float64))
        else:
            ids = best_of_rows(shaped, 1)[1][:, 0]
        log_probabilities = logits.gather(1, ids[:, None])[:, 0] - normalizer
        self._ids = ids
        self._history = torch.cat([self._history, ids[:, None]], dim=1)
        self._left -= 1
        self._room -= 1
        found = [
            Drawn(*one)
            for one in zip(self._rows, ids.tolist(), log_probabilities.tolist(), strict=True)
            if one[0] not in self._ended
        ]
        self.stop([one.row for one in found if one.token == self._tokens.eos_id])
        return found

    @torch.inference_mode()
    def stop(self, rows: Collection[int]) -> None:
        """Let rows go on no further; they leave the batch when all rows of their source have ended."""
        self._ended.update(rows)
        self._drop_ended()

    def _slide(self) -> None:
        """Read anew what the window will hold, each text as a source of its own, and none that has ended."""
        self._per_source = 1
        self._drop_ended()
        self._read(self._history)

    def _drop_ended(self) -> None:
        if not self._ended.intersection(self._rows):
            return
        size = self._per_source
        sources = [
            place
            for place in range(len(self._rows) // size)
            if not self._ended.issuperset(self._rows[place * size : (place + 1) * size])
        ]
        if len(sources) * size == len(self._rows):
            return
        kept = [place * size + member for place in sources for member in range(size)]
        self._rows = [self._rows[place] for place in kept]
        if kept:
            places = torch.tensor(kept, device=self._history.device)
            self._history, self._ids = self._history[places], self._ids[places]
            self._state.select_rows(places, torch.tensor(sources, device=places.device))

    @torch.inference_mode()
    def _read(self, source: Int[Tensor, "sources source"]) -> None:
        self._room = self._left
        if self._window is not None:
            if source.shape[1] > self._window:
                source = source[:, -max(1, self._window // 2) :]
            # The last token drawn needs no place of its own.
            self._room = min(self._left, self._window - source.shape[1] + 1)
        lengths = torch.full((len(source),), source.shape[1], device=source.device)
        self._state = self._stepper.start(source, lengths, self._per_source, self._room)
        self._ids = torch.full((len(source) * self._per_source,), self._tokens.start_id, device=source.device)

    def _uniform(self, row: int) -> float:
        if row in self._ended:
            return 0.0
        return float(torch.rand((), generator=self._generators[row], dtype=torch.float64))


def penalized(
    logits: Float[Tensor, "rows vocab"], history: Int[Tensor, "rows length"], begins: int, settings: SamplingSettings
) -> Float[Tensor, "rows vocab"]:
    """Return logits with both penalties for the tokens of `history`, whose first `begins` are the prompt."""
    if settings.repetition_penalty != 1.0:
        found = logits.gather(1, history)
        by = max(settings.repetition_penalty, _SMALLEST)
        # Without infinities, of which no probabilities can be made.
        changed = torch.where(found < 0, found * by, found / by).clamp(-_LARGEST, _LARGEST)
        logits = logits.scatter(1, history, changed)
    if settings.frequency_penalty:
        text = history[:, begins:]
        cost = torch.full(text.shape, -settings.frequency_penalty, device=logits.device)
        logits = logits.scatter_add(1, text, cost).clamp(-_LARGEST, _LARGEST)
    return logits


def filtered(logits: Float[Tensor, "rows vocab"], settings: SamplingSettings) -> Float[Tensor, "rows vocab"]:
    """Return logits over the temperature, minus infinity where a token may not be drawn; one always may."""
    # As float64, which holds every logit over the lowest temperature.
    logits = logits.double() / max(settings.temperature, _SMALLEST)
    if 0 < settings.top_k < logits.shape[1]:
        likeliest, places = logits.topk(settings.top_k, dim=-1)
        logits = torch.full_like(logits, IMPOSSIBLE).scatter(1, places, likeliest)
    if settings.top_p < 1.0:
        ordered, places = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(-1)
        # Likelier tokens, without this one, have reached the sum already.
        surplus = probabilities.cumsum(-1) - probabilities >= settings.top_p
        surplus[:, 0] = False
        logits = logits.masked_fill(surplus.gather(1, places.argsort(-1)), IMPOSSIBLE)
    if settings.min_p:
        least = logits.amax(-1, keepdim=True) + math.log(settings.min_p)
        logits = logits.masked_fill(logits < least, IMPOSSIBLE)
    return logits


def drawn(logits: Float[Tensor, "rows vocab"], uniform: Float[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """Return the token of each row at which the sum of probabilities passes its number from 0 to 1."""
    total = logits.double().softmax(-1).cumsum(-1)
    wanted = uniform.to(total.device)[:, None] * total[:, -1:]
    return torch.searchsorted(total, wanted, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
