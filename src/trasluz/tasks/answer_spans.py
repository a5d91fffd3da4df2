"""The best stretch of a context, over all windows in which it is read (Devlin et al. 2019, sections 4.2 and 4.3).

    score(i, j) = start_i + end_j,  i <= j < i + longest        probability: softmax over the spans of all windows

What two windows see is scored in each, and the better score counts. The first position stands for "no answer".
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from trasluz.tasks.text_task import TextInput
from trasluz.text.context_windows import ContextPart
from trasluz.text.encoder_tokenizer import EncodedText, EncoderTokenizer

# Most tokens of an answer where nobody says so.
LONGEST_ANSWER = 30


class Span(NamedTuple):
    """A stretch of the context in characters, end exclusive, and its score; from 0 to 0: no answer."""

    start: int
    end: int
    score: float


def windows_of(parts: Iterable[ContextPart], question: EncodedText, tokenizer: EncoderTokenizer) -> list[TextInput]:
    """Return each part of a context as the model reads it, behind the question."""
    begins = tokenizer.first_offset(pair=True), tokenizer.second_offset() + len(question)
    return [TextInput(*tokenizer.join(question.ids, part.text.ids), (question, part.text), begins) for part in parts]


class SpanSearch:
    """What the windows of one question hold: the best spans, and what all of them sum up to."""

    def __init__(self) -> None:
        self.spans: dict[tuple[int, int], float] = {}
        self.log_total = -math.inf
        # A context has no answer when no part of it has one: the least sure part decides.
        self.nothing = math.inf

    def look(
        self, window: TextInput, scores: Float[np.ndarray, "positions 2"], longest: int = LONGEST_ANSWER, top: int = 1
    ) -> None:
        """Take a window's scores; of its spans, the best that may be wanted are kept."""
        nothing = float(scores[0].sum())
        part, begin = window.texts[1], window.begins[1]
        if not len(part):
            self.take([], -math.inf, nothing)
            return
        starts, ends = scores[begin : begin + len(part)].T
        # A row a first token, a column a length: what is longer than wanted is never made.
        longest = min(longest, len(part))
        padded = np.pad(ends, (0, longest - 1), constant_values=-np.inf)
        sums = starts[:, None] + np.lib.stride_tricks.sliding_window_view(padded, longest)
        best = []
        for index in np.argsort(-sums, axis=None, kind="stable")[:top].tolist():
            first, length = divmod(index, longest)
            if np.isfinite(sums[first, length]):
                place = int(part.spans[first, 0]), int(part.spans[first + length, 1])
                best.append(Span(*place, float(sums[first, length])))
        self.take(best, float(np.logaddexp.reduce(sums, axis=None)), nothing)

    def take(self, spans: Iterable[Span], log_total: float, nothing: float) -> None:
        """Take what was found in some windows: the best spans, the logarithm of the sum of all, and "no answer"."""
        self.log_total = float(np.logaddexp(self.log_total, log_total))
        self.nothing = min(self.nothing, nothing)
        for start, end, score in spans:
            self.spans[start, end] = max(self.spans.get((start, end), -math.inf), score)

    def best(self, context: str, top: int = 1, no_answer: bool = False) -> list[Span]:
        """Return the best spans with their probabilities; without an answer where it may be, or nothing is left."""
        spans, log_total = dict(self.spans), self.log_total
        if no_answer or not spans:
            spans[0, 0] = self.nothing
            log_total = float(np.logaddexp(log_total, self.nothing))
        found = []
        for start, end in sorted(spans, key=lambda place: -spans[place])[:top]:
            # Byte-level pieces count the blank before a word as its own.
            begin = start + len(context[start:end]) - len(context[start:end].lstrip())
            found.append(Span(begin, end, math.exp(spans[start, end] - log_total)))
        return found
