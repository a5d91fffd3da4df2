"""The best stretch of all windows, against loops that look at every one."""

import math

import numpy as np
import pytest

from trasluz.tasks.answer_spans import LONGEST_ANSWER, Span, SpanSearch, windows_of
from trasluz.tasks.text_task import TextInput
from trasluz.text.context_windows import context_parts
from trasluz.text.encoder_tokenizer import train_encoder_tokenizer

CONTEXT = "the boat left at dawn with salt and bread for the island"


def windows(room: int, overlap: int) -> list[TextInput]:
    tokenizer = train_encoder_tokenizer([CONTEXT, "who left"] * 4, "wordpiece", 140)
    question, context = tokenizer.encode_batch(["who left", CONTEXT])
    return windows_of(context_parts(context, room, overlap), question, tokenizer)


@pytest.mark.parametrize("longest", [1, 3, LONGEST_ANSWER])
def test_the_best_spans_are_those_of_a_loop(longest: int) -> None:
    draw = np.random.default_rng(5)
    search, spans, nothing = SpanSearch(), dict[tuple[int, int], float](), math.inf
    total = 0.0
    for window in windows(7, 3):
        scores = draw.normal(size=(len(window.ids), 2)).astype(np.float32)
        search.look(window, scores, longest, top=4)
        nothing = min(nothing, float(scores[0].sum()))
        part, begin = window.texts[1], window.begins[1]
        for first in range(len(part)):
            for last in range(first, min(first + longest, len(part))):
                score = float(scores[begin + first, 0] + scores[begin + last, 1])
                place = int(part.spans[first, 0]), int(part.spans[last, 1])
                spans[place] = max(score, spans.get(place, -math.inf))
                total += math.exp(score)
    ranked = sorted(spans, key=lambda place: -spans[place])[:4]
    found = search.best(CONTEXT, top=4)
    assert [(one.start, one.end) for one in found] == ranked
    assert [one.score for one in found] == pytest.approx([math.exp(spans[one]) / total for one in ranked], rel=1e-4)
    with_none = search.best(CONTEXT, top=5, no_answer=True)
    chance = math.exp(nothing) / (total + math.exp(nothing))
    assert Span(0, 0, pytest.approx(chance, rel=1e-4)) in with_none or chance < with_none[-1].score


def test_what_several_searches_found_is_taken_by_one() -> None:
    draw = np.random.default_rng(6)
    whole, halves, joined = SpanSearch(), [SpanSearch(), SpanSearch()], SpanSearch()
    for number, window in enumerate(windows(6, 2)):
        scores = draw.normal(size=(len(window.ids), 2)).astype(np.float32)
        whole.look(window, scores)
        halves[number % 2].look(window, scores)
    for half in halves:
        joined.take((Span(*place, score) for place, score in half.spans.items()), half.log_total, half.nothing)
    assert joined.spans == whole.spans and joined.nothing == whole.nothing
    assert joined.log_total == pytest.approx(whole.log_total)
