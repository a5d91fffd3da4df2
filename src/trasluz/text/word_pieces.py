"""Sentences that are cut into words already, in pieces that a model can read: what a tagger learns from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from trasluz.text.encoder_tokenizer import EncoderTokenizer


class Piece(NamedTuple):
    """Part of a sentence as the model reads it: ids, and of each id the number of the word that it begins, or -1."""

    ids: Integer[np.ndarray, " length"]
    begins: Integer[np.ndarray, " length"]


def pieces_of_words(tokenizer: EncoderTokenizer, sentences: Sequence[Sequence[str]], longest: int) -> list[list[Piece]]:
    """Return each sentence in pieces of at most `longest` tokens, special ones included, cut between words.

    A single word that is longer than a piece is cut.
    """
    room = longest - tokenizer.num_added()
    found = []
    for encoded in tokenizer.encode_words(sentences):
        begins = np.where(encoded.word_starts, encoded.words, -1)
        pieces, start = [], 0
        while start < len(encoded):
            end = min(start + room, len(encoded))
            while end < len(encoded) and end > start + 1 and begins[end] < 0:
                end -= 1
            if end == start + 1 and begins[end : end + 1].tolist() == [-1]:
                end = min(start + room, len(encoded))
            pieces.append(Piece(encoded.ids[start:end], begins[start:end]))
            start = end
        found.append(pieces)
    return found
