"""Batches by token budget: which sentences go together, and the padded tensors made of them.

Targets are shifted and everything is padded here and nowhere else:

    source         a b c </s>            target_input   <s> x y          target_output   x y </s>
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Int, Integer, Shaped
from torch import Tensor

from trasluz.errors import DataError, RequestError

Ids = Sequence[int] | Integer[np.ndarray, "_"]
ExampleBatchT = TypeVar("ExampleBatchT", bound="ExampleBatch")

# Sentences sorted by length at a time: enough for tight batches, and little memory beside fifty million of them.
_SORTED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class TranslationBatch:
    """Padded sentence pairs; every sequence has at least one token, the end."""

    source: Int[Tensor, "batch source"]
    source_lengths: Int[Tensor, "batch"]
    target_input: Int[Tensor, "batch target"]
    target_output: Int[Tensor, "batch target"]
    target_lengths: Int[Tensor, "batch"]

    @property
    def num_target_tokens(self) -> int:
        """Return how many tokens of `target_output` are not padding."""
        return int(self.target_lengths.sum())

    @property
    def padding_share(self) -> float:
        """Return the share of source and target places that hold padding."""
        places = self.source.numel() + self.target_output.numel()
        return 1.0 - float(self.source_lengths.sum() + self.target_lengths.sum()) / places

    def to(self, device: torch.device | str) -> "TranslationBatch":
        """Return the batch on another device."""
        return TranslationBatch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


class Places(NamedTuple):
    """Some positions of a batch."""

    rows: Int[Tensor, " places"]
    columns: Int[Tensor, " places"]

    def join(self, other: "Places") -> "Places":
        """Return these places, and others behind them."""
        return Places(torch.cat([self.rows, other.rows]), torch.cat([self.columns, other.columns]))

    def to(self, device: torch.device | str) -> "Places":
        """Return the places on another device."""
        return Places(*(one.to(device, non_blocking=True) for one in self))


@dataclass(frozen=True)
class TextBatch:
    """Padded texts for an encoder, special tokens included; `segments` tells the texts of a pair apart.

    A row is a text. Where `positions` says of each token where it stands in its text (from 0, padding too), a row may
    hold several, one behind the other (`text/packing.py`); its length is that of all of them.
    """

    ids: Int[Tensor, "batch positions"]
    lengths: Int[Tensor, "batch"]
    segments: Int[Tensor, "batch positions"]
    positions: Int[Tensor, "batch positions"] | None = None

    @property
    def text_numbers(self) -> Int[Tensor, "batch positions"] | None:
        """Return of each token the number of its text in the row; None where a row is a text.

        Each place of padding counts as a text of its own.
        """
        return None if self.positions is None else (self.positions == 0).cumsum(1)

    @property
    def padding_share(self) -> float:
        """Return the share of places that hold padding."""
        return 1.0 - float(self.lengths.sum()) / self.ids.numel()

    @property
    def first_places(self) -> Places:
        """Return where the texts begin, of which each has a row of its own."""
        assert self.positions is None, "where several texts share a row, most begin elsewhere"
        return Places(torch.arange(len(self.ids), device=self.ids.device), torch.zeros_like(self.lengths))

    def to(self, device: torch.device | str) -> "TextBatch":
        """Return the batch on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        there = {name: one for name, one in tensors.items() if one is not None}
        return TextBatch(**{name: one.to(device, non_blocking=True) for name, one in there.items()})


@dataclass(frozen=True)
class CausalBatch:
    """Padded texts for a model that continues them: what it reads, and the token that follows each position.

    Where `positions` says of each token where it stands in its text (from 0), a row may hold parts of several, one
    behind the other; without them a row is one text, or a part of one.
    """

    inputs: Int[Tensor, "batch positions"]
    targets: Int[Tensor, "batch positions"]
    lengths: Int[Tensor, "batch"]
    positions: Int[Tensor, "batch positions"] | None = None

    @property
    def text_numbers(self) -> Int[Tensor, "batch positions"] | None:
        """Return of each token the number of its text in the row; None where a row is a text."""
        return None if self.positions is None else (self.positions == 0).cumsum(1)

    @property
    def num_target_tokens(self) -> int:
        """Return how many tokens of `targets` are not padding."""
        return int(self.lengths.sum())

    @property
    def padding_share(self) -> float:
        """Return the share of places that hold padding."""
        return 1.0 - float(self.lengths.sum()) / self.inputs.numel()

    def to(self, device: torch.device | str) -> "CausalBatch":
        """Return the batch on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        there = {name: one for name, one in tensors.items() if one is not None}
        return CausalBatch(**{name: one.to(device, non_blocking=True) for name, one in there.items()})


def make_causal_batch(texts: Sequence[Ids], *, pad_id: int) -> CausalBatch:
    """Return the batch of these texts, of two tokens at least: inputs lack the last, targets the first."""
    inputs, lengths = pad_sequences([text[:-1] for text in texts], pad_id=pad_id)
    targets, _ = pad_sequences([text[1:] for text in texts], pad_id=pad_id)
    return CausalBatch(inputs, targets, lengths)


def make_window_batch(windows: Integer[np.ndarray, "batch length"], *, end_id: int) -> CausalBatch:
    """Return the batch of windows over documents that lie end to end, each behind the end of the one before.

        window     b c </s> d e          inputs   b c </s> d       targets   c </s> d e       positions   0 1 0 1

    An end begins the next document, as it does where a text is written from nothing.
    """
    tokens = torch.from_numpy(windows.astype(np.int64))
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    lengths = torch.full((len(tokens),), inputs.shape[1])
    begins = inputs == end_id
    if not bool(begins[:, 1:].any()):
        return CausalBatch(inputs, targets, lengths)
    places = torch.arange(inputs.shape[1])
    return CausalBatch(inputs, targets, lengths, places - torch.where(begins, places, 0).cummax(1).values)


@dataclass(frozen=True)
class ExampleBatch:
    """Texts with what is to be said of them, which a subclass adds."""

    texts: TextBatch

    @property
    def num_target_tokens(self) -> int:
        """Return how many tokens the texts have."""
        return int(self.texts.lengths.sum())

    @property
    def padding_share(self) -> float:
        """Return the share of places that hold padding."""
        return self.texts.padding_share

    def to(self: ExampleBatchT, device: torch.device | str) -> ExampleBatchT:
        """Return the batch on another device."""
        return type(self)(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class LabelledBatch(ExampleBatch):
    """Texts with what is to be said of each: a class, a truth for every class, or a number."""

    labels: Shaped[Tensor, "batch ..."]


@dataclass(frozen=True)
class MaskedBatch(ExampleBatch):
    """Texts with places to guess: rows and columns among the texts' positions, and what stood there."""

    rows: Int[Tensor, " masked"]
    columns: Int[Tensor, " masked"]
    targets: Int[Tensor, " masked"]

    @property
    def masked_places(self) -> Places:
        """Return the places to guess."""
        return Places(self.rows, self.columns)


@dataclass(frozen=True)
class NextSentenceBatch(MaskedBatch):
    """Pairs of texts with places to guess, and whether the second follows the first (0) or is from elsewhere (1)."""

    labels: Int[Tensor, "batch"]


@dataclass(frozen=True)
class AnswerBatch(ExampleBatch):
    """Questions with parts of their contexts: where the answer's first and last token stand; 0 and 0: not there.

    Only where `allowed` is true may an answer stand: in the context, and at the first position, which means none.
    """

    spans: Int[Tensor, "batch 2"]
    allowed: Bool[Tensor, "batch positions"]


NOT_COUNTED = -100
"""What stands among labels where there is none."""


@dataclass(frozen=True)
class TaggedBatch(ExampleBatch):
    """Texts with a label at some positions, NOT_COUNTED at the others."""

    labels: Int[Tensor, "batch positions"]


def make_tagged_batch(texts: Sequence[Ids], labels: Sequence[Ids], offset: int, *, pad_id: int) -> TaggedBatch:
    """Return the batch of texts with their special tokens; labels begin `offset` places behind each text's begin.

    A label below 0 means that there is none.
    """
    batch = make_text_batch(texts, pad_id=pad_id)
    placed = np.full(tuple(batch.ids.shape), NOT_COUNTED, np.int64)
    for row, numbers in zip(placed, labels, strict=True):
        found = np.asarray(numbers, np.int64)
        row[offset : offset + len(found)] = np.where(found >= 0, found, NOT_COUNTED)
    return TaggedBatch(batch, torch.from_numpy(placed))


def make_answer_batch(
    texts: Sequence[tuple[Ids, Ids]],
    contexts: Sequence[tuple[int, int]],
    spans: Sequence[tuple[int, int] | None],
    *,
    pad_id: int,
) -> AnswerBatch:
    """Return the batch of texts, given as ids and segments, in which contexts begin at a position and are so long.

    `spans` count from the context's begin to the answer's first and last token; None: its answer is not there.
    """
    batch = make_text_batch([ids for ids, _ in texts], [segments for _, segments in texts], pad_id=pad_id)
    allowed = np.zeros(tuple(batch.ids.shape), np.bool_)
    allowed[:, 0] = True
    placed = np.zeros((len(texts), 2), np.int64)
    for row, ((begin, length), span) in enumerate(zip(contexts, spans, strict=True)):
        allowed[row, begin : begin + length] = True
        if span is not None:
            placed[row] = begin + np.asarray(span)
    return AnswerBatch(batch, torch.from_numpy(placed), torch.from_numpy(allowed))


def make_masked_batch(pieces: Sequence[tuple[Ids, Ids, Ids]], *, pad_id: int) -> MaskedBatch:
    """Return the batch of pieces of text, each with its positions to guess and what stood there."""
    texts = make_text_batch([ids for ids, _, _ in pieces], pad_id=pad_id)
    rows = np.concatenate([np.full(len(places), row, np.int64) for row, (_, places, _) in enumerate(pieces)])
    columns = np.concatenate([np.asarray(places, np.int64) for _, places, _ in pieces])
    targets = np.concatenate([np.asarray(found, np.int64) for _, _, found in pieces])
    return MaskedBatch(texts, torch.from_numpy(rows), torch.from_numpy(columns), torch.from_numpy(targets))


def make_next_sentence_batch(pairs: Sequence[tuple[Ids, Ids, Ids, Ids, int]], *, pad_id: int) -> NextSentenceBatch:
    """Return the batch of joined pairs: ids, places to guess, what stood there, segments, and the label of each."""
    masked = make_masked_batch([(ids, places, found) for ids, places, found, _, _ in pairs], pad_id=pad_id)
    texts = make_text_batch([ids for ids, *_ in pairs], [segments for *_, segments, _ in pairs], pad_id=pad_id)
    labels = torch.tensor([label for *_, label in pairs])
    return NextSentenceBatch(texts, masked.rows, masked.columns, masked.targets, labels)


def make_text_batch(texts: Sequence[Ids], segments: Sequence[Ids] | None = None, *, pad_id: int) -> TextBatch:
    """Return the batch of these texts, which carry their special tokens already; without `segments`, all are 0."""
    ids, lengths = pad_sequences(texts, pad_id=pad_id)
    if segments is None:
        return TextBatch(ids, lengths, torch.zeros_like(ids))
    return TextBatch(ids, lengths, pad_sequences(segments, pad_id=0)[0])


def make_text_row(texts: Sequence[Ids], segments: Sequence[Ids], *, pad_id: int, multiple: int = 1) -> TextBatch:
    """Return these texts as one row, one behind the other, and padding up to a multiple of so many positions."""
    positions = positions_within([len(ids) for ids in texts])
    missing = -len(positions) % multiple

    def row(numbers: Sequence[Ids], padding: int) -> Int[Tensor, "1 positions"]:
        return torch.from_numpy(np.concatenate([*numbers, np.full(missing, padding)]).astype(np.int64))[None]

    return TextBatch(row(texts, pad_id), torch.tensor([len(positions)]), row(segments, 0), row([positions], 0))


def positions_within(lengths: Sequence[int]) -> Integer[np.ndarray, " tokens"]:
    """Return where each token stands in its own text, of texts that lie one behind the other."""
    sizes = np.asarray(lengths, np.int64)
    return np.arange(sizes.sum()) - (sizes.cumsum() - sizes).repeat(sizes)


def make_batch(
    sources: Sequence[Ids],
    targets: Sequence[Ids],
    *,
    pad_id: int,
    start_id: int,
    eos_id: int,
) -> TranslationBatch:
    """Return the batch of these pairs of id sequences, which carry no special tokens yet.

    The end is added to sources and target outputs; `start_id` begins target inputs (Marian begins with its pad id).
    """
    source, source_lengths = pad_sequences(sources, pad_id=pad_id, last_id=eos_id)
    target_output, target_lengths = pad_sequences(targets, pad_id=pad_id, last_id=eos_id)
    target_input = target_output.roll(1, dims=1)
    target_input[:, 0] = start_id
    # The end of every target but the longest has been shifted along; it is no input.
    target_input.masked_fill_(torch.arange(target_input.size(1)) >= target_lengths[:, None], pad_id)
    return TranslationBatch(source, source_lengths, target_input, target_output, target_lengths)


def pad_sequences(
    sequences: Sequence[Ids], *, pad_id: int, last_id: int | None = None
) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch"]]:
    """Return the sequences, padded on the right, and their lengths; behind each stands `last_id`, where it is given."""
    ends = 0 if last_id is None else 1
    lengths = np.fromiter((len(sequence) + ends for sequence in sequences), np.int64, len(sequences))
    padded = np.full((len(sequences), int(lengths.max(initial=1))), pad_id, np.int64)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
        if last_id is not None:
            row[len(sequence)] = last_id
    return torch.from_numpy(padded), torch.from_numpy(lengths)


class BatchOrder:
    """The batches of one epoch, as arrays of sentence indices; the same arguments give the same order."""

    def __init__(
        self,
        lengths: Sequence[Integer[np.ndarray, "sentences"]],
        batch_tokens: int,
        seed: int,
        epoch: int,
        *,
        added: int = 1,
        on_long: str = "stop",
        place_of: Callable[[int], object] | None = None,
    ) -> None:
        """Draw the order from the token counts of each column, as `TokenCache.lengths`.

        `added` tokens come to each in a batch: an end, where it puts one. A batch holds at most `batch_tokens` places
        in each column, padding included. A longer sentence raises DataError with its place, or is left out with
        on_long="skip" and counted in `num_skipped`.
        """
        if batch_tokens < 1:
            raise RequestError(f"batch_tokens is {batch_tokens}; it must be at least 1.")
        num_sentences = len(lengths[0])
        generator = np.random.default_rng([seed, epoch])
        order = np.arange(num_sentences, dtype=np.int32 if num_sentences < 1 << 31 else np.int64)
        generator.shuffle(order)
        self.num_skipped = 0
        batches: list[Integer[np.ndarray, "_"]] = []
        for start in range(0, num_sentences, _SORTED_AT_ONCE):
            part = order[start : start + _SORTED_AT_ONCE]
            columns = [np.asarray(column[part], dtype=np.int32) + added for column in lengths]
            longest = np.maximum.reduce(columns)
            fitting = longest <= batch_tokens
            if not fitting.all():
                if on_long == "stop":
                    first = int(part[~fitting].min())
                    place = f"sentence pair {first + 1}" if place_of is None else str(place_of(first))
                    size = max(int(column[first]) + added for column in lengths)
                    raise DataError(
                        f"{place} has {size} tokens, more than batch_tokens ({batch_tokens}): raise batch_tokens or "
                        "leave such sentences out."
                    )
                self.num_skipped += int((~fitting).sum())
                part, longest, columns = part[fitting], longest[fitting], [column[fitting] for column in columns]
            batches += _cut(part, longest, columns[0] - columns[-1], batch_tokens)
        if not batches and num_sentences:
            raise DataError(f"no sentence pair is short enough for batch_tokens ({batch_tokens}): raise batch_tokens.")
        shuffled = generator.permutation(len(batches))
        self._batches: list[Integer[np.ndarray, "_"]] = [batches[index] for index in shuffled]

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Integer[np.ndarray, "_"]:
        return self._batches[index]

    def __iter__(self) -> Iterator[Integer[np.ndarray, "_"]]:
        return iter(self._batches)


def _cut(
    sentences: Integer[np.ndarray, "sentences"],
    longest: Integer[np.ndarray, "sentences"],
    difference: Integer[np.ndarray, "sentences"],
    batch_tokens: int,
) -> list[Integer[np.ndarray, "_"]]:
    """Return the sentences, sorted by length, in stretches whose number times their longest fits the budget.

    Within one length the order runs up and down by the difference between source and target, so that neighbours are
    alike across lengths too: 3 % padding at 4,096 tokens where sorting by the target alone leaves 6.6 %.
    """
    zigzag = np.where(longest % 2 == 0, difference, -difference)
    # Equal keys keep the drawn order, so that every epoch mixes the sentences of one length anew.
    by_length = np.lexsort((zigzag, longest))
    sentences, longest = sentences[by_length], longest[by_length]
    batches: list[Integer[np.ndarray, "_"]] = []
    begin, num_sentences = 0, len(sentences)
    while begin < num_sentences:
        end = min(num_sentences, begin + batch_tokens // int(longest[begin]))
        while int(longest[end - 1]) * (end - begin) > batch_tokens:
            end = begin + max(1, batch_tokens // int(longest[end - 1]))
        while end < num_sentences and int(longest[end]) * (end + 1 - begin) <= batch_tokens:
            end += 1
        batches.append(sentences[begin:end])
        begin = end
    return batches
