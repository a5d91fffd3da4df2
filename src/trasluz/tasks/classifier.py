"""A label for a text, or for a pair of texts.

classify = trasluz.load("my-topics")
classify("The match ended two to one.").label

    one:      softmax over the labels         several:  a sigmoid for each label, those of at least 0.5 hold
    number:   the score itself
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch

from trasluz.errors import RequestError
from trasluz.tasks.grouping import TOGETHER, windows
from trasluz.tasks.text_task import TextTask

# A label of several that is as likely as not is said to hold.
_HOLDS = 0.5


@dataclass(frozen=True)
class Classification:
    """A text's labels, the likeliest first, with their probabilities; of a number, its name and value.

    `labels` are those that hold: one, or of several any number. `left_out` counts the tokens that had no room.
    """

    text: str
    scores: dict[str, float]
    labels: tuple[str, ...]
    second_text: str | None = None
    left_out: int = 0

    @property
    def label(self) -> str:
        """The likeliest label."""
        return next(iter(self.scores))

    @property
    def score(self) -> float:
        """The likeliest label's probability; of a number, its value."""
        return next(iter(self.scores.values()))

    def to_dict(self) -> dict[str, Any]:
        """Return what `trasluz classify --json` prints."""
        pair = {} if self.second_text is None else {"second_text": self.second_text}
        return {
            "text": self.text,
            **pair,
            "label": self.label,
            "score": self.score,
            "labels": list(self.labels),
            "scores": self.scores,
            "left_out": self.left_out,
        }


class Classifier(TextTask):
    """A model with labels for whole texts; called with a text or a list of texts."""

    verb = head_name = "classify"

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, in the model's order."""
        return tuple(self.config.labels)

    @overload
    def __call__(
        self, text: str, second_text: str | None = None, *, batch_tokens: int | None = None
    ) -> Classification: ...
    @overload
    def __call__(
        self,
        text: list[str] | tuple[str, ...],
        second_text: Sequence[str] | None = None,
        *,
        batch_tokens: int | None = None,
    ) -> list[Classification]: ...

    def __call__(
        self,
        text: str | list[str] | tuple[str, ...],
        second_text: str | Sequence[str] | None = None,
        *,
        batch_tokens: int | None = None,
    ) -> Classification | list[Classification]:
        """Label a text, or several; `second_text` is the other half of each pair where the model judges pairs.

        Raises RequestError where one of them is a text and the other is a list.
        """
        alone = isinstance(text, str)
        if second_text is not None and isinstance(second_text, str) != alone:
            kinds = ("a text", "a list") if alone else ("a list", "a text")
            raise RequestError(f"`text` is {kinds[0]}, but `second_text` is {kinds[1]}: give two texts, or two lists.")
        texts = [text] if isinstance(text, str) else list(text)
        pairs = [second_text] if isinstance(second_text, str) else None if second_text is None else list(second_text)
        found = self._classify(texts, pairs, batch_tokens)
        return found[0] if alone else found

    def stream(self, texts: Iterable[str], **options: Any) -> Iterator[Classification]:
        """Label any number of texts, in order; see `__call__`."""
        return (one for window in windows(texts, TOGETHER) for one in self(window, **options))

    def _classify(
        self, texts: Sequence[str], pairs: Sequence[str] | None, batch_tokens: int | None
    ) -> list[Classification]:
        inputs = self._inputs(texts, pairs)
        scores: dict[int, list[float]] = {}
        kind = self.config.label_kind
        for group, firsts in self._states_at(inputs, [[0]] * len(inputs), batch_tokens):
            with torch.inference_mode():
                logits = self.head(firsts[:, None]).float()
            shown = {"one": logits.softmax(-1), "several": logits.sigmoid(), "number": logits}[kind]
            scores |= dict(zip(group, shown.tolist(), strict=True))
        found = []
        for number, (text, one) in enumerate(zip(texts, inputs, strict=True)):
            named = dict(sorted(zip(self.labels, scores[number], strict=True), key=lambda pair: -pair[1]))
            held = [label for label, score in named.items() if score >= _HOLDS] if kind == "several" else [*named][:1]
            found.append(Classification(text, named, tuple(held), pairs[number] if pairs else None, one.left_out))
        return found
