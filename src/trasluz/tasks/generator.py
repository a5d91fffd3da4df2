"""Continuing texts, for people: a prompt in, what follows it out, at once or piece by piece.

generate = trasluz.load("runs/pocket-gpt-es")
generate("En un lugar", max_tokens=40, temperature=0.8, seed=1).text
for piece in generate.stream("En un lugar"):
    print(piece, end="")
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, ClassVar, Literal, Unpack, overload

import torch

from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.decoding.beam_search import Reading, beam_search
from trasluz.decoding.sampling import Sampling, generator_of
from trasluz.decoding.settings import NO_END, DecodingTokens, Hypothesis, SearchSettings
from trasluz.errors import RequestError
from trasluz.inspection.attention_map import AttentionMap, maps_of_heads, mean_map
from trasluz.inspection.recorder import record_attention
from trasluz.tasks.generation import Generation
from trasluz.tasks.generation_defaults import generation_defaults
from trasluz.tasks.generation_options import GenerationOptions, GenerationSettings, chosen_settings
from trasluz.tasks.option_checks import one_prompt, prompts_of
from trasluz.tasks.task import Task
from trasluz.text.batching import CausalBatch, make_causal_batch
from trasluz.text.growing_text import GrowingText

# A limit relative to the prompt's length that no text reaches.
_NO_RATIO = 1e6


class Generator(Task):
    """A model that continues texts, with its tokenizer; called with a prompt or a list of prompts."""

    verb = "generate"
    attention_kind: ClassVar[str] = "decoder"

    def __init__(
        self, loaded: LoadedModel, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(loaded, device, dtype)
        self.longest_text: int = self.config.longest_text
        self._defaults = generation_defaults(loaded.generation, self.longest_text)
        own_end = () if self.config.eos_id is None else (self.config.eos_id,)
        self._ends = self._defaults.ends or own_end
        # A text has no token it begins with: the model takes the prompt's last.
        self._tokens = DecodingTokens(0, self._ends[0] if self._ends else NO_END)

    @overload
    def __call__(self, prompt: str, **options: Unpack[GenerationOptions]) -> Generation: ...
    @overload
    def __call__(
        self, prompt: list[str] | tuple[str, ...], **options: Unpack[GenerationOptions]
    ) -> list[Generation]: ...

    def __call__(
        self, prompt: str | list[str] | tuple[str, ...], **options: Unpack[GenerationOptions]
    ) -> Generation | list[Generation]:
        """Continue one prompt, or several in one go; what follows each does not depend on the others.

        An empty prompt gives a text from its beginning. `options` are `GenerationOptions`. Raises RequestError for an
        option that cannot be, and for a prompt longer than `longest_text` tokens, unless it may slide.
        """
        settings = self.settings(**options)
        prompts = prompts_of(prompt)
        sources = self._prompt_ids(prompts, settings)
        found: dict[int, Generation] = {}
        for group in self._groups(sources, settings):
            source = torch.tensor([sources[place] for place in group], device=self.device)
            continue_all = self._drawn if settings.beam in (None, 1) else self._searched
            answers = continue_all([prompts[place] for place in group], source, settings)
            found |= dict(zip(group, answers, strict=True))
        answered = [found[place] for place in range(len(prompts))]
        return answered[0] if isinstance(prompt, str) else answered

    def stream(self, prompt: str, **options: Unpack[GenerationOptions]) -> Iterator[str]:
        """Continue one prompt, piece by piece; together the pieces are the `text` that a call gives.

        No piece holds half a character, or anything of a stop string. Raises RequestError as a call does, and for
        several samples or a beam, of which nothing is known before the last token.
        """
        settings = self.settings(**options)
        for name, value in {"samples": settings.samples, "beam": settings.beam or 1}.items():
            if value > 1:
                raise RequestError(f"`{name}` is {value}, but only one text can be given out piece by piece.")
        (ids,) = self._prompt_ids([one_prompt(prompt)], settings)
        return self._pieces(torch.tensor([ids], device=self.device), settings)

    def settings(self, **options: Unpack[GenerationOptions]) -> GenerationSettings:
        """Return what is done for these options; RequestError for one that cannot be."""
        return chosen_settings(self._defaults, options)

    def batch(self, texts: Sequence[str]) -> CausalBatch:
        """Return texts as the model reads them; behind each stands the end of a document, as its last target."""
        end = self.config.pad_id if self.config.eos_id is None else self.config.eos_id
        ids = [[*text, end] for text in self.tokenizer.encode_batch(texts)]
        for number, text in enumerate(ids, start=1):
            self._check_length(len(text) - 1, "the text" if len(texts) == 1 else f"text {number}")
        return make_causal_batch(ids, pad_id=self.config.pad_id).to(self.device)

    def attention_maps(
        self, text: str, *, layers: Collection[int] | None = None, heads: Collection[int] | None = None
    ) -> list[AttentionMap]:
        """Return what every token of a text looks at, itself and those before it, a map for each layer and head.

        Layers and heads count from 0; None: all.
        """
        return self._maps(self.tokenizer.encode(text), layers, heads)

    def _prompt_ids(self, prompts: Sequence[str], settings: GenerationSettings) -> list[tuple[int, ...]]:
        """Return each prompt as the model reads it, of one token at least, none of them too long."""
        found = []
        for number, ids in enumerate(self.tokenizer.encode_batch(prompts), start=1):
            what = "the prompt" if len(prompts) == 1 else f"prompt {number}"
            if not ids and self.config.eos_id is None:
                raise RequestError(
                    f"{what} is empty, and {self.name} has no token that a text begins with: give it a first word."
                )
            if not settings.slide:
                self._check_length(len(ids), what, "shorten it, or let it slide (slide=True, --slide)")
            found.append(tuple(ids) or (self.config.eos_id,))
        return found

    def _check_length(self, num_tokens: int, what: str, advice: str = "shorten it") -> None:
        if num_tokens > self.longest_text:
            raise RequestError(
                f"{what} has {num_tokens:,} tokens, but {self.name} reads at most {self.longest_text:,}: {advice}."
            )

    def _groups(self, sources: Sequence[Sequence[int]], settings: GenerationSettings) -> Iterator[list[int]]:
        """Yield the places of prompts of one length, as many as the budget of tokens allows."""
        by_length: dict[int, list[int]] = {}
        for place, source in enumerate(sources):
            by_length.setdefault(len(source), []).append(place)
        for length, places in by_length.items():
            rows = max(settings.samples, settings.beam or 1)
            count = max(1, settings.batch_tokens // (rows * (length + settings.max_tokens)))
            yield from (places[begin : begin + count] for begin in range(0, len(places), count))

    def _room(self, num_tokens: int, settings: GenerationSettings) -> int:
        """Return how many tokens can follow a prompt; the last of them needs no place in the window."""
        return settings.max_tokens if settings.slide else min(settings.max_tokens, self.longest_text - num_tokens + 1)

    def _sampling(self, source: torch.Tensor, settings: GenerationSettings) -> Sampling[Any]:
        # What a prompt draws follows from itself, whatever stands beside it.
        generators = [
            generator_of(settings.seed, sample, ids) for ids in source.tolist() for sample in range(settings.samples)
        ]
        model: Any = self.model
        window = self.longest_text if settings.slide else None
        room = self._room(source.shape[1], settings)
        return Sampling(model, source, settings.drawing, self._tokens, generators, room, window)

    def _drawn(
        self, prompts: Sequence[str], source: torch.Tensor, settings: GenerationSettings
    ) -> Iterator[Generation]:
        sampling = self._sampling(source, settings)
        rows = range(len(source) * settings.samples)
        texts = [GrowingText(settings.stop) for _ in rows]
        ids: list[list[int]] = [[] for _ in rows]
        totals = [0.0 for _ in rows]
        while not sampling.is_over:
            for one in sampling.step():
                ids[one.row].append(one.token)
                totals[one.row] += one.log_probability
                texts[one.row].add(self.tokenizer.bytes_of(one.token))
                if texts[one.row].stopped or one.token in self._ends:
                    sampling.stop([one.row])
        for place, (prompt, prompt_ids) in enumerate(zip(prompts, source.tolist(), strict=True)):
            own = range(place * settings.samples, (place + 1) * settings.samples)
            hypotheses = [Hypothesis(tuple(ids[row]), totals[row], totals[row]) for row in own]
            yield self._generation(prompt, prompt_ids, hypotheses, settings)

    def _searched(
        self, prompts: Sequence[str], source: torch.Tensor, settings: GenerationSettings
    ) -> Iterator[Generation]:
        how = SearchSettings(
            beam=settings.beam or 1,
            nbest=settings.samples,
            length_penalty=self._defaults.length_penalty,
            normalization="power",
            max_length_ratio=_NO_RATIO,
            max_length=self._room(source.shape[1], settings),
            at_limit="open",
        )
        model: Any = self.model
        lengths = torch.full((len(source),), source.shape[1], device=self.device)
        answers = beam_search(model, source, lengths, how, self._tokens, reading=self._reading(settings.stop))
        for prompt, prompt_ids, hypotheses in zip(prompts, source.tolist(), answers, strict=True):
            yield self._generation(prompt, prompt_ids, hypotheses, settings)

    def _generation(
        self, prompt: str, prompt_ids: Sequence[int], hypotheses: Sequence[Hypothesis], settings: GenerationSettings
    ) -> Generation:
        best, *others = (self._one(prompt, prompt_ids, one, settings) for one in hypotheses)
        best.alternatives = tuple(others)
        return best

    def _one(
        self, prompt: str, prompt_ids: Sequence[int], found: Hypothesis, settings: GenerationSettings
    ) -> Generation:
        text = self._text(found.ids, settings.stop)
        reason: Literal["end", "stop", "length"] = "end" if found.ids[-1] in self._ends else "length"
        return Generation(
            prompt=prompt,
            text=text.text,
            log_probability=found.log_probability,
            score=found.score,
            reason="stop" if text.stopped else reason,
            prompt_ids=tuple(prompt_ids),
            ids=found.ids,
            look=self._attention,
        )

    def _text(self, ids: Sequence[int], stop: Sequence[str]) -> GrowingText:
        text = GrowingText(stop)
        for index in ids:
            text.add(self.tokenizer.bytes_of(index))
        text.finish()
        return text

    def _reading(self, stop: Sequence[str]) -> Reading:
        """Return what a beam must know: a text ends with any of the model's ends, and where a stop string is complete.

        Without stop strings every sequence of tokens counts as a text of its own, as in other libraries.
        """
        stops = [string.encode() for string in stop]
        longest = max(map(len, stops), default=0)

        def ended(ids: Sequence[int]) -> bool:
            tail = self.tokenizer.bytes_of(ids[-1])
            # What the last token completes begins within these bytes.
            enough = len(tail) + longest - 1
            for index in reversed(ids[:-1]):
                if len(tail) >= enough:
                    break
                tail = self.tokenizer.bytes_of(index) + tail
            return ids[-1] in self._ends or any(string in tail for string in stops)

        return Reading(ended, text=lambda ids: self._text(ids, stop).text if stop else tuple(ids))

    def _pieces(self, source: torch.Tensor, settings: GenerationSettings) -> Iterator[str]:
        sampling = self._sampling(source, settings)
        text = GrowingText(settings.stop)
        while not sampling.is_over:
            (one,) = sampling.step()
            if piece := text.add(self.tokenizer.bytes_of(one.token)):
                yield piece
            if text.stopped or one.token in self._ends:
                break
        if rest := text.finish():
            yield rest

    def _attention(self, generation: Generation) -> AttentionMap:
        layer, head = self.attention_place or (0, 0)
        heads = None if head == "mean" else [int(head)]
        ids = [*generation.prompt_ids, *generation.ids]
        if len(ids) == self.longest_text + 1:
            # The text ended with the window: its last token was written, and never read.
            ids.pop()
        maps = self._maps(ids, [layer], heads)
        return mean_map(maps) if head == "mean" else maps[0]

    def _maps(
        self, ids: Sequence[int], layers: Collection[int] | None, heads: Collection[int] | None
    ) -> list[AttentionMap]:
        self._check_length(len(ids), "the text")
        if not ids:
            raise RequestError("the text is empty: there is nothing to look at.")
        model: Any = self.model
        with torch.inference_mode(), record_attention(model, layers, heads) as record:
            model(make_causal_batch([[*ids, self.config.pad_id]], pad_id=self.config.pad_id).to(self.device))
        tokens, words = self.tokenizer.tokens(ids), self.tokenizer.word_groups(ids)
        return [
            one
            for layer, recorded in record.decoder.items()
            for one in maps_of_heads(
                recorded.weights[0].float().cpu().numpy(),
                tokens,
                tokens,
                kind="decoder",
                layer=layer,
                heads=None if heads is None else list(heads),
                model=self.name,
                source_words=words,
                target_words=words,
            )
        ]
