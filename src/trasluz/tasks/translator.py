"""Translation for people: text in, text out, with the attention of every word.

translate = trasluz.load("pocket-en-es")
result = translate("The light comes through the paper.", to="es")
result.text, result.attention
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack, overload

import torch

from trasluz.checkpoints.generation_settings import forbidden_ids
from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.decoding.search import check_coverage, search
from trasluz.decoding.settings import DecodingTokens, Hypothesis, SearchSettings
from trasluz.errors import RequestError, nearest
from trasluz.inspection.attention_map import KINDS, AttentionMap, maps_of_heads, mean_map
from trasluz.inspection.recorder import record_attention
from trasluz.layers.attention import Attention
from trasluz.tasks.directions import Direction, directions_of
from trasluz.tasks.grouping import TOGETHER, windows
from trasluz.tasks.search_defaults import SearchOptions, changed_settings, search_defaults
from trasluz.tasks.task import Task
from trasluz.tasks.translation import Translation
from trasluz.text.batching import TranslationBatch, make_batch
from trasluz.text.glossary import Glossary
from trasluz.text.markup import Tag, find_words, parse_markup, place_markup

# Tokens of the longest source, where the model itself names no limit.
LONGEST_SOURCE = 512


@dataclass(frozen=True)
class _Request:
    """What a call asks for."""

    direction: Direction
    settings: SearchSettings
    batch_tokens: int
    glossary: Glossary
    markup: bool


class Translator(Task):
    """A translation model with its tokenizers; called with a text or a list of texts."""

    verb = "translate"

    def __init__(
        self, loaded: LoadedModel, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(loaded, device, dtype)
        self.target_tokenizer: Any = loaded.target_tokenizer
        self.directions = directions_of(loaded)
        self.longest_source: int = getattr(self.config, "max_positions", LONGEST_SOURCE)
        trained = getattr(self.config, "positions", None) == "trainable"
        self.settings = search_defaults(loaded.generation, self.longest_source if trained else None)
        self._tokens = DecodingTokens(self.config.start_id, self.config.eos_id, forbidden_ids(loaded.generation))

    @overload
    def __call__(
        self,
        text: str,
        to: str | None = None,
        from_: str | None = None,
        *,
        glossary: Mapping[str, str] | Glossary | None = None,
        markup: bool = False,
        **options: Unpack[SearchOptions],
    ) -> Translation: ...
    @overload
    def __call__(
        self,
        text: list[str] | tuple[str, ...],
        to: str | None = None,
        from_: str | None = None,
        *,
        glossary: Mapping[str, str] | Glossary | None = None,
        markup: bool = False,
        **options: Unpack[SearchOptions],
    ) -> list[Translation]: ...

    def __call__(
        self,
        text: str | list[str] | tuple[str, ...],
        to: str | None = None,
        from_: str | None = None,
        *,
        glossary: Mapping[str, str] | Glossary | None = None,
        markup: bool = False,
        **options: Unpack[SearchOptions],
    ) -> Translation | list[Translation]:
        """Translate one text, or several in one go; the tokens of each do not depend on the others.

        `to` and `from_` are needed only where the model translates more than one way. An empty text gives an empty one.
        `glossary` says which words must stand for which terms, {"light": "luz"}. With `markup`, inline tags and
        entities of HTML or XML in the text come back around the words they belong to. `options` are `SearchOptions`;
        what is not given is the model's own choice, `settings`. Raises RequestError for a language or an option that
        cannot be, and for a text longer than `longest_source` tokens.
        """
        texts = [text] if isinstance(text, str) else list(text)
        found = self._translate(texts, self._request(to, from_, glossary, markup, options))
        return found[0] if isinstance(text, str) else found

    def stream(
        self,
        texts: Iterable[str],
        to: str | None = None,
        from_: str | None = None,
        *,
        glossary: Mapping[str, str] | Glossary | None = None,
        markup: bool = False,
        **options: Unpack[SearchOptions],
    ) -> Iterator[Translation]:
        """Translate any number of texts, one after the other, reading TOGETHER of them ahead; see `__call__`."""
        request = self._request(to, from_, glossary, markup, options)
        numbered = enumerate(windows(texts, TOGETHER))
        return (one for nth, window in numbered for one in self._translate(window, request, nth * TOGETHER))

    def lengths(
        self, texts: Sequence[str], to: str | None = None, from_: str | None = None, *, markup: bool = False
    ) -> list[int]:
        """Return how many tokens the model reads for each text; more than `longest_source` cannot be translated."""
        plain = [parse_markup(text)[0] for text in texts] if markup else texts
        return [len(source) for source in self._encode(plain, self.directions.choose(to, from_))]

    def batch(
        self,
        texts: Sequence[str],
        target_texts: Sequence[str] | None = None,
        to: str | None = None,
        from_: str | None = None,
    ) -> TranslationBatch:
        """Return texts as the model takes them; without targets, each target is empty."""
        targets = [""] * len(texts) if target_texts is None else list(target_texts)
        if len(targets) != len(texts):
            raise RequestError(f"there are {len(texts)} texts, but {len(targets)} target texts: give one for each.")
        sources = self._source_ids(texts, self.directions.choose(to, from_))
        return self._batch([ids[:-1] for ids in sources], self.target_tokenizer.encode_batch(targets))

    def attention_maps(
        self,
        text: str,
        target_text: str | None = None,
        to: str | None = None,
        from_: str | None = None,
        *,
        kinds: Collection[str] = KINDS,
        layers: Collection[int] | None = None,
        heads: Collection[int] | None = None,
    ) -> list[AttentionMap]:
        """Return what every layer and head looks at while the target is written; without one, the model's translation.

        Kinds are "encoder" (source tokens over source tokens), "decoder" (each target token, over those read before it
        was written) and "cross" (each target token over the source). Layers and heads count from 0; None: all.
        """
        for kind in kinds:
            if kind not in KINDS:
                close = nearest(kind, KINDS)
                hint = f" Did you mean {close}?" if close else ""
                raise RequestError(f"there is no kind {kind!r}; it is one of {', '.join(KINDS)}.{hint}")
        if target_text is None:
            result = self(text, to, from_)
            source_ids, target_ids = result.source_ids, result.target_ids
        else:
            (source_ids,) = self._source_ids([text], self.directions.choose(to, from_))
            (target,) = self.target_tokenizer.encode_batch([target_text])
            target_ids = (*target, self._tokens.eos_id)
            self._check_length(len(target_ids), "the target text")
        return self._maps(source_ids, target_ids, kinds, layers, heads)

    def __repr__(self) -> str:
        ways = ", ".join(f"{d.from_language} to {d.to_language}" for d in self.directions.all if d.to_language)
        return f"Translator({self.name}{': ' + ways if ways else ''})"

    def _cross_attentions(self) -> list[Attention]:
        model: Any = self.model
        stack: list[Attention] = model.attentions().get("cross", [])
        return stack

    def _request(
        self,
        to: str | None,
        from_: str | None,
        glossary: Mapping[str, str] | Glossary | None,
        markup: bool,
        options: SearchOptions,
    ) -> _Request:
        direction = self.directions.choose(to, from_)
        if markup and self.attention_place is None:
            raise RequestError(
                f"{self.name} cannot carry markup over: it has no attention, by which tags find their words."
            )
        terms = glossary if isinstance(glossary, Glossary) else Glossary(glossary or {})
        settings, batch_tokens = changed_settings(self.settings, options)
        # Before the first text, not at the first that has a term.
        check_coverage(settings, has_attention=self.attention_place is not None, has_phrases=bool(terms))
        return _Request(direction, settings, batch_tokens, terms, markup)

    def _translate(self, texts: Sequence[str], request: _Request, before: int = 0) -> list[Translation]:
        """Translate texts that stand behind so many others."""
        parsed = [parse_markup(text) for text in texts] if request.markup else [(text, []) for text in texts]
        plain = [text for text, _ in parsed]
        sources = self._source_ids(plain, request.direction, before)
        empty = 1 if request.direction.tag_id is None else 2
        found: dict[int, list[Hypothesis]] = {
            position: [Hypothesis((self._tokens.eos_id,), 0.0, 0.0)]
            for position, source in enumerate(sources)
            if len(source) == empty
        }
        wanted = [position for position in range(len(texts)) if position not in found]
        phrases = self._phrases(request.glossary, plain)
        free = [position for position in wanted if position not in phrases]
        # A text with phrases of its own is searched alone.
        together = [*([free] if free else []), *([position] for position in wanted if position in phrases)]
        place = self.attention_place
        alignment = self._cross_attentions()[place[0]] if place else None
        model: Any = self.model
        for positions in together:
            batch = self._batch([sources[position][:-1] for position in positions], [()] * len(positions))
            required = phrases.get(positions[0], ())
            answers = search(
                *(model, batch.source, batch.source_lengths, request.settings, self._tokens, alignment, required),
                batch_tokens=request.batch_tokens,
            )
            found |= dict(zip(positions, answers, strict=True))
        translations = [
            self._translation(text, request.direction, source, found[position])
            for position, (text, source) in enumerate(zip(plain, sources, strict=True))
        ]
        if request.markup:
            for translation, given, (_, tags) in zip(translations, texts, parsed, strict=True):
                for one in (translation, *translation.alternatives):
                    self._put_markup_back(one, tags)
                    one.source = given
        return translations

    def _phrases(self, glossary: Glossary, texts: Sequence[str]) -> dict[int, list[tuple[int, ...]]]:
        """Return, for each text that has terms of the glossary, the ids that must stand in its target."""
        targets = {position: glossary.targets_in(text) for position, text in enumerate(texts)} if glossary else {}
        return {
            position: [tuple(ids) for ids in self.target_tokenizer.encode_batch(found)]
            for position, found in targets.items()
            if found
        }

    def _put_markup_back(self, translation: Translation, tags: Sequence[Tag]) -> None:
        """Put tags around the words of a plain translation, by what each word looked at most."""
        source, target = self.tokenizer, self.target_tokenizer
        source_words = find_words(translation.source, [word for word, _ in source.words(translation.source_ids)])
        words = find_words(translation.text, [word for word, _ in target.words(translation.target_ids)])
        # Language tag and end are words to the tokenizer, but no part of the text.
        of_source = [number for number, (begin, end) in enumerate(source_words) if end > begin]
        of_target = [number for number, (begin, end) in enumerate(words) if end > begin]
        aligned: list[int | None] = []
        if of_source and of_target:
            weights = translation.attention.words().weights[of_target][:, of_source]
            aligned = [int(most) for most in weights.argmax(axis=1)]
        translation.text = place_markup(
            translation.text,
            [words[number] for number in of_target],
            [source_words[number] for number in of_source],
            aligned or [None] * len(of_target),
            tags,
        )

    def _translation(
        self, text: str, direction: Direction, source_ids: tuple[int, ...], hypotheses: Sequence[Hypothesis]
    ) -> Translation:
        best, *others = (
            Translation(
                source=text,
                text=self.target_tokenizer.decode(hypothesis.ids),
                from_language=direction.from_language,
                to_language=direction.to_language,
                log_probability=hypothesis.log_probability,
                score=hypothesis.score,
                source_ids=source_ids,
                target_ids=hypothesis.ids,
                look=self._attention,
            )
            for hypothesis in hypotheses
        )
        best.alternatives = tuple(others)
        return best

    def _source_ids(self, texts: Sequence[str], direction: Direction, before: int = 0) -> list[tuple[int, ...]]:
        """Return each source as the model reads it: tag, text, end; none of them too long."""
        sources = self._encode(texts, direction)
        for number, source in enumerate(sources, start=before + 1):
            self._check_length(len(source), "the text" if before + len(texts) == 1 else f"text {number}")
        return sources

    def _encode(self, texts: Sequence[str], direction: Direction) -> list[tuple[int, ...]]:
        tag = () if direction.tag_id is None else (direction.tag_id,)
        return [(*tag, *ids, self._tokens.eos_id) for ids in self.tokenizer.encode_batch(texts)]

    def _check_length(self, num_tokens: int, what: str) -> None:
        if num_tokens > self.longest_source:
            raise RequestError(
                f"{what} has {num_tokens:,} tokens, but {self.name} takes at most {self.longest_source:,}: "
                "cut it into sentences."
            )

    def _batch(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> TranslationBatch:
        tokens = self._tokens
        batch = make_batch(sources, targets, pad_id=self.config.pad_id, start_id=tokens.start_id, eos_id=tokens.eos_id)
        return batch.to(self.device)

    def _attention(self, translation: Translation) -> AttentionMap:
        place = self.attention_place
        layer, head = place or (0, 0)
        heads = None if head == "mean" else [int(head)]
        maps = self._maps(translation.source_ids, translation.target_ids, ("cross",), [layer], heads)
        return mean_map(maps) if head == "mean" else maps[0]

    def _maps(
        self,
        source_ids: Sequence[int],
        target_ids: Sequence[int],
        kinds: Collection[str],
        layers: Collection[int] | None,
        heads: Collection[int] | None,
    ) -> list[AttentionMap]:
        """Return the attention of one pass over source and target, both with their end."""
        model: Any = self.model
        batch = self._batch([source_ids[:-1]], [target_ids[:-1]])
        with torch.inference_mode(), record_attention(model, layers, heads) as record:
            model(batch)
        source, target = self.tokenizer, self.target_tokenizer
        read_ids = [self._tokens.start_id, *target_ids[:-1]]
        of_source = source.tokens(source_ids), source.word_groups(source_ids)
        written = target.tokens(target_ids), target.word_groups(target_ids)
        read = target.tokens(read_ids), target.word_groups(read_ids)
        sides = {"encoder": (of_source, of_source), "decoder": (read, written), "cross": (of_source, written)}
        maps: list[AttentionMap] = []
        for kind in KINDS:
            if kind not in kinds:
                continue
            (source_tokens, source_words), (target_tokens, target_words) = sides[kind]
            for layer, recorded in getattr(record, kind).items():
                maps += maps_of_heads(
                    recorded.weights[0].cpu().numpy(),
                    source_tokens,
                    target_tokens,
                    kind=kind,  # type: ignore[arg-type]
                    layer=layer,
                    heads=None if heads is None else list(heads),
                    model=self.name,
                    source_words=source_words,
                    target_words=target_words,
                )
        return maps
