"""Sentences cut a little differently each time they are read, so that a model learns what words are made of.

Byte-pair encoding joins pairs of pieces, step by step; BPE-dropout (Provilkov, Emelianenko and Voita 2020) leaves out
some of these steps at random. Here the same is done from the other end, on ids that are stored already: a piece is
taken apart into the two that it was made of, with a given probability, and so are those two.

    ▁lantern  ->  ▁lan tern  ->  ▁lan t ern
"""

import json

import numpy as np
from jaxtyping import Int32, Integer

from trasluz.text.tokenizer import Tokenizer


def find_parents(tokenizer: Tokenizer) -> Int32[np.ndarray, "vocab 2"] | None:
    """Return the two pieces that each piece was made of, -1 where it is whole; None where nothing was ever joined."""
    model = json.loads(tokenizer.backend.to_str())["model"]
    if not model.get("merges"):
        return None
    parents = np.full((tokenizer.vocab_size, 2), -1, np.int32)
    ids = model["vocab"]
    for merge in model["merges"]:
        first, second = merge.split(" ") if isinstance(merge, str) else merge
        made = ids.get(first + second)
        # Of two ways to make a piece, the earlier one is what the encoder does.
        if made is not None and parents[made, 0] < 0:
            parents[made] = ids[first], ids[second]
    return parents


def drop_pieces(
    ids: Integer[np.ndarray, "_"],
    parents: Int32[np.ndarray, "vocab 2"],
    probability: float,
    generator: np.random.Generator,
) -> Integer[np.ndarray, "_"]:
    """Return ids for the same text with pieces taken apart at random."""
    new = np.ones(len(ids), dtype=bool)
    while True:
        taken_apart = new & (parents[ids, 0] >= 0)
        taken_apart &= generator.random(len(ids)) < probability
        if not taken_apart.any():
            return ids
        longer = np.repeat(ids, 1 + taken_apart)
        first = np.flatnonzero(taken_apart) + np.arange(taken_apart.sum())
        longer[first], longer[first + 1] = parents[ids[taken_apart]].T
        ids, new = longer, np.zeros(len(longer), dtype=bool)
        new[first] = new[first + 1] = True
