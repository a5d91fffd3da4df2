"""What a model that decodes offers to every search: `start` once, then one `step` a token.

    state = model.start(source, source_lengths, num_beams, capacity)
    logits, state = model.step(ids, state)          # the old state is not used again
    state.join(model.start(others, their_lengths, num_beams, 0))        # sources take the places of those that are done

Rows are hypotheses: `num_beams` of them a source, those of one source side by side. The batch is axis 0 everywhere.
What was computed from the source is held once a source, whatever the number of beams.
"""

from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class State(Protocol):
    """What a model remembers between two steps."""

    def select_rows(self, rows: Int[Tensor, " rows"], sources: Int[Tensor, " sources"] | None = None) -> None:
        """Keep these rows, in this order, repeats allowed; and these sources (None: all, as they are)."""
        ...


@runtime_checkable
class JoiningState(State, Protocol):
    """A state in which rows may have made different numbers of steps."""

    def join(self, other: Any) -> None:
        """Take in the rows and sources of the model's own kind of state that has made no step, behind these."""
        ...


StateT = TypeVar("StateT", bound=State)


@runtime_checkable
class Stepper(Protocol[StateT]):
    """A model that decodes."""

    def start(
        self,
        source: Int[Tensor, "sources source"],
        source_lengths: Int[Tensor, " sources"],
        num_beams: int,
        capacity: int,
    ) -> StateT:
        """Read the sources and make room for `capacity` steps of `num_beams` hypotheses a source.

        0 steps: the state is to join another, which has room.
        """
        ...

    def step(self, ids: Int[Tensor, " rows"], state: StateT) -> tuple[Float[Tensor, "rows vocab"], StateT]:
        """Take the last token of every row and return the logits of the next."""
        ...
