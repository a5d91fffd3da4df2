"""Words for the masked places of a text, by a model that was pre-trained to guess them.

fill = trasluz.load("pocket-bert", task="fill-mask")
fill("The paper lets the [MASK] through.").masks[0].candidates[0].token
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch

from trasluz.errors import RequestError
from trasluz.tasks.grouping import TOGETHER, windows
from trasluz.tasks.text_task import TextInput, TextTask


@dataclass(frozen=True)
class Candidate:
    """A token for a masked place, and how likely the model holds it."""

    token: str
    token_id: int
    probability: float


@dataclass(frozen=True)
class FilledMask:
    """One masked place: where it begins in the text, in characters, and the likeliest tokens, best first."""

    start: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class FilledText:
    """A text with its masked places, in order; each is filled as if the others stayed masked.

    `filled` is the text with the best token at every place. `left_out` counts the tokens that had no room in the model.
    """

    text: str
    filled: str
    masks: tuple[FilledMask, ...]
    left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return what `trasluz fill-mask --json` prints."""
        return {
            "text": self.text,
            "filled": self.filled,
            "masks": [
                {
                    "start": mask.start,
                    "candidates": [{"token": one.token, "probability": one.probability} for one in mask.candidates],
                }
                for mask in self.masks
            ],
            "left_out": self.left_out,
        }


class MaskFiller(TextTask):
    """A model for masked words; called with a text or a list of texts, each with at least one mask."""

    verb = head_name = "fill-mask"
    reads_masks = True

    @property
    def mask_token(self) -> str:
        """What stands in a text for a word to be guessed, such as [MASK]; RequestError where there is no such token."""
        if self.tokenizer.mask_id is None:
            raise RequestError(f"the tokenizer of {self.name} has no mask token, so that no word can be asked for.")
        return self.tokenizer.tokens([self.tokenizer.mask_id])[0]

    @overload
    def __call__(self, text: str, *, top: int = 5, batch_tokens: int | None = None) -> FilledText: ...
    @overload
    def __call__(
        self, text: list[str] | tuple[str, ...], *, top: int = 5, batch_tokens: int | None = None
    ) -> list[FilledText]: ...

    def __call__(
        self, text: str | list[str] | tuple[str, ...], *, top: int = 5, batch_tokens: int | None = None
    ) -> FilledText | list[FilledText]:
        """Fill the masked places of a text, or of several, with their `top` likeliest tokens.

        A blank text stays one. Raises RequestError for any other without a mask, or with its masks behind the model's
        last position.
        """
        texts = [text] if isinstance(text, str) else list(text)
        found = self._fill(texts, top, batch_tokens)
        return found[0] if isinstance(text, str) else found

    def stream(self, texts: Iterable[str], **options: Any) -> Iterator[FilledText]:
        """Fill any number of texts, in order; see `__call__`."""
        return (one for window in windows(texts, TOGETHER) for one in self(window, **options))

    def _fill(self, texts: Sequence[str], top: int, batch_tokens: int | None) -> list[FilledText]:
        if not 1 <= top <= self.config.vocab_size:
            raise RequestError(
                f"`top` must be from 1 to the vocabulary's {self.config.vocab_size:,} tokens, but is {top}."
            )
        inputs = self._inputs(texts)
        places = [self._places(number, text, one) for number, (text, one) in enumerate(zip(texts, inputs, strict=True))]
        found: dict[int, FilledText] = {}
        for group, states in self._states_at(inputs, places, batch_tokens):
            with torch.inference_mode():
                likely = self.head(states).float().softmax(-1).topk(top)
            answers = iter(zip(likely.indices.tolist(), likely.values.tolist(), strict=True))
            for number in group:
                masks = [next(answers) for _ in places[number]]
                found[number] = self._filled(texts[number], inputs[number], places[number], masks)
        return [found[number] for number in range(len(texts))]

    def _places(self, number: int, text: str, one: TextInput) -> list[int]:
        places = np.flatnonzero(np.asarray(one.ids) == self.tokenizer.mask_id).tolist()
        if places or not text.strip():
            return [int(place) for place in places]
        which = "the text" if number == 0 else f"text {number + 1}"
        token = self.mask_token
        if one.left_out and token in text:
            raise RequestError(
                f"{which} has no {token} among the {self.longest_text:,} of its tokens that {self.name} reads."
            )
        raise RequestError(f"{which} has no {token}, which says what to fill: {text[:60]!r}.")

    def _filled(
        self, text: str, one: TextInput, places: Sequence[int], answers: Sequence[tuple[list[int], list[float]]]
    ) -> FilledText:
        spans = one.texts[0].spans
        masks: list[FilledMask] = []
        filled, end = "", 0
        for place, (ids, probabilities) in zip(places, answers, strict=True):
            tokens = [self._shown(index) for index in ids]
            candidates = tuple(
                Candidate(token, index, probability)
                for token, index, probability in zip(tokens, ids, probabilities, strict=True)
            )
            # Where a mask token swallows the blank before it, its span does so too.
            start, stop = (int(number) for number in spans[place - one.begins[0]])
            start = stop - len(self.mask_token)
            masks.append(FilledMask(start, candidates))
            filled += text[end:start] + candidates[0].token.removeprefix("##")
            end = stop
        return FilledText(text, filled + text[end:], tuple(masks), one.left_out)

    def _shown(self, index: int) -> str:
        # The mark of a word's beginning says nothing here: the place in the text does.
        token = self.tokenizer.tokens([index])[0]
        return token.removeprefix("▁") or token
