"""Documents to be continued, as ids: a long one is cut in stretches, and the end of a document stands behind it."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from jaxtyping import Integer

from trasluz.text.byte_tokenizer import ByteTokenizer

STRETCH = 1 << 16
"""Characters: cut as a whole, a long document would take a hundred times its size of memory."""

# A tokenizer like GPT-2's joins nothing over the place at which a line begins with a word.
_LINE_BEGINS = re.compile(r"(?<=\n)(?=\S)")


def document_ids(
    tokenizer: ByteTokenizer, texts: Sequence[str], end_id: int | None
) -> list[Integer[np.ndarray, " tokens"]]:
    """Return the ids of each document, with the end of a document behind them where there is such a token."""
    pieces = [list(stretches(text)) for text in texts]
    found = iter(tokenizer.encode_arrays([piece for some in pieces for piece in some]))
    end = np.asarray([] if end_id is None else [end_id], tokenizer.dtype)
    return [np.concatenate([*islice(found, len(some)), end]) for some in pieces]


def stretches(text: str) -> Iterator[str]:
    """Yield a text in stretches of some length, each up to a line that begins with a word; together they are it."""
    begin = 0
    while len(text) - begin > STRETCH:
        found = _LINE_BEGINS.search(text, begin + STRETCH)
        if found is None:
            break
        yield text[begin : found.start()]
        begin = found.start()
    yield text[begin:]
