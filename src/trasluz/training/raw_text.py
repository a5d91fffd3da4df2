"""Plain text as training examples: lines or columns of text, cut into pieces that fit; masked anew in every epoch."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from trasluz.errors import RequestError
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.text.masking import Masking
from trasluz.text.readers import Place, ReadReport, Text, read_texts
from trasluz.training.encoder_examples import EncoderExamples
from trasluz.training.examples import Tokenizers, encode_texts, in_chunks


class RawTextExamples(EncoderExamples[Text]):
    """Texts without labels; one that is too long becomes several examples."""

    kind = "text"
    columns = ("ids",)

    def settings(self) -> dict[str, Any]:
        """Return what the stored tokens depend on."""
        return self.recipe.data.model_dump(include={"max_length"}) | {"task": self.recipe.task}

    def read(self, entry: Any, report: ReadReport, sources: Sequence[str] | None = None) -> Iterator[Text]:
        """Yield the texts of a `data` entry."""
        return read_texts(entry, sources=sources, on_error=self.recipe.data.on_error, report=report)

    def texts(self, example: Text) -> tuple[str, ...]:
        """Return the text."""
        return (example.text,)

    def to_record(self, example: Text) -> dict[str, Any]:
        """Return a text as an object."""
        return {"text": example.text}

    def from_record(self, record: dict[str, Any]) -> Text:
        """Return the text of an object; where it was read is not kept."""
        return Text(record["text"], Place("", 0))

    def encoded(
        self, examples: Iterator[Text], tokenizers: Tokenizers
    ) -> Iterator[tuple[Text, tuple[Any, ...] | None]]:
        """Yield each text with its ids, in as many pieces as it takes."""
        tokenizer: EncoderTokenizer = tokenizers[0]
        room = self.room(tokenizer)
        texts = ((some, [[one.text for one in some]]) for some in in_chunks(examples, self.texts))
        for some, (ids,) in encode_texts(texts, [tokenizer], None, None):
            for text, found in zip(some, ids, strict=True):
                for piece in pieces_of(found, room):
                    yield text, (piece,)


def pieces_of(ids: Any, room: int) -> Iterator[Any]:
    """Yield the ids in pieces of at most `room`; what has none is left out."""
    for begin in range(0, len(ids), room):
        yield ids[begin : begin + room]


def masking_for(tokenizer: EncoderTokenizer, **how: Any) -> Masking:
    """Return how the words of this tokenizer are masked; `how` are fields of `Masking` that are not to be as usual.

    Raises RequestError where there is nothing to mask them with.
    """
    if tokenizer.mask_id is None:
        raise RequestError("the tokenizer has no mask token, so that no word can be asked for.")
    special = {tokenizer.id_of(token) for token in tokenizer.special_tokens}
    ordinary = np.array([index for index in range(tokenizer.vocab_size) if index not in special], tokenizer.dtype)
    return Masking(tokenizer.mask_id, ordinary, **how)


def masked_pieces(
    tokenizer: EncoderTokenizer, masking: Masking, texts: Sequence[str], room: int, seed: int = 0
) -> list[tuple[Any, Any, Any]]:
    """Return texts to be scored, cut into pieces of at most `room` and masked; by one seed they always are alike."""
    pieces = (piece for ids in tokenizer.encode_arrays(texts) for piece in pieces_of(ids, room))
    return [
        masked_piece(tokenizer, masking, piece, np.random.default_rng([number, seed]))
        for number, piece in enumerate(pieces)
    ]


def masked_piece(
    tokenizer: EncoderTokenizer, masking: Masking, ids: Any, generator: np.random.Generator
) -> tuple[Any, Any, Any]:
    """Return the corrupted ids with their special tokens, the positions to guess, and what stood there."""
    chosen = masking.choose(tokenizer.word_starts(ids), generator)
    corrupted, _ = tokenizer.join(masking.corrupt(np.asarray(ids), chosen, generator))
    return corrupted, np.flatnonzero(chosen) + tokenizer.first_offset(), ids[chosen]
