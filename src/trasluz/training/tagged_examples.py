"""Words with tags as training examples: CoNLL files, or tables with the columns `words` and `tags`.

Tags may be IOB1, BIO, BIOES or BILOU, are read as conlleval reads them, and are learnt as BIO. Where the recipe names
labels of another kind, such as parts of speech, they are learnt as they are. A word's label stands at its first piece.
A sentence that is too long becomes several examples, cut between words.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from trasluz.errors import DataError
from trasluz.text.batching import TaggedBatch, make_tagged_batch
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.text.entities import NO_TAG, OUTSIDE, convert_tags, is_entity_scheme, is_entity_tag
from trasluz.text.lines import Fault
from trasluz.text.readers import Place, ReadReport, read_records
from trasluz.text.token_cache import TokenCache
from trasluz.text.word_pieces import pieces_of_words
from trasluz.training.encoder_examples import EncoderExamples
from trasluz.training.examples import Tokenizers, in_chunks
from trasluz.training.stream import ExampleStream


class TaggedWords(NamedTuple):
    """The words of a sentence, each with its tag as it was read."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    place: Place


class TaggedExamples(EncoderExamples[TaggedWords]):
    """Sentences of tagged words."""

    kind = "sentence"
    columns = ("ids", "labels")

    def settings(self) -> dict[str, Any]:
        """Return what the stored tokens depend on."""
        return self.recipe.data.model_dump(include={"max_length", "labels"}) | {"task": self.recipe.task}

    def read(self, entry: Any, report: ReadReport, sources: Sequence[str] | None = None) -> Iterator[TaggedWords]:
        """Yield the sentences of a `data` entry; DataError with file:line where words and tags do not go together."""
        data = self.recipe.data
        labels = data.labels or ()
        return read_tagged(entry, labels=labels, sources=sources, on_error=data.on_error, report=report)

    def texts(self, example: TaggedWords) -> tuple[str, ...]:
        """Return the sentence."""
        return (" ".join(example.words),)

    def to_record(self, example: TaggedWords) -> dict[str, Any]:
        """Return a sentence as an object."""
        return {"words": " ".join(example.words), "tags": " ".join(example.tags)}

    def from_record(self, record: dict[str, Any]) -> TaggedWords:
        """Return the sentence of an object; where it was read is not kept."""
        return TaggedWords(_apart(record["words"]), _apart(record["tags"]), Place("", 0))

    def look_over(self, examples: Callable[[], Iterator[TaggedWords]]) -> None:
        """Find the labels, unless the recipe names them."""
        if self.recipe.data.labels:
            self.labels = self.recipe.data.labels
            return
        found = {tag for one in examples() for tag in convert_tags(one.tags, "bio")} - {OUTSIDE}
        if not found:
            raise DataError(f"{self.recipe.place('data.train')}: no word has another tag than {OUTSIDE}.")
        kinds = sorted({tag[2:] for tag in found})
        self.labels = [OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")]

    def numbers(self, example: TaggedWords) -> list[int]:
        """Return the labels of a sentence's words, as numbers."""
        numbers = []
        # Real files have a slip here and there, which conversion mends.
        tags = convert_tags(example.tags, "bio") if is_entity_scheme(self.labels) else example.tags
        for tag in tags:
            if tag not in self.labels:
                raise DataError(f"{example.place}: there is no label {tag!r}; there are {', '.join(self.labels[:20])}.")
            numbers.append(self.labels.index(tag))
        return numbers

    def encoded(
        self, examples: Iterator[TaggedWords], tokenizers: Tokenizers
    ) -> Iterator[tuple[TaggedWords, tuple[Any, ...] | None]]:
        """Yield each sentence with its ids and labels, in as many pieces as it takes; label 0: none here."""
        tokenizer: EncoderTokenizer = tokenizers[0]
        self.room(tokenizer)
        for some in in_chunks(examples, self.texts):
            sentences = pieces_of_words(tokenizer, [one.words for one in some], self.recipe.data.max_length)
            for example, pieces in zip(some, sentences, strict=True):
                numbers = np.array([*self.numbers(example), -1])
                for piece in pieces:
                    # The rest of a word that is longer than a piece carries no label.
                    if (piece.begins < 0).all():
                        continue
                    yield example, (piece.ids, numbers[piece.begins] + 1)


def read_tagged(
    entry: Any,
    *,
    labels: Collection[str] = (),
    sources: Sequence[str] | None = None,
    on_error: str,
    report: ReadReport,
) -> Iterator[TaggedWords]:
    """Yield the sentences of a `data` entry; DataError with file:line where words and tags do not go together.

    `labels` are those that a model or a recipe has. Tags that are none of entities are malformed, unless labels are of
    another kind.
    """
    check = _fault if is_entity_scheme(labels) else _unequal
    for (words, tags), place in read_records(
        entry, ("words", "tags"), sources=sources, on_error=on_error, report=report, check=check
    ):
        yield TaggedWords(_apart(words), _apart(tags), place)


def _fault(cells: Sequence[str]) -> Fault | None:
    for number, tag in enumerate(_apart(cells[1])):
        if not is_entity_tag(tag):
            other = "tags of another kind, such as parts of speech, are learnt where `data.labels` names them all"
            return Fault("a tag is none of entities", f": {tag!r}; {NO_TAG}; {other}", number)
    return _unequal(cells)


def _unequal(cells: Sequence[str]) -> Fault | None:
    words, tags = (len(_apart(cell)) for cell in cells)
    return None if words == tags else Fault("there is not one tag for each word", f": {words} words, but {tags} tags")


def _apart(text: str) -> tuple[str, ...]:
    # By plain blanks only: other ones may stand inside a word, as in 10 000.
    return tuple(part for part in text.split(" ") if part)


class TaggedStream(ExampleStream[TaggedBatch]):
    """Pieces of sentences; the cache's columns are ids, labels and place."""

    def __init__(
        self, cache: TokenCache, files: Sequence[str], *, tokenizer: EncoderTokenizer, pad_id: int, **settings: Any
    ) -> None:
        """Take the cache and what batches need; `settings` are those of every stream."""
        super().__init__(cache, files, [cache.lengths("ids") + tokenizer.num_added()], **settings)
        self.tokenizer = tokenizer
        self.pad_id = pad_id

    def batch(self, examples: Sequence[int] | Any, epoch: int | None = None) -> TaggedBatch:
        """Return the padded batch of some pieces; no epoch differs from another."""
        rows = [self.cache[int(example)] for example in examples]
        return tagged_batch(self.tokenizer, [(row[0], row[1].astype(np.int64) - 1) for row in rows], self.pad_id)


def tagged_batch(tokenizer: EncoderTokenizer, pieces: Sequence[tuple[Any, Any]], pad_id: int) -> TaggedBatch:
    """Return the batch of pieces without special tokens; a label below 0 means none."""
    joined = [tokenizer.join(ids)[0] for ids, _ in pieces]
    return make_tagged_batch(joined, [labels for _, labels in pieces], tokenizer.first_offset(), pad_id=pad_id)
