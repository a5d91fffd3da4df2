"""Contexts that are longer than a model reads: parts of them that overlap, each beside the whole question.

    [CLS] question [SEP] part of the context [SEP]

Two parts have `overlap` tokens in common, so that what is cut through in one of them is whole in the other.
"""

from typing import NamedTuple

import numpy as np

from trasluz.text.encoder_tokenizer import EncodedText, EncoderTokenizer

# Tokens that two parts have in common where nobody says so.
OVERLAP = 128


class ContextPart(NamedTuple):
    """What one window holds of a context: its tokens, and which of the context's is the first of them."""

    text: EncodedText
    begin: int

    def place_of(self, span: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return where the context's tokens from the first to the last of `span` stand here; None: not all do."""
        if span is None or span[0] < self.begin or span[1] >= self.begin + len(self.text):
            return None
        return span[0] - self.begin, span[1] - self.begin


def room_beside(question_length: int, tokenizer: EncoderTokenizer, longest: int) -> int:
    """Return how many tokens of a context fit beside a question into `longest`; below 1: it leaves no room."""
    return longest - tokenizer.num_added(pair=True) - question_length


def fitting_overlap(room: int, wanted: int = OVERLAP) -> int:
    """Return the overlap of parts of `room` tokens: what is wanted, or half of a short part."""
    return min(wanted, room // 2)


def context_parts(context: EncodedText, room: int, overlap: int) -> list[ContextPart]:
    """Return a context in parts of at most `room` tokens, of which each repeats the last `overlap` of the one before.

    `overlap` is less than `room`. An empty context has one part, which is empty.
    """
    arrays = context.ids, context.spans, context.words
    return [
        ContextPart(EncodedText(*(array[begin : begin + room] for array in arrays)), begin)
        for begin in range(0, max(len(context) - overlap, 1), room - overlap)
    ]


def tokens_of(context: EncodedText, start: int, end: int) -> tuple[int, int] | None:
    """Return the first and the last token of the characters from `start` to `end` (exclusive); None: they have none.

    A token that reaches over an edge belongs to them as a whole.
    """
    touched = np.flatnonzero((context.spans[:, 0] < end) & (context.spans[:, 1] > start))
    return (int(touched[0]), int(touched[-1])) if len(touched) else None
