"""Pairs of texts for next-sentence prediction, drawn anew in every epoch (Devlin et al. 2019, appendix A.1 and A.2).

    stretch      s1 s2 s3 s4            of one document, from the token cache
    first        s1 s2                  it is parted between two sentences, anywhere
    second       s3 s4                  label 0, one half of the time: what follows
                 t5 t6                  label 1, the other half: whole sentences from another document, as many as are
                                        no longer than what would follow

A pair is never longer than its stretch. That the second text ends with a sentence in both cases, and is about as long,
keeps what is to be learnt in the words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from trasluz.errors import DataError
from trasluz.text.batching import NextSentenceBatch, make_next_sentence_batch
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.text.masking import Masking
from trasluz.text.token_cache import TokenCache
from trasluz.training.stream import ExampleStream


class TextPair(NamedTuple):
    """Two texts as ids; label 0: the second follows the first, 1: it is from another document."""

    first: Any
    second: Any
    label: int


@dataclass(frozen=True)
class PairDrawer:
    """Draws pairs out of stretches, each a row of ids, ends of sentences, and what tells its document from others."""

    stretches: Sequence[tuple[Any, ...]]
    place: str
    """What a message calls the data."""

    def __post_init__(self) -> None:
        # Those of one document lie together, so the first and the last would be of the only one.
        if len(self.stretches) < 2 or self._document(0) == self._document(len(self.stretches) - 1):
            raise DataError(
                f"{self.place}: next sentences need two documents at least, and there are not: put an empty line "
                "between two documents of a plain file, or set masking.next_sentence to false"
            )

    def draw(self, number: int, generator: np.random.Generator) -> TextPair:
        """Return a pair whose first text begins a stretch."""
        ids, ends = self.stretches[number][:2]
        cut = int(ends[generator.integers(len(ends) - 1)])
        if generator.random() < 0.5:
            return TextPair(ids[:cut], ids[cut:], 0)
        return TextPair(ids[:cut], self._elsewhere(number, len(ids) - cut, generator), 1)

    def _elsewhere(self, number: int, most: int, generator: np.random.Generator) -> Any:
        """Return some sentences of another document, at most so many pieces."""
        document = self._document(number)
        other = number
        while self._document(other) == document:
            other = int(generator.integers(len(self.stretches)))
        ids, ends = (np.asarray(column, np.int64) for column in self.stretches[other][:2])
        begins = np.append(0, ends[:-1])
        # Behind some sentences too little is left for the length, and some are too long for it.
        enough = len(ids) - begins >= most
        fitting = begins[enough & (ends - begins <= most)]
        if not len(fitting):
            begin = int(generator.choice(begins[enough])) if enough.any() else 0
            return self.stretches[other][0][begin : begin + most]
        begin = int(generator.choice(fitting))
        end = int(ends[ends <= begin + most].max())
        return self.stretches[other][0][begin:end]

    def _document(self, number: int) -> tuple[int, ...]:
        return tuple(int(part) for part in self.stretches[number][-1])


class NextSentenceStream(ExampleStream[NextSentenceBatch]):
    """Pairs of texts, drawn and masked otherwise in every epoch; the cache's columns are ids, ends and place."""

    def __init__(
        self,
        cache: TokenCache,
        files: Sequence[str],
        *,
        tokenizer: EncoderTokenizer,
        masking: Masking,
        pad_id: int,
        place: str,
        **settings: Any,
    ) -> None:
        """Take the cache and what batches need; `settings` are those of every stream."""
        super().__init__(cache, files, [cache.lengths("ids") + tokenizer.num_added(True)], **settings)
        self.tokenizer = tokenizer
        self.masking = masking
        self.pad_id = pad_id
        # A document is told from others by where it begins.
        self.drawer = PairDrawer(cache, place)

    def batch(self, examples: Sequence[int] | Any, epoch: int | None = None) -> NextSentenceBatch:
        """Return the padded batch of some pairs, as drawn for this epoch (None: as for the one before the first)."""
        drawn = -1 if epoch is None else epoch
        pairs = [
            masked_pair(self.tokenizer, self.masking, self.drawer, int(number), generator)
            for number in examples
            for generator in [np.random.default_rng([self.seed, drawn + 1, int(number)])]
        ]
        return make_next_sentence_batch(pairs, pad_id=self.pad_id)


def masked_pair(
    tokenizer: EncoderTokenizer,
    masking: Masking,
    drawer: PairDrawer,
    number: int,
    generator: np.random.Generator,
) -> tuple[Any, Any, Any, Any, int]:
    """Return a pair's corrupted ids with their special tokens, the positions to guess and what stood there, the
    segments, and the label.
    """
    first, second, label = drawer.draw(number, generator)
    ids = np.concatenate([first, second])
    starts = tokenizer.word_starts(ids)
    starts[len(first)] = True
    chosen = masking.choose(starts, generator)
    corrupted = masking.corrupt(ids, chosen, generator)
    joined, segments = tokenizer.join(corrupted[: len(first)], corrupted[len(first) :])
    places = np.flatnonzero(chosen)
    offsets = np.where(places < len(first), tokenizer.first_offset(True), tokenizer.second_offset())
    return joined, places + offsets, ids[chosen], segments, label
