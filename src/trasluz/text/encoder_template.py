"""The special tokens around one text or two, as an encoder was trained with them.

BERT      [CLS] A [SEP]      [CLS] A [SEP] B [SEP]        segments 0, and 1 from B on
RoBERTa   <s> A </s>         <s> A </s> </s> B </s>       segments 0
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import tokenizers
from jaxtyping import Integer

Keep = Literal["start", "end", "ends"]
"""What stays of a text that is too long."""

_Stretch = tuple[tuple[int, ...], tuple[int, ...]]
"""Special tokens in a row: their ids and their segments."""


@dataclass(frozen=True)
class _Form:
    """One form of the template: the special tokens before, between and after its texts, and the texts' segments."""

    around: tuple[_Stretch, ...]
    segments: tuple[int, ...]

    @property
    def num_added(self) -> int:
        return sum(len(ids) for ids, _ in self.around)


class Template:
    """The two forms of an encoder's input: of one text and of a pair."""

    def __init__(self, single: _Form, pair: _Form) -> None:
        self._forms = (single, pair)

    def join(
        self, dtype: np.dtype, first: Sequence[int] | np.ndarray, second: Sequence[int] | np.ndarray | None
    ) -> tuple[Integer[np.ndarray, " length"], Integer[np.ndarray, " length"]]:
        """Return the ids of one text or two among their special tokens, and the segment of each."""
        texts = [first] if second is None else [first, second]
        form = self._forms[second is not None]
        ids: list[Sequence[int] | np.ndarray] = [form.around[0][0]]
        segments: list[int] = [*form.around[0][1]]
        for text, segment, (added, added_segments) in zip(texts, form.segments, form.around[1:], strict=True):
            ids += [text, added]
            segments += [segment] * len(text)
            segments += added_segments
        return np.concatenate([np.asarray(part, dtype) for part in ids]), np.array(segments, np.uint8)

    def num_added(self, pair: bool) -> int:
        """Return how many special tokens a form has."""
        return self._forms[pair].num_added

    def offsets(self, pair: bool) -> tuple[int, ...]:
        """Return, for each text, how many special tokens stand before it."""
        counts = itertools.accumulate(len(ids) for ids, _ in self._forms[pair].around)
        return tuple(counts)[:-1]


def find_template(backend: tokenizers.Tokenizer) -> Template | None:
    """Return the template that the backend's own post-processor writes, or None where it adds nothing.

    It is found by processing texts of one piece and looking at what stands around them.
    """
    if backend.num_special_tokens_to_add(False) == 0:
        return None
    tries = itertools.chain("a0.", (piece for piece in backend.get_vocab() if piece.isalnum()))
    text = next((text for text in tries if backend.encode(text, add_special_tokens=False).ids), None)
    if text is None:
        return None
    return Template(_form(backend.encode(text), 1), _form(backend.encode(text, text), 2))


def _form(encoding: tokenizers.Encoding, num_texts: int) -> _Form:
    stretches: list[tuple[list[int], list[int]]] = [([], [])]
    segments: list[int] = []
    before: int | None = None
    for index, segment, text in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
        if text is None:
            stretches[-1][0].append(index)
            stretches[-1][1].append(segment)
        elif text != before:
            segments.append(segment)
            stretches.append(([], []))
        before = text if text is not None else before
    assert len(segments) == num_texts, "a template that leaves a text out"
    return _Form(tuple((tuple(ids), tuple(types)) for ids, types in stretches), tuple(segments))


def kept_places(length: int, room: int, keep: Keep) -> slice | Integer[np.ndarray, " room"]:
    """Return which pieces of a text stay: its start, its end, or of both, a quarter of the room for the start.

    The last is "head+tail" of Sun et al. 2019 (arXiv 1905.05583, section 5.3.1): 128 and 382 pieces of 510.
    """
    if length <= room or keep == "start":
        return slice(room)
    if keep == "end":
        return slice(length - room, None)
    places = np.arange(room)
    places[room // 4 :] += length - room
    return places


def truncate_pair(first_length: int, second_length: int, room: int) -> tuple[int, int]:
    """Return how many pieces of each text to keep so that both fit into `room`, special tokens not counted.

    The longer one is cut first, until both are equally long: "longest first" of `transformers`.
    """
    if first_length + second_length <= room:
        return first_length, second_length
    shorter = min(first_length, second_length)
    if 2 * shorter <= room:
        longer = room - shorter
    else:
        # What is odd goes to the longer one, and to the second of two of one length.
        shorter, longer = room // 2, room - room // 2
    return (longer, shorter) if first_length > second_length else (shorter, longer)
