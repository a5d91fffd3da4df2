"""The hypotheses a search is writing, and the sources that wait until others are done.

A search that holds its first sources to the end makes many steps for the few longest of them. Here others take the
places of those that are done, so that there is always work for a whole step. So rows are of different ages: the history
has the newest tokens at its end, and NO_TOKEN before the first of a row that began later.
"""

from collections.abc import Sequence
from typing import Generic

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trasluz.decoding.constraints import NO_TOKEN, Constraints
from trasluz.decoding.settings import DecodingTokens, SearchSettings
from trasluz.models.stepper import JoiningState, StateT, Stepper

# Newcomers are at least this part of those that are then searched, unless they are the last: reading a source costs
# less beside others, and what is remembered is laid out anew when others come.
LEAST_PART = 0.5


class AtWork(Generic[StateT]):
    """`beam` hypotheses a source, those of one source side by side; at first, none.

    With `batch_tokens`, as many sources at once as have so many tokens, padding included, the longest first; without,
    all at once.
    """

    history: Int[Tensor, "rows target"]
    """The tokens written so far, without the start."""
    _state: StateT
    _constraints: Constraints
    _ids: Int[Tensor, " rows"]

    def __init__(
        self,
        stepper: Stepper[StateT],
        source: Int[Tensor, "sources source"],
        source_lengths: Int[Tensor, " sources"],
        settings: SearchSettings,
        tokens: DecodingTokens,
        *,
        beam: int,
        batch_tokens: int | None = None,
    ) -> None:
        self.sources: list[int] = []
        """Which sources are at work, by their places among all."""
        self._stepper = stepper
        self._source, self._lengths, self._settings, self._tokens = source, source_lengths, settings, tokens
        self._num_tokens: list[int] = source_lengths.tolist()
        self._beam, self._batch_tokens = beam, batch_tokens
        self._waiting = list(range(len(source)))
        if batch_tokens is not None:
            self._waiting.sort(key=lambda place: -self._num_tokens[place])
        self._begun: list[int] = []
        """After which step each source began."""
        self._steps = 0

    def admit(self) -> list[int]:
        """Begin with sources that wait, as far as there is room, behind the others; return which these are."""
        count = self._room()
        if not count:
            return []
        newcomers, self._waiting = self._waiting[:count], self._waiting[count:]
        source, lengths = self._cut(newcomers)
        constraints = Constraints(self._settings, self._tokens, lengths, self._beam)
        state = self._stepper.start(source, lengths, self._beam, 0 if self.sources else constraints.capacity)
        ids = torch.full((len(newcomers) * self._beam,), self._tokens.start_id, device=source.device)
        if self.sources:
            assert isinstance(self._state, JoiningState), "sources that wait need a state that others can join"
            self._state.join(state)
            self._constraints.join(constraints, self._steps)
            # The first began first: nobody has tokens before its own.
            self.history = self.history[:, self.history.shape[1] - self.length(0) :]
            self.history = torch.nn.functional.pad(self.history, (0, 0, 0, len(ids)), value=NO_TOKEN)
            self._ids = torch.cat([self._ids, ids])
        else:
            self._state, self._constraints, self._steps = state, constraints, 0
            self.history, self._ids = ids.new_empty(len(ids), 0), ids
        self.sources = self.sources + newcomers
        self._begun = self._begun + [self._steps] * len(newcomers)
        return newcomers

    def step(self) -> tuple[Float[Tensor, "rows vocab"], Float[Tensor, " rows"]]:
        """Return the logits of the next token of every row, those that may not be at -inf, and their normalizers."""
        logits, self._state = self._stepper.step(self._ids, self._state)
        logits = logits.float()
        self._steps += 1
        return logits, self._constraints.apply(logits, self.history, self._steps)

    def length(self, place: int) -> int:
        """Return how many tokens a hypothesis of the source at this place has with the one of this step."""
        return self._steps - self._begun[place]

    def text(self, row: int) -> list[int]:
        """Return the tokens that a row has before the one of this step."""
        length = self.length(row // self._beam) - 1
        found: list[int] = self.history[row, self.history.shape[1] - length :].tolist()
        return found

    def run_out(self) -> Bool[Tensor, " rows"]:
        """Tell of each row whether its target stops after this step: there is room for no more."""
        return self._constraints.run_out(self._steps)

    def go_on(
        self,
        rows: Int[Tensor, " selected"] | None,
        ids: Int[Tensor, " selected"],
        places: Sequence[int] | None = None,
    ) -> None:
        """Write these tokens behind those of these rows (None: all, as they are); keep the sources at these places."""
        history = self.history if rows is None else self.history[rows]
        self.history, self._ids = torch.cat([history, ids[:, None]], dim=1), ids
        kept = None
        if places is not None:
            self.sources = [self.sources[place] for place in places]
            self._begun = [self._begun[place] for place in places]
            kept = torch.tensor(places, dtype=torch.int64, device=ids.device)
            if places:
                beams = torch.arange(self._beam, device=ids.device)
                self._constraints.select_rows((kept[:, None] * self._beam + beams).flatten())
        if rows is not None and self.sources:
            self._state.select_rows(rows, kept)

    def _room(self) -> int:
        """Return how many of those that wait may begin: nobody while there is hardly room."""
        if self._batch_tokens is None or not self._waiting:
            return len(self._waiting)
        # Nobody is longer than who came before.
        longest = self._num_tokens[(self.sources or self._waiting)[0]]
        active = len(self.sources)
        count = min(max(self._batch_tokens // longest - active, 0 if active else 1), len(self._waiting))
        return 0 if count < min(len(self._waiting), LEAST_PART * (active + count)) else count

    def _cut(self, places: Sequence[int]) -> tuple[Int[Tensor, "batch source"], Int[Tensor, " batch"]]:
        """Return some of the sources, as wide as the longest of them."""
        if list(places) == list(range(len(self._source))):
            # As they were given, without a copy.
            return self._source, self._lengths
        chosen = torch.tensor(places, device=self._source.device)
        longest = max(self._num_tokens[place] for place in places)
        return self._source[chosen, :longest], self._lengths[chosen]
