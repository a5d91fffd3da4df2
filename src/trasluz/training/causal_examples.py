"""Documents to be continued: lines, whole files or rows of tables, as ids with the end of a document behind each."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from trasluz.errors import DataError, RecipeError, RequestError
from trasluz.text.byte_tokenizer import ByteTokenizer
from trasluz.text.byte_tokenizer_training import BYTE_KINDS, train_byte_tokenizer
from trasluz.text.documents import document_ids, stretches
from trasluz.text.readers import Place, ReadReport, Text, read_texts
from trasluz.training.examples import Examples, Tokenizers, in_chunks


class CausalExamples(Examples[Text]):
    """Documents; each is kept with its line ends."""

    kind = "document"
    columns = ("ids",)

    def settings(self) -> dict[str, Any]:
        """Return what the stored tokens depend on: how long windows are is no part of it."""
        return {"task": self.recipe.task, "document": self.recipe.data.document}

    def read(self, entry: Any, report: ReadReport, sources: Sequence[str] | None = None) -> Iterator[Text]:
        """Yield the documents of a `data` entry."""
        data = self.recipe.data
        return read_texts(
            entry, sources=sources, on_error=data.on_error, report=report, whole_files=data.document == "file"
        )

    def texts(self, example: Text) -> tuple[str, ...]:
        """Return the document."""
        return (example.text,)

    def to_record(self, example: Text) -> dict[str, Any]:
        """Return a document as an object."""
        return {"text": example.text}

    def from_record(self, record: dict[str, Any]) -> Text:
        """Return the document of an object; where it was read is not kept."""
        return Text(record["text"], Place("", 0))

    def look_over(self, examples: Callable[[], Iterator[Text]]) -> None:
        """Raise DataError where of a single document a part would have to be held out."""
        if self.recipe.data.valid is None and len(list(islice(examples(), 2))) == 1:
            raise DataError(
                f"{self.recipe.place('data.train')} is a single document, of which none can be held out: name another "
                "in data.valid, or take every line as a document with data.document: line"
            )

    def train_tokenizers(self, examples: Callable[[], Iterator[Text]]) -> Tokenizers:
        """Train the tokenizer that the recipe asks for; RecipeError where it cannot be."""
        recipe, wanted = self.recipe, self.recipe.tokenizer
        if wanted.kind not in BYTE_KINDS:
            raise RecipeError(
                f"{recipe.place('tokenizer.kind')} is {wanted.kind}; where texts are continued it is "
                f"{' or '.join(BYTE_KINDS)}"
            )
        pieces = (piece for one in examples() for piece in stretches(one.text))
        try:
            trained = train_byte_tokenizer(pieces, wanted.kind, wanted.vocab_size)
        except RequestError as error:
            if isinstance(error, DataError):
                raise
            raise RecipeError(f"{recipe.place('tokenizer.vocab_size')}: {error}") from error
        return trained, trained

    def save_tokenizers(self, folder: Path, tokenizers: Tokenizers) -> None:
        """Write the tokenizer's files."""
        tokenizers[0].save(folder)

    def load_tokenizers(self, folder: Path) -> Tokenizers:
        """Read the tokenizer's files; RecipeError where it has no token that could stand between documents."""
        tokenizer = ByteTokenizer.load(folder)
        if tokenizer.end_id is None:
            raise RecipeError(
                f"{self.recipe.place('tokenizer.load')}: the tokenizer in {folder} names no token between documents "
                "(eos_token)"
            )
        return tokenizer, tokenizer

    def encoded(
        self, examples: Iterator[Text], tokenizers: Tokenizers
    ) -> Iterator[tuple[Text, tuple[Any, ...] | None]]:
        """Yield each document with its ids, the end behind them."""
        for some in in_chunks(examples, self.texts):
            found = document_ids(tokenizers[0], [one.text for one in some], tokenizers[0].end_id)
            for text, ids in zip(some, found, strict=True):
                yield text, (ids,)
