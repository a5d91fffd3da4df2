"""Answers that stand in a text: which stretch of it answers a question (Devlin et al. 2019, section 4.2).

answer = trasluz.load("my-reader")
answer("Who lit the lamp?", context="When evening came, Irene lit the lamp.").text

A context longer than the model is read in windows that overlap. How the best stretch is found, and what its probability
is, says `answer_spans.py`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch

from trasluz.errors import RequestError
from trasluz.tasks.answer_spans import LONGEST_ANSWER, Span, SpanSearch, windows_of
from trasluz.tasks.text_task import TextInput, TextTask
from trasluz.text.context_windows import context_parts, fitting_overlap, room_beside
from trasluz.text.encoder_tokenizer import EncodedText


@dataclass(frozen=True)
class Answer:
    """A stretch of the context (characters, end exclusive), and its probability; no text: the context has no answer.

    `alternatives` are the next best.
    """

    question: str
    text: str
    start: int
    end: int
    score: float
    alternatives: tuple["Answer", ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what `trasluz answer --json` prints."""
        place = {"text": self.text, "start": self.start, "end": self.end, "score": self.score}
        others = [
            {"text": one.text, "start": one.start, "end": one.end, "score": one.score} for one in self.alternatives
        ]
        return {"question": self.question, **place, "alternatives": others}


class Answerer(TextTask):
    """A model that finds answers; called with a question, or a list of questions, about a context."""

    verb = head_name = "answer"

    @overload
    def __call__(
        self,
        question: str,
        context: str,
        *,
        top: int = 1,
        no_answer: bool = False,
        longest_answer: int = LONGEST_ANSWER,
        overlap: int | None = None,
        batch_tokens: int | None = None,
    ) -> Answer: ...
    @overload
    def __call__(
        self,
        question: list[str] | tuple[str, ...],
        context: str | Sequence[str],
        *,
        top: int = 1,
        no_answer: bool = False,
        longest_answer: int = LONGEST_ANSWER,
        overlap: int | None = None,
        batch_tokens: int | None = None,
    ) -> list[Answer]: ...

    def __call__(
        self,
        question: str | list[str] | tuple[str, ...],
        context: str | Sequence[str],
        *,
        top: int = 1,
        no_answer: bool = False,
        longest_answer: int = LONGEST_ANSWER,
        overlap: int | None = None,
        batch_tokens: int | None = None,
    ) -> Answer | list[Answer]:
        """Answer a question, or several, from one context or from one for each.

        `top` counts the answers wanted, the best among them. `longest_answer` counts tokens; `overlap` those that
        stand in two windows: 128, or half of a short window, where it is not given. With `no_answer` there may be
        none, and the text is empty, as it is for a blank question. Raises RequestError for a question that leaves no
        room.
        """
        questions = [question] if isinstance(question, str) else list(question)
        contexts = [context] * len(questions) if isinstance(context, str) else list(context)
        if len(contexts) != len(questions):
            raise RequestError(
                f"there are {len(questions)} questions, but {len(contexts)} contexts: give one for each."
            )
        for name, value in (("top", top), ("longest_answer", longest_answer)):
            if value < 1:
                raise RequestError(f"`{name}` must be at least 1, but is {value}.")
        # Many questions have one context, which is cut into tokens once.
        different = list(dict.fromkeys(contexts))
        encoded = zip(different, self.tokenizer.encode_batch(different), strict=True)
        told = {text: pieces.with_marks(text) for text, pieces in encoded}
        windows = [
            (number, window)
            for number, (asked, context) in enumerate(
                zip(self.tokenizer.encode_batch(questions), contexts, strict=True)
            )
            if questions[number].strip()
            for window in self._windows(asked, told[context], overlap)
        ]
        found = [SpanSearch() for _ in questions]
        for group, _, hidden in self._states([window for _, window in windows], batch_tokens):
            with torch.inference_mode():
                scores = self.head(hidden).float().cpu().numpy()
            for row, place in enumerate(group):
                number, window = windows[place]
                found[number].look(window, scores[row], longest_answer, top)
        answers = [
            _answer(text, context, one.best(context, top, no_answer)) if text.strip() else Answer(text, "", 0, 0, 1.0)
            for one, text, context in zip(found, questions, contexts, strict=True)
        ]
        return answers[0] if isinstance(question, str) else answers

    def _windows(self, asked: EncodedText, told: EncodedText, overlap: int | None) -> list[TextInput]:
        room = room_beside(len(asked), self.tokenizer, self.longest_text)
        if room < 1:
            raise RequestError(
                f"the question has {len(asked):,} tokens, which leave no room for a context among the "
                f"{self.longest_text:,} that {self.name} reads."
            )
        if overlap is None:
            overlap = fitting_overlap(room)
        if not 0 <= overlap < room:
            raise RequestError(f"`overlap` must be from 0 to {room - 1} beside this question, but is {overlap}.")
        return windows_of(context_parts(told, room, overlap), asked, self.tokenizer)


def _answer(question: str, context: str, spans: Sequence[Span]) -> Answer:
    """Return the best of the spans as an answer, and the others beside it."""
    answers = [Answer(question, context[start:end], start, end, score) for start, end, score in spans]
    return dataclasses.replace(answers[0], alternatives=tuple(answers[1:]))
