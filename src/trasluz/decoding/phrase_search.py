"""Beam search for a target that must contain given phrases: dynamic beam allocation (Post and Vilar 2018, section 3).

At every step the likeliest extensions compete, and with them, for every hypothesis, the token that would carry a
required phrase on. The beam is then shared out in equal parts by how many required tokens a hypothesis has written, so
that one that has begun a phrase is not driven out by likelier ones that put it off. Only a hypothesis with all phrases
may end, unless the longest length forces it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.decoding.constraints import IMPOSSIBLE, Constraints
from trasluz.decoding.settings import DecodingTokens, Hypothesis, SearchSettings
from trasluz.models.stepper import StateT, Stepper

Phrase = tuple[int, ...]

# More hypotheses than this for one sentence cost more than they bring.
_WIDEST = 24


@dataclass(frozen=True)
class Progress:
    """Which of the required phrases a hypothesis has written, and how much of the one it is in."""

    missing: tuple[Phrase, ...]
    begun: Phrase | None = None
    written: int = 0
    done: int = 0

    @classmethod
    def at_start(cls, phrases: Iterable[Phrase], done: int = 0) -> "Progress":
        """Return the progress with all these phrases missing; of two that begin alike, the longer one is tried."""
        return cls(tuple(sorted((phrase for phrase in phrases if phrase), key=lambda phrase: -len(phrase))), done=done)

    @property
    def num_tokens(self) -> int:
        """How many required tokens stand in the hypothesis."""
        return self.done + self.written

    @property
    def complete(self) -> bool:
        """Whether every phrase has been written."""
        return not self.missing and self.begun is None

    def wanted(self) -> set[int]:
        """Return the tokens that would carry a phrase on."""
        if self.begun is not None:
            return {self.begun[self.written]}
        return {phrase[0] for phrase in self.missing}

    def after(self, token: int) -> "Progress":
        """Return the progress with one more token; a phrase that is broken off must be begun anew."""
        if self.begun is not None:
            if token != self.begun[self.written]:
                return Progress.at_start((*self.missing, self.begun), self.done).after(token)
            if self.written + 1 < len(self.begun):
                return replace(self, written=self.written + 1)
            return Progress(self.missing, done=self.done + len(self.begun))
        for place, phrase in enumerate(self.missing):
            if phrase[0] == token:
                begun = Progress((*self.missing[:place], *self.missing[place + 1 :]), phrase, 0, self.done)
                return begun.after(token)
        return self


@dataclass(frozen=True)
class _Candidate:
    """One hypothesis with one more token."""

    total: float
    row: int
    token: int
    progress: Progress


@torch.inference_mode()
def phrase_search(
    stepper: Stepper[StateT],
    source: Int[Tensor, "sources source"],
    source_lengths: Int[Tensor, " sources"],
    settings: SearchSettings,
    tokens: DecodingTokens,
    phrases: Sequence[Phrase],
) -> list[Hypothesis]:
    """Return up to `nbest` hypotheses of one source, best first, with all phrases or, lacking room, most of them."""
    assert len(source) == 1, "phrases belong to one source"
    start = Progress.at_start(phrases)
    num_required = sum(map(len, start.missing))
    width = max(settings.beam, min(num_required + 1, _WIDEST))
    constraints = Constraints(settings, tokens, source_lengths, width)
    longest = constraints.capacity
    state = stepper.start(source, source_lengths, width, longest)
    ids = source.new_full((width,), tokens.start_id)
    history = ids.new_empty(width, 0)
    running = [0.0] + [IMPOSSIBLE] * (width - 1)
    progress = [start] * width
    finished: list[Hypothesis] = []
    for length in range(1, longest + 1):
        logits, state = stepper.step(ids, state)
        logits = logits.double()
        normalizer = constraints.apply(logits, history)
        log_probabilities = logits - normalizer[:, None]
        candidates = _candidates(log_probabilities, running, progress, width)
        # Ranked among their like: those that still put a phrase off are likelier, and prove nothing.
        complete = [one for one in candidates if one.progress.complete]
        ends = [one for one in complete[: settings.beam] if one.token == tokens.eos_id]
        if length == longest:
            # Where there was no room for every phrase: what has most of them.
            ends = complete or ([] if finished else _with_most(candidates))
        for one in ends:
            text = (*history[one.row].tolist(), tokens.eos_id)
            finished.append(Hypothesis(text, one.total, settings.normalized(one.total, length)))
        going_on = [one for one in candidates if one.token != tokens.eos_id]
        kept = _share_out(going_on, width, num_required)
        best = max((one.total for one in kept if one.progress.complete), default=IMPOSSIBLE)
        finished.sort(key=lambda found: -found.score)
        del finished[settings.beam :]
        if not kept or (len(finished) == settings.beam and settings.normalized(best, length) <= finished[-1].score):
            break
        rows = ids.new_tensor([one.row for one in kept])
        state.select_rows(rows)
        ids = ids.new_tensor([one.token for one in kept])
        history = torch.cat([history[rows], ids[:, None]], dim=1)
        running = [one.total for one in kept]
        progress = [one.progress for one in kept]
    return finished[: settings.nbest]


def _candidates(
    log_probabilities: Float[Tensor, "rows vocab"], running: Sequence[float], progress: Sequence[Progress], width: int
) -> list[_Candidate]:
    """Return the likeliest extensions of all rows and, of every row, those that carry a phrase on; best first."""
    best, likeliest = log_probabilities.topk(min(width + 1, log_probabilities.shape[1]), dim=-1)
    found = []
    for row, total in enumerate(running):
        if total == IMPOSSIBLE:
            continue
        steps = dict(zip(likeliest[row].tolist(), best[row].tolist(), strict=True))
        for token in progress[row].wanted() - steps.keys():
            steps[token] = float(log_probabilities[row, token])
        found += [
            _Candidate(total + step, row, token, progress[row].after(token))
            for token, step in steps.items()
            if step > IMPOSSIBLE
        ]
    return sorted(found, key=lambda one: -one.total)


def _with_most(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """Return the candidates with the most required tokens, in order."""
    most = max((one.progress.num_tokens for one in candidates), default=0)
    return [one for one in candidates if one.progress.num_tokens == most]


def _share_out(candidates: Sequence[_Candidate], width: int, num_required: int) -> list[_Candidate]:
    """Return exactly `width` candidates (or none): as many from every amount of required tokens, then the best left."""
    share, rest = divmod(width, num_required + 1)
    chosen: list[_Candidate] = []
    left: list[_Candidate] = []
    # Who has most gets what cannot be shared equally.
    for amount in range(num_required, -1, -1):
        bank = [one for one in candidates if one.progress.num_tokens == amount]
        most = share + (1 if num_required - amount < rest else 0)
        chosen += bank[:most]
        left += bank[most:]
    left.sort(key=lambda one: -one.total)
    chosen += left[: width - len(chosen)]
    if chosen and len(chosen) < width:
        # The rows of a state are as many as before; those that nobody needs stand still.
        chosen += [replace(chosen[0], total=IMPOSSIBLE)] * (width - len(chosen))
    return chosen
