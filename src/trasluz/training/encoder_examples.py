"""What the examples of all encoders share: one tokenizer, trained on the same text, and room beside special tokens."""

from collections.abc import Callable, Iterator
from pathlib import Path

from trasluz.errors import DataError, RecipeError, RequestError
from trasluz.text.encoder_tokenizer import EncoderTokenizer, train_encoder_tokenizer
from trasluz.training.examples import Examples, ExampleT, Tokenizers


class EncoderExamples(Examples[ExampleT]):
    """Examples that an encoder reads."""

    def passages(self, example: ExampleT) -> tuple[str, ...]:
        """Return what a tokenizer learns from an example."""
        return self.texts(example)

    def train_tokenizers(self, examples: Callable[[], Iterator[ExampleT]]) -> Tokenizers:
        """Train the tokenizer that the recipe asks for; RecipeError where it cannot be."""
        recipe, wanted = self.recipe, self.recipe.tokenizer
        if wanted.kind not in ("bpe", "wordpiece"):
            raise RecipeError(f"{recipe.place('tokenizer.kind')} is {wanted.kind}; an encoder's is bpe or wordpiece.")
        texts = (text for one in examples() for text in self.passages(one))
        try:
            trained = train_encoder_tokenizer(texts, wanted.kind, wanted.vocab_size, lowercase=wanted.lowercase)
        except RequestError as error:
            if isinstance(error, DataError):
                raise
            raise RecipeError(f"{recipe.place('tokenizer.vocab_size')}: {error}") from error
        return trained, trained

    def save_tokenizers(self, folder: Path, tokenizers: Tokenizers) -> None:
        """Write the tokenizer's files."""
        tokenizers[0].save(folder)

    def load_tokenizers(self, folder: Path) -> Tokenizers:
        """Read the tokenizer's files."""
        tokenizer = EncoderTokenizer.load(folder)
        return tokenizer, tokenizer

    def room(self, tokenizer: EncoderTokenizer, pair: bool = False) -> int:
        """Return how many pieces of text `data.max_length` leaves beside special tokens; RecipeError where none."""
        added = tokenizer.num_added(pair)
        room = self.recipe.data.max_length - added
        if room < 1 + pair:
            raise RecipeError(
                f"{self.recipe.place('data.max_length')} is {self.recipe.data.max_length}, which leaves no room for "
                f"text beside {added} special tokens"
            )
        return room
