"""Parts of contexts hold every token, overlap as told, and say where an answer stands, in any script."""

import itertools
import random
import re

import numpy as np
import pytest

from trasluz.text.context_windows import context_parts, fitting_overlap, room_beside, tokens_of
from trasluz.text.encoder_tokenizer import EncodedText, EncoderTokenizer, train_encoder_tokenizer

WORDS = [
    "the",
    "Lamp",
    "cámara",
    "ÑANDÚ",
    "e\u0301toile",
    "🕯️",
    "👩‍🚀",
    "光と紙",
    "山",
    "3,50",
    "well-lit",
    "qwx",
    "ﬁn",
    "…",
    "«sí»",
]
BLANKS = [" ", "  ", "\n", "\u00a0", "\t"]


def random_text(draw: random.Random, count: int) -> str:
    return "".join(draw.choice(WORDS) + draw.choice(BLANKS if draw.random() < 0.3 else [" "]) for _ in range(count))


@pytest.fixture(scope="module", params=["wordpiece", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> EncoderTokenizer:
    draw = random.Random(1)
    return train_encoder_tokenizer([random_text(draw, 12) for _ in range(60)], request.param, 320)


def numbered(count: int) -> EncodedText:
    return EncodedText(np.arange(count), np.stack([np.arange(count), np.arange(count) + 1], 1), np.arange(count))


def test_parts_hold_every_token_and_overlap_as_told() -> None:
    for count in (0, 1, 4, 5, 6, 7, 23, 40):
        for room in (1, 2, 5, 9):
            for overlap in range(room):
                parts = context_parts(numbered(count), room, overlap)
                assert [part.text.ids[0] for part in parts if len(part.text)] == [part.begin for part in parts][:count]
                assert {int(token) for part in parts for token in part.text.ids} == set(range(count))
                assert all(len(part.text) == room for part in parts[:-1]) and len(parts[-1].text) <= room
                for one, other in itertools.pairwise(parts):
                    shared = np.intersect1d(one.text.ids, other.text.ids)
                    assert len(shared) == overlap
                # No part that another one holds whole.
                assert count == 0 or parts[-1].begin == 0 or len(parts[-1].text) > overlap


def test_overlap_and_room(tokenizer: EncoderTokenizer) -> None:
    assert fitting_overlap(300) == 128 and fitting_overlap(21) == 10 and fitting_overlap(300, 64) == 64
    question, context = tokenizer.encode_batch(["the Lamp", "山 " * 50])
    room = room_beside(len(question), tokenizer, 20)
    ids, _ = tokenizer.join(question.ids, context_parts(context, room, 3)[0].text.ids)
    assert len(ids) == 20


def test_a_place_is_told_where_all_of_it_stands() -> None:
    first, second, third = context_parts(numbered(12), 6, 3)
    assert [part.place_of((4, 5)) for part in (first, second, third)] == [(4, 5), (1, 2), None]
    assert [part.place_of((5, 8)) for part in (first, second, third)] == [None, (2, 5), None]
    assert [part.place_of(None) for part in (first, second, third)] == [None] * 3


def test_answers_are_found_again_in_every_window_that_holds_them(tokenizer: EncoderTokenizer) -> None:
    draw = random.Random(7)
    found = 0
    for _ in range(80):
        text = random_text(draw, draw.randint(1, 30))
        words = list(re.finditer(r"\S+", text))
        first = draw.randrange(len(words))
        start, end = words[first].start(), words[min(len(words) - 1, first + draw.randrange(4))].end()
        context = tokenizer.encode(text)
        span = tokens_of(context, start, end)
        assert span is not None
        room = draw.randint(span[1] - span[0] + 1, 40 + span[1] - span[0])
        for part in context_parts(context, room, fitting_overlap(room)):
            place = part.place_of(span)
            if place is not None:
                assert text[part.text.spans[place[0], 0] : part.text.spans[place[1], 1]] == text[start:end]
                found += 1
    assert found > 80


def test_what_has_no_token_has_no_place(tokenizer: EncoderTokenizer) -> None:
    assert tokens_of(tokenizer.encode(""), 0, 3) is None
    # A token that reaches over an edge belongs to the answer as a whole.
    context = numbered(3)
    wide = EncodedText(context.ids, context.spans * 4, context.words)
    assert tokens_of(wide, 5, 9) == (1, 2) and tokens_of(wide, 4, 8) == (1, 1)
