"""Answers that stand in a text: which stretch of it answers a question (Devlin et al. 2019, section 4.2).

answer = trasluz.load("my-reader")
answer("Who lit the lamp?", context="When evening came, Irene lit the lamp.").text

    score(i, j) = start_i + end_j,  i <= j < i + longest        probability: softmax over the spans of all windows

A context longer than the model is read in windows that overlap; what two of them see is scored in each, and the better
score counts. With `no_answer`, the first position stands for none.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float

from trasluz.errors import RequestError
from trasluz.tasks.text_task import TextInput, TextTask
from trasluz.text.encoder_tokenizer import EncodedText

# Tokens that two windows have in common, and most tokens of an answer, where nobody says so.
OVERLAP = 128
LONGEST_ANSWER = 30


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

    head_name = "answer"

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
        stand in two windows: OVERLAP, or half of a short window, where it is not given. With `no_answer` there may be
        none, and the text is empty. Raises RequestError for a question that leaves no room.
        """
        questions = [question] if isinstance(question, str) else list(question)
        contexts = [context] * len(questions) if isinstance(context, str) else list(context)
        if len(contexts) != len(questions):
            raise RequestError(
                f"there are {len(questions)} questions, but {len(contexts)} contexts: give one for each."
            )
        for name, value in (("top", top), ("longest_answer", longest_answer)):
            if value < 1:
                raise RequestError(f"{name} is {value}; it must be 1 or more.")
        # Many questions have one context, which is cut into tokens once.
        different = list(dict.fromkeys(contexts))
        told = dict(zip(different, self.tokenizer.encode_batch(different), strict=True))
        windows = [
            (number, window)
            for number, (asked, context) in enumerate(
                zip(self.tokenizer.encode_batch(questions), contexts, strict=True)
            )
            for window in self._windows(asked, told[context], overlap)
        ]
        found = [_Found() for _ in questions]
        for group, _, hidden in self._states([window for _, window in windows], batch_tokens):
            with torch.inference_mode():
                scores = self.head(hidden).float().cpu().numpy()
            for row, place in enumerate(group):
                number, window = windows[place]
                found[number].look(window, scores[row], longest_answer, top)
        answers = [
            one.best(text, context, top, no_answer)
            for one, text, context in zip(found, questions, contexts, strict=True)
        ]
        return answers[0] if isinstance(question, str) else answers

    def _windows(self, asked: EncodedText, told: EncodedText, overlap: int | None) -> list[TextInput]:
        tokenizer = self.tokenizer
        room = self.longest_text - tokenizer.num_added(pair=True) - len(asked)
        if room < 1:
            raise RequestError(
                f"the question has {len(asked):,} tokens, which leave no room for a context among the "
                f"{self.longest_text:,} that {self.name} reads."
            )
        if overlap is None:
            overlap = min(OVERLAP, room // 2)
        if not 0 <= overlap < room:
            raise RequestError(f"overlap is {overlap}; beside this question it must be from 0 to {room - 1}.")
        windows = []
        begin = 0
        while True:
            part = EncodedText(
                told.ids[begin : begin + room], told.spans[begin : begin + room], told.words[begin : begin + room]
            )
            begins = tokenizer.first_offset(pair=True), tokenizer.second_offset() + len(asked)
            windows.append(TextInput(*tokenizer.join(asked.ids, part.ids), (asked, part), begins))
            if begin + room >= len(told):
                return windows
            begin += room - overlap


class _Found:
    """What the windows of one question hold: the best spans, and what all of them sum up to."""

    def __init__(self) -> None:
        self.spans: dict[tuple[int, int], float] = {}
        self.log_total = -math.inf
        # A context has no answer when no part of it has one: the least sure part decides.
        self.nothing = math.inf

    def look(self, window: TextInput, scores: Float[np.ndarray, "positions 2"], longest: int, top: int) -> None:
        """Take a window's scores; of its spans, the best that may be wanted are kept."""
        self.nothing = min(self.nothing, float(scores[0].sum()))
        part, begin = window.texts[1], window.begins[1]
        if not len(part):
            return
        inside = scores[begin : begin + len(part)]
        sums = inside[:, :1] + inside[None, :, 1]
        lengths = np.arange(len(part)) - np.arange(len(part))[:, None]
        sums[(lengths < 0) | (lengths >= longest)] = -np.inf
        self.log_total = float(np.logaddexp(self.log_total, np.logaddexp.reduce(sums, axis=None)))
        for index in np.argsort(-sums, axis=None, kind="stable")[:top].tolist():
            first, last = divmod(index, len(part))
            place = int(part.spans[first, 0]), int(part.spans[last, 1])
            if np.isfinite(sums[first, last]):
                self.spans[place] = max(self.spans.get(place, -math.inf), float(sums[first, last]))

    def best(self, question: str, context: str, top: int, no_answer: bool) -> Answer:
        """Return the best answer with the next best; no text where the context has none, or nothing in it."""
        spans, log_total = dict(self.spans), self.log_total
        if no_answer or not spans:
            spans[0, 0] = self.nothing
            log_total = float(np.logaddexp(log_total, self.nothing))
        answers: list[Answer] = []
        for start, end in sorted(spans, key=lambda place: -spans[place])[:top]:
            probability = math.exp(spans[start, end] - log_total)
            # Byte-level pieces count the blank before a word as its own.
            begin = start + len(context[start:end]) - len(context[start:end].lstrip())
            answers.append(Answer(question, context[begin:end], begin, end, probability))
        return dataclasses.replace(answers[0], alternatives=tuple(answers[1:]))
