"""The updates of each epoch, drawn from the token cache: which pairs, in which order, direction and pieces."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32

from trasluz.text.batching import BatchOrder, TranslationBatch, make_batch
from trasluz.text.piece_dropout import drop_pieces
from trasluz.text.token_cache import TokenCache

Parents = Int32[np.ndarray, "vocab 2"]


class TranslationStream:
    """Updates for the trainer; everything follows from (cache, seed, epoch), so any place can be returned to.

    With `tags`, every pair gives two examples: number 2k is pair k as it stands, 2k + 1 the other way round; a tag
    before the source says where to: `tags` are the ids for those two. With `piece_dropout`, the tables of what the
    pieces of either side were made of and a probability, no epoch cuts a sentence quite like another (see
    piece_dropout.py).
    """

    def __init__(
        self,
        cache: TokenCache,
        files: Sequence[str],
        *,
        pad_id: int,
        start_id: int,
        eos_id: int,
        tags: tuple[int, int] | None,
        batch_tokens: int,
        micro_batch_tokens: int | None,
        seed: int,
        piece_dropout: tuple[Parents, Parents, float] | None = None,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        """Take the cache and what batches need; of `size` processes that share every update, this is number `rank`."""
        self.cache = cache
        self.files = files
        self.ids = {"pad_id": pad_id, "start_id": start_id, "eos_id": eos_id}
        self.tags = tags
        self.batch_tokens = batch_tokens
        self.micro_batch_tokens = micro_batch_tokens
        self.seed = seed
        self.piece_dropout = piece_dropout
        self.rank = rank
        self.size = size
        source, target = cache.lengths("source"), cache.lengths("target")
        if tags:
            # Two examples a pair, side by side; the tag is one more source token.
            self._lengths = [_interleave(source + 1, target + 1), _interleave(target, source)]
        else:
            self._lengths = [source, target]
        self._order: tuple[int, BatchOrder] | None = None

    @property
    def num_examples(self) -> int:
        """How many examples an epoch has."""
        return len(self._lengths[0])

    def num_updates(self, epoch: int) -> int:
        """Return how many updates an epoch has."""
        return len(self._order_of(epoch))

    def updates(self, epoch: int, start: int) -> Iterator[list[TranslationBatch | None]]:
        """Yield the updates of an epoch from number `start` on, each as batches whose gradients add up.

        Processes that share an update get equally many batches, None where the examples did not suffice: a process
        takes part in every exchange of gradients.
        """
        order = self._order_of(epoch)
        for index in range(start, len(order)):
            pieces = self._pieces(order[index])[self.rank :: self.size]
            yield [self.batch(piece, epoch) if len(piece) else None for piece in pieces]

    def stand_in(self) -> TranslationBatch:
        """Return a small batch for a process that has none in its turn."""
        return self.batch([int(np.argmin(self._lengths[0]))])

    def places(self, epoch: int, index: int) -> list[str]:
        """Return file:line of every pair in an update."""
        return [self.place(int(example)) for example in self._order_of(epoch)[index]]

    def place(self, example: int) -> str:
        """Return file:line of an example."""
        file, line = (int(number) for number in self.cache[self._pair(example)][2])
        return f"{self.files[file]}:{line}"

    def batch(self, examples: Sequence[int] | Any, epoch: int | None = None) -> TranslationBatch:
        """Return the padded batch of some examples, as they are cut in this epoch (None: as they are stored)."""
        pairs = [self.example(int(example), epoch) for example in examples]
        return make_batch([source for source, _ in pairs], [target for _, target in pairs], **self.ids)

    def example(self, example: int, epoch: int | None = None) -> tuple[Any, Any]:
        """Return the ids of one example: the source with its tag, and the target."""
        source, target = self.cache[self._pair(example)][:2]
        if self.piece_dropout and epoch is not None:
            of_source, of_target, probability = self.piece_dropout
            generator = np.random.default_rng([self.seed, epoch, example])
            source = drop_pieces(source, of_source, probability, generator)
            target = drop_pieces(target, of_target, probability, generator)
        if not self.tags:
            return source, target
        if example % 2:
            source, target = target, source
        return np.concatenate(([self.tags[example % 2]], source)), target

    def _pair(self, example: int) -> int:
        return example // 2 if self.tags else example

    def _order_of(self, epoch: int) -> BatchOrder:
        if self._order is None or self._order[0] != epoch:
            # Two orders at a time would be twice the memory.
            self._order = None
            order = BatchOrder(self._lengths, self.batch_tokens, self.seed, epoch, place_of=self.place)
            self._order = (epoch, order)
        return self._order[1]

    def _pieces(self, examples: Any) -> list[Any]:
        rounds = 1
        if self.micro_batch_tokens:
            longest = int(max(column[examples].max() for column in self._lengths)) + 1
            rows = max(1, self.micro_batch_tokens // longest)
            rounds = -(-len(examples) // (rows * self.size))
        # Dealt out rather than cut, so that every process gets short and long ones alike.
        number = rounds * self.size
        return [examples[piece::number] for piece in range(number)]


def _interleave(even: np.ndarray, odd: np.ndarray) -> np.ndarray:
    joined = np.empty(2 * len(even), dtype=np.int32)
    joined[0::2] = even
    joined[1::2] = odd
    return joined
