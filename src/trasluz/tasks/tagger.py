"""Names and other spans in a text, by a model that labels every word.

tag = trasluz.load("my-names")
tag("Ana Ruiz moved to Lima.").entities

Words are cut as in files of tagged words (`text/running_words.py`), and a word's tag is that of its first piece. Tags
become spans as in `text/entities.py`; they need not be those of entities.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, overload

import numpy as np
import torch

from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.tasks.grouping import TOGETHER, windows
from trasluz.tasks.text_task import TextInput, TextTask
from trasluz.text.encoder_tokenizer import EncodedText
from trasluz.text.entities import OUTSIDE, Entity, entity_decoder, is_entity_scheme
from trasluz.text.running_words import group_by_word
from trasluz.text.word_pieces import pieces_of_words


@dataclass(frozen=True)
class TaggedWord:
    """A word, where it stands in the text (characters, end exclusive), its tag and the tag's probability."""

    text: str
    start: int
    end: int
    tag: str
    score: float


@dataclass(frozen=True)
class TextEntity:
    """A labelled span of a text (characters, end exclusive); `score` is the mean over its words."""

    label: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class TaggedText:
    """A text's words with their tags, and the entities that these spell; `left_out` counts the tokens without room."""

    text: str
    entities: tuple[TextEntity, ...]
    words: tuple[TaggedWord, ...]
    left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return what `trasluz tag --json` prints."""
        return {
            "text": self.text,
            "entities": [vars(one) for one in self.entities],
            "words": [vars(one) for one in self.words],
            "left_out": self.left_out,
        }


class Tagger(TextTask):
    """A model with labels for words; called with a text or a list of texts."""

    verb = head_name = "tag"

    def __init__(
        self, loaded: LoadedModel, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        """Put the model on its device; its labels say how tags become entities."""
        super().__init__(loaded, device, dtype)
        self.finds_entities: bool = is_entity_scheme(self.labels)
        """Whether the labels are tags of entities, as B-PER is, and not of another kind, as NOUN is."""
        self._entities_of = entity_decoder(self.labels)

    def entities_of(self, tags: Sequence[str]) -> list[Entity]:
        """Return the entities that the tags of a text's words spell, places counted in words."""
        return self._entities_of(tags)

    @property
    def labels(self) -> tuple[str, ...]:
        """The tags, in the model's order."""
        return tuple(self.config.labels)

    @overload
    def __call__(self, text: str, *, batch_tokens: int | None = None) -> TaggedText: ...
    @overload
    def __call__(self, text: list[str] | tuple[str, ...], *, batch_tokens: int | None = None) -> list[TaggedText]: ...

    def __call__(
        self, text: str | list[str] | tuple[str, ...], *, batch_tokens: int | None = None
    ) -> TaggedText | list[TaggedText]:
        """Tag the words of a text, or of several."""
        texts = [text] if isinstance(text, str) else list(text)
        found = self._tag(texts, batch_tokens)
        return found[0] if isinstance(text, str) else found

    def stream(self, texts: Iterable[str], **options: Any) -> Iterator[TaggedText]:
        """Tag any number of texts, in order; see `__call__`."""
        return (one for window in windows(texts, TOGETHER) for one in self(window, **options))

    def tag_words(self, sentences: Iterable[Sequence[str]], *, batch_tokens: int | None = None) -> Iterator[list[str]]:
        """Yield the tags of sentences that are cut into words already, in order; one too long is read in pieces.

        A word that the tokenizer makes nothing of is outside of entities.
        """
        for window in windows(sentences, TOGETHER):
            pieces = [
                (number, piece)
                for number, found in enumerate(pieces_of_words(self.tokenizer, window, self.longest_text))
                for piece in found
            ]
            outside = OUTSIDE if OUTSIDE in self.labels else self.labels[0]
            tags = [[outside] * len(words) for words in window]
            begin = self.tokenizer.first_offset()
            inputs = [TextInput(*self.tokenizer.join(piece.ids), (), (begin,)) for _, piece in pieces]
            for group, _, hidden in self._states(inputs, batch_tokens):
                with torch.inference_mode():
                    best = self.head(hidden).argmax(-1).tolist()
                for row, place in enumerate(group):
                    number, piece = pieces[place]
                    for position in np.flatnonzero(piece.begins >= 0).tolist():
                        tags[number][int(piece.begins[position])] = self.labels[best[row][begin + position]]
            yield from tags

    def _tag(self, texts: Sequence[str], batch_tokens: int | None) -> list[TaggedText]:
        inputs = self._inputs(texts)
        found: dict[int, TaggedText] = {}
        for group, _, hidden in self._states(inputs, batch_tokens):
            with torch.inference_mode():
                best = self.head(hidden).float().softmax(-1).max(-1)
            for number, tags, scores in zip(group, best.indices.tolist(), best.values.tolist(), strict=True):
                found[number] = self._tagged(texts[number], inputs[number], tags, scores)
        return [found[number] for number in range(len(texts))]

    def _encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Return the pieces of each text, the first word cut as it is in training, where texts come as words."""
        return self.tokenizer.encode_batch(texts, like_words=True)

    def _tagged(self, text: str, one: TextInput, tags: Sequence[int], scores: Sequence[float]) -> TaggedText:
        encoded, (begin,) = one.texts[0].with_marks(text), one.begins
        starts = np.flatnonzero(encoded.word_starts).tolist()
        firsts, stretches = [], []
        for first, following in pairwise([*starts, len(encoded)]):
            begins, ends = int(encoded.spans[first, 0]), int(encoded.spans[following - 1, 1])
            # Byte-level pieces count the blank before a word as its own; several blanks have pieces of their own.
            begins += len(text[begins:ends]) - len(text[begins:ends].lstrip())
            if begins < ends:
                firsts.append(begin + first)
                stretches.append((begins, ends))
        words = []
        for group in group_by_word(text, stretches):
            first, begins, ends = firsts[group[0]], stretches[group[0]][0], stretches[group[-1]][1]
            words.append(TaggedWord(text[begins:ends], begins, ends, self.labels[tags[first]], scores[first]))
        entities = []
        for entity in self.entities_of([word.tag for word in words]):
            inside = words[entity.start : entity.end]
            start, end = inside[0].start, inside[-1].end
            score = sum(word.score for word in inside) / len(inside)
            entities.append(TextEntity(entity.label, text[start:end], start, end, score))
        return TaggedText(text, tuple(entities), tuple(words), one.left_out)
