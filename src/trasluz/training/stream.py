"""The updates of each epoch, drawn from the token cache: which examples, in which order, by which process."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Integer

from trasluz.text.batching import BatchOrder
from trasluz.text.token_cache import TokenCache
from trasluz.training.trainer import BatchT


@runtime_checkable
class Order(Protocol):
    """The updates of one epoch, each an array of examples."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Integer[np.ndarray, "_"]: ...


class ExampleStream(ABC, Generic[BatchT]):
    """Updates for the trainer; everything follows from (cache, seed, epoch), so any place can be returned to.

    A subclass says how examples lie in the cache and how a batch is made of them.
    """

    added: ClassVar[int] = 0
    """Tokens that a batch adds to each column of an example: one where it puts the end behind it."""

    def __init__(
        self,
        cache: TokenCache,
        files: Sequence[str],
        lengths: Sequence[Int32[np.ndarray, "examples"]],
        *,
        batch_tokens: int,
        micro_batch_tokens: int | None,
        seed: int,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        """Take the cache and the examples' lengths, a row a column that a batch pads, without what a batch adds.

        Of `size` processes that share every update, this is number `rank`.
        """
        self.cache = cache
        self.files = files
        self.batch_tokens = batch_tokens
        self.micro_batch_tokens = micro_batch_tokens
        self.seed = seed
        self.rank = rank
        self.size = size
        self._lengths = lengths
        self._order: tuple[int, Order] | None = None

    @abstractmethod
    def batch(self, examples: Sequence[int] | Any, epoch: int | None = None) -> BatchT:
        """Return the batch of some examples, as they are in this epoch (None: as they are stored)."""

    @property
    def num_examples(self) -> int:
        """How many examples an epoch has."""
        return len(self._lengths[0])

    def num_updates(self, epoch: int) -> int:
        """Return how many updates an epoch has."""
        return len(self._order_of(epoch))

    def updates(self, epoch: int, start: int) -> Iterator[list[BatchT | None]]:
        """Yield the updates of an epoch from number `start` on, each as batches whose gradients add up.

        Processes that share an update get equally many batches, None where the examples did not suffice: a process
        takes part in every exchange of gradients.
        """
        order = self._order_of(epoch)
        for index in range(start, len(order)):
            pieces = self._pieces(order[index])[self.rank :: self.size]
            yield [self.batch(piece, epoch) if len(piece) else None for piece in pieces]

    def stand_in(self) -> BatchT:
        """Return a small batch for a process that has none in its turn."""
        return self.batch([int(np.argmin(self._lengths[0]))])

    def places(self, epoch: int, index: int) -> list[str]:
        """Return file:line of every example in an update."""
        return [self.place(int(example)) for example in self._order_of(epoch)[index]]

    def place(self, example: int) -> str:
        """Return file:line of an example."""
        file, line = (int(number) for number in self.cache[self._row(example)][-1])
        return f"{self.files[file]}:{line}"

    def _row(self, example: int) -> int:
        """Return the row of the cache that an example is made of."""
        return example

    def _order_of(self, epoch: int) -> Order:
        if self._order is None or self._order[0] != epoch:
            # Two orders at a time would be twice the memory.
            self._order = None
            self._order = (epoch, self._draw_order(epoch))
        return self._order[1]

    def _draw_order(self, epoch: int) -> Order:
        return BatchOrder(self._lengths, self.batch_tokens, self.seed, epoch, added=self.added, place_of=self.place)

    def _pieces(self, examples: Any) -> list[Any]:
        rounds = 1
        if self.micro_batch_tokens:
            longest = int(max(column[examples].max() for column in self._lengths)) + self.added
            rows = max(1, self.micro_batch_tokens // longest)
            rounds = -(-len(examples) // (rows * self.size))
        # Dealt out rather than cut, so that every process gets short and long ones alike.
        number = rounds * self.size
        return [examples[piece::number] for piece in range(number)]
