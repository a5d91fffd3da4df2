"""Documents as training examples: cut into stretches of neighbouring sentences, out of each of which a pair is drawn.

    document     s1 s2 s3 s4 | s5 s6 s7 |            a stretch fills what a pair of texts may hold
    stretch      ids of s1 s2 s3 s4, and where each of them ends

What is a sentence, the data decides: it is a line. One longer than half a pair is cut into equal parts.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.text.readers import Document, Place, ReadReport, read_documents
from trasluz.training.encoder_examples import EncoderExamples
from trasluz.training.examples import Tokenizers, encode_texts, in_chunks

Stretch = tuple[Any, Any]
"""The ids of some sentences that follow each other, at least two, and where each of them ends."""


class DocumentExamples(EncoderExamples[Document]):
    """Documents without labels, each as many examples as it has stretches."""

    kind = "text"
    columns = ("ids", "ends")
    least = 2
    why_too_few = (
        "next sentences need two documents to train on and two to choose by, with an empty line between two documents "
        "of a plain file"
    )

    def settings(self) -> dict[str, Any]:
        """Return what the stored tokens depend on."""
        told = {"task": self.recipe.task, "next_sentence": True}
        return self.recipe.data.model_dump(include={"max_length"}) | told

    def read(self, entry: Any, report: ReadReport, sources: Sequence[str] | None = None) -> Iterator[Document]:
        """Yield the documents of a `data` entry."""
        return read_documents(entry, sources=sources, on_error=self.recipe.data.on_error, report=report)

    def texts(self, example: Document) -> tuple[str, ...]:
        """Return the document as one text: a line that another document has, too, is no reason to leave it out."""
        return ("\n".join(example.lines),)

    def passages(self, example: Document) -> tuple[str, ...]:
        """Return the lines."""
        return example.lines

    def to_record(self, example: Document) -> dict[str, Any]:
        """Return a document as an object."""
        return {"lines": list(example.lines)}

    def from_record(self, record: dict[str, Any]) -> Document:
        """Return the document of an object; where it was read is not kept."""
        return Document(tuple(record["lines"]), Place("", 0))

    def encoded(
        self, examples: Iterator[Document], tokenizers: Tokenizers
    ) -> Iterator[tuple[Document, tuple[Any, ...] | None]]:
        """Yield each document with its stretches, one after the other."""
        tokenizer: EncoderTokenizer = tokenizers[0]
        room = self.room(tokenizer, pair=True)
        texts = ((some, [[line for one in some for line in one.lines]]) for some in in_chunks(examples, self.texts))
        for some, (ids,) in encode_texts(texts, [tokenizer], None, None):
            lines = iter(ids)
            for document in some:
                sentences = [next(lines) for _ in document.lines]
                for stretch in stretches_of(sentences, room):
                    yield document, stretch


def stretches_of(sentences: Sequence[Any], room: int) -> Iterator[Stretch]:
    """Yield the stretches of a document, each of at most `room` pieces; what is too short for a pair is left out."""
    half = room // 2
    # Parts of at most half a stretch: no stretch but a document's last can have one alone.
    parts = chain.from_iterable(np.array_split(ids, -(-len(ids) // half)) for ids in sentences if len(ids))
    waiting: list[Any] = []
    for part in parts:
        if sum(map(len, waiting)) + len(part) > room:
            yield _joined(waiting)
            waiting = []
        waiting.append(part)
    if len(waiting) == 1:
        waiting = [part for part in np.array_split(waiting[0], 2) if len(part)]
    if len(waiting) > 1:
        yield _joined(waiting)


def _joined(parts: Sequence[Any]) -> Stretch:
    return np.concatenate(parts), np.cumsum([len(part) for part in parts])
