"""Sentence pairs as training examples: one vocabulary or two, tags for directions."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trasluz.checkpoints.model_folder import language_tag
from trasluz.checkpoints.tokenizer_files import TARGET_PREFIX, save_tokenizers
from trasluz.errors import DataError, RecipeError, RequestError
from trasluz.text.readers import Pair, Place, ReadReport, read_pairs
from trasluz.text.tokenizer import Tokenizer, train_tokenizer
from trasluz.training.examples import Examples, Tokenizers, encode_texts, in_chunks
from trasluz.training.recipe import Recipe

BACK_TRANSLATED = "<bt>"


class BackTranslated(Pair):
    """A pair of which a model wrote one side."""

    by_model: int
    """The number of that side, 0 or 1."""

    def __new__(cls, pair: Pair, by_model: int) -> "BackTranslated":
        """Say so of a pair."""
        made = super().__new__(cls, *pair)
        made.by_model = by_model
        return made


class TranslationExamples(Examples[Pair]):
    """Sentences and their translations."""

    kind = "pair"
    columns = ("source", "target")
    further = "back_translated"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.languages = recipe.data.languages
        self.has_two_tokenizers = not recipe.tokenizer.shared

    def settings(self) -> dict[str, Any]:
        """Return what the stored tokens depend on; tags stand in the vocabulary."""
        return self.recipe.data.model_dump(include={"languages", "max_length", "both_directions"})

    def read(self, entry: Any, report: ReadReport, sources: Sequence[str] | None = None) -> Iterator[Pair]:
        """Yield the pairs of a `data` entry."""
        return read_pairs(entry, self.languages, sources=sources, on_error=self.recipe.data.on_error, report=report)

    def read_further(self, report: ReadReport) -> Iterator[Pair]:
        """Yield the pairs of which a model wrote one side."""
        data = self.recipe.data
        for language, entry in data.back_translated.items():
            for pair in self.read(entry, report, data.sources):
                yield BackTranslated(pair, self.languages.index(language))

    def is_further(self, example: Pair) -> bool:
        """Tell whether a model wrote one side."""
        return isinstance(example, BackTranslated)

    def texts(self, example: Pair) -> tuple[str, ...]:
        """Return both sides."""
        return example.source, example.target

    def to_record(self, example: Pair) -> dict[str, Any]:
        """Return a pair by languages."""
        first, second = self.languages
        return {first: example.source, second: example.target}

    def from_record(self, record: dict[str, Any]) -> Pair:
        """Return the pair of an object; where it was read is not kept."""
        first, second = self.languages
        return Pair(record[first], record[second], Place("", 0))

    def train_tokenizers(self, examples: Callable[[], Iterator[Pair]]) -> Tokenizers:
        """Train one tokenizer on both sides, or one for each."""
        wanted = self.recipe.tokenizer
        data = self.recipe.data
        tags = [language_tag(language) for language in self.languages] if data.both_directions else []
        tags += [BACK_TRANSLATED] if data.back_translated else []
        normalization = "lowercase" if wanted.lowercase else "nfc"

        def train(texts: Iterator[str], special: Sequence[str] = ()) -> Tokenizer:
            return train_tokenizer(
                texts, wanted.kind, wanted.vocab_size, special_tokens=special, normalization=normalization
            )

        try:
            if wanted.shared:
                both = (text for pair in examples() for text in (pair.source, pair.target))
                shared = train(both, tags)
                return shared, shared
            return train((pair.source for pair in examples()), tags), train(pair.target for pair in examples())
        except RequestError as error:
            if isinstance(error, DataError):
                raise
            raise RecipeError(f"{self.recipe.place('tokenizer.vocab_size')}: {error}") from error

    def save_tokenizers(self, folder: Path, tokenizers: Tokenizers) -> None:
        """Write the files of both sides."""
        save_tokenizers(folder, *tokenizers)

    def load_tokenizers(self, folder: Path) -> Tokenizers:
        """Read the files of both sides; they are one and the same where they are shared."""
        source = Tokenizer.load(folder)
        has_two = (folder / f"{TARGET_PREFIX}tokenizer.json").exists()
        return source, Tokenizer.load(folder, TARGET_PREFIX) if has_two else source

    def encoded(
        self, examples: Iterator[Pair], tokenizers: Tokenizers
    ) -> Iterator[tuple[Pair, tuple[Any, ...] | None]]:
        """Yield each pair with the ids of its sides."""
        source, target = tokenizers

        def save(folder: Path) -> tuple[str, str]:
            save_tokenizers(folder, source, target)
            return "", "" if target is source else TARGET_PREFIX

        ours = isinstance(source, Tokenizer) and isinstance(target, Tokenizer)
        sides = (
            (some, [[pair.source for pair in some], [pair.target for pair in some]])
            for some in in_chunks(examples, self.texts)
        )
        longest, tag = self.recipe.data.max_length, back_translated_tag(self.recipe, source)
        for some, ids in encode_texts(sides, tokenizers, save if ours else None, self.recipe.training.threads):
            for pair, *of_sides in zip(some, *ids, strict=True):
                if tag is not None and isinstance(pair, BackTranslated):
                    of_sides[pair.by_model] = np.insert(of_sides[pair.by_model], 0, tag)
                yield pair, tuple(of_sides) if max(map(len, of_sides)) <= longest else None


def back_translated_tag(recipe: Recipe, tokenizer: Any) -> int | None:
    """Return the id of the tag before what a model wrote; None where the recipe has no such text."""
    if not recipe.data.back_translated:
        return None
    tag: int | None = tokenizer.id_of(BACK_TRANSLATED)
    if tag is None:
        raise RequestError(
            f"the tokenizer has no tag {BACK_TRANSLATED}, which data.back_translated needs: it comes in where a "
            "tokenizer is trained with such data, so begin with a new one"
        )
    return tag


def direction_tags(recipe: Recipe, tokenizer: Any) -> tuple[int, int] | None:
    """Return the ids of the tags that say where to, for pairs as they stand and turned round; None: one direction."""
    if not recipe.data.both_directions:
        return None
    first, second = (tokenizer.id_of(language_tag(language)) for language in recipe.data.languages)
    if first is None or second is None:
        raise RequestError(
            f"the tokenizer has no tags {' and '.join(map(language_tag, recipe.data.languages))}, which "
            "data.both_directions needs: train a new one, or set data.both_directions to false"
        )
    return second, first
