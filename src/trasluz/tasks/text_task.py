"""What all tasks of an encoder share: texts become batches of like length, batches become states, states are shown.

A text longer than the model's positions is cut as its tokenizer says, and its result says by how many tokens.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.errors import RequestError
from trasluz.inspection.attention_map import AttentionMap, maps_of_heads
from trasluz.inspection.recorder import is_recorded, record_attention
from trasluz.layers.kernels.text_attention import attends_to_texts
from trasluz.tasks.grouping import groups_by_length
from trasluz.tasks.task import Task
from trasluz.text.batching import Places, TextBatch, make_text_batch, make_text_row
from trasluz.text.encoder_tokenizer import EncodedText, EncoderTokenizer

# Tokens in a batch where nobody says how many: enough to fill a processor, little enough to stay in its cache.
BATCH_TOKENS = 4096
# oneDNN makes a kernel of its own for every number of rows of bfloat16, in as much time as a whole product takes.
_ROW_MULTIPLE = 64


@dataclass(frozen=True)
class TextInput:
    """A text, or a pair of texts, as the model reads it.

    `texts` are those of their pieces that had room, and `begins` where these stand among `ids`; `left_out` counts the
    others.
    """

    ids: Integer[np.ndarray, " length"]
    segments: Integer[np.ndarray, " length"]
    texts: tuple[EncodedText, ...]
    begins: tuple[int, ...]
    left_out: int = 0


class TextTask(Task):
    """An encoder with its tokenizer, on a device; a subclass says what its states are asked for."""

    attention_kind: ClassVar[str] = "encoder"
    head_name: ClassVar[str | None] = None
    reads_masks: ClassVar[bool] = False
    """Whether a mask that is written in a text is one, and not the letters that it is written with."""
    tokenizer: EncoderTokenizer

    def __init__(
        self, loaded: LoadedModel, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        """Put the model on its device; RequestError where it has no head for this task."""
        heads: Collection[str] = getattr(loaded.config, "heads", ())
        if self.head_name is not None and self.head_name not in heads:
            there = f"it has {', '.join(heads)}" if heads else "it has none"
            raise RequestError(f"{loaded.name} has no head for the task {self.head_name!r}; {there}.")
        super().__init__(loaded, device, dtype)
        self.longest_text = loaded.longest_text
        # Without our kernel, attention over a row costs more than padding does.
        self._shares_rows = bool(self.model.reads_rows) and attends_to_texts(self.device)

    @property
    def head(self) -> nn.Module:
        """The head of this task."""
        heads: Any = self.model.heads
        found: nn.Module = heads[self.head_name]
        return found

    def batch(self, texts: Sequence[str], second_texts: Sequence[str] | None = None) -> TextBatch:
        """Return texts, or pairs of texts, as the model takes them; those too long are cut."""
        return self._batch(self._inputs(texts, second_texts))

    def left_out(self, text: str, second_text: str | None = None) -> int:
        """Return how many tokens of a text, or of a pair, have no room in the model."""
        return self._inputs([text], None if second_text is None else [second_text])[0].left_out

    def attention_maps(
        self,
        text: str,
        second_text: str | None = None,
        *,
        layers: Collection[int] | None = None,
        heads: Collection[int] | None = None,
    ) -> list[AttentionMap]:
        """Return what every token of a text looks at, a map for each layer and head; None: all, counted from 0."""
        inputs = self._inputs([text], None if second_text is None else [second_text])
        model: Any = self.model
        with torch.inference_mode(), record_attention(model, layers, heads) as record:
            model(self._batch(inputs))
        ids = inputs[0].ids.tolist()
        tokens, words = self.tokenizer.tokens(ids), self.tokenizer.word_groups(ids)
        maps: list[AttentionMap] = []
        for layer, recorded in record.encoder.items():
            weights = recorded.weights[0].float().cpu().numpy()
            # What a model puts before every text, such as BigBird's global tokens, looks and is looked at as well.
            before = weights.shape[-1] - len(tokens)
            places = [f"[global {number}]" for number in range(before)] + tokens
            groups = [[number] for number in range(before)] + [[before + at for at in group] for group in words]
            maps += maps_of_heads(
                weights,
                places,
                places,
                kind="encoder",
                layer=layer,
                heads=None if heads is None else list(heads),
                model=self.name,
                source_words=groups,
                target_words=groups,
            )
        return maps

    def _inputs(
        self,
        texts: Sequence[str],
        second_texts: Sequence[str] | None = None,
    ) -> list[TextInput]:
        """Return texts with their special tokens, cut to what is read of them."""
        tokenizer, pair = self.tokenizer, second_texts is not None
        room, begin = self.longest_text - tokenizer.num_added(pair), tokenizer.first_offset(pair)
        firsts = self._encode(texts)
        seconds: list[EncodedText | None] = [None] * len(firsts)
        if second_texts is not None:
            if len(second_texts) != len(texts):
                raise RequestError(
                    f"there are {len(texts)} texts, but {len(second_texts)} second texts: give one for each."
                )
            seconds = [*self._encode(second_texts)]
        inputs = []
        for first, second in zip(firsts, seconds, strict=True):
            whole = (first,) if second is None else (first, second)
            kept, also_kept = tokenizer.cut(first, second, room)
            texts_kept = (kept,) if also_kept is None else (kept, also_kept)
            joined = tokenizer.join(*(text.ids for text in texts_kept))
            begins = (begin, tokenizer.second_offset() + len(kept))[: len(texts_kept)]
            left_out = sum(map(len, whole)) - sum(map(len, texts_kept))
            inputs.append(TextInput(*joined, texts_kept, begins, left_out))
        return inputs

    def _encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Return the pieces of each text as the model has learnt to read it."""
        return self.tokenizer.encode_batch(texts, with_masks=self.reads_masks)

    def _batch(self, inputs: Sequence[TextInput]) -> TextBatch:
        batch = make_text_batch(
            [one.ids for one in inputs], [one.segments for one in inputs], pad_id=self.config.pad_id
        )
        return batch.to(self.device)

    def _states(
        self, inputs: Sequence[TextInput], batch_tokens: int | None = None
    ) -> Iterator[tuple[list[int], Int[Tensor, " batch"], Float[Tensor, "batch positions dim"]]]:
        """Yield groups of inputs of like length: their numbers, their lengths, and the model's states of them."""
        for group, some, in_rows in self._groups(inputs, batch_tokens):
            with torch.inference_mode():
                lengths, hidden = (self._states_of_row if in_rows else self._states_of_batch)(some)
            yield group, lengths, hidden

    def _states_at(
        self, inputs: Sequence[TextInput], columns: Sequence[Sequence[int]], batch_tokens: int | None = None
    ) -> Iterator[tuple[list[int], Float[Tensor, "places dim"]]]:
        """Yield groups of inputs of like length: their numbers, and the states of these positions of theirs alone."""
        for group, some, in_rows in self._groups(inputs, batch_tokens):
            wanted = [columns[number] for number in group]
            rows = [row for row, own in enumerate(wanted) for _ in own]
            places = Places(*(torch.tensor(one, dtype=torch.long) for one in (rows, list(chain(*wanted)))))
            if in_rows:
                batch, lengths = self._row(some)
                begins = lengths.cumsum(0) - lengths
                places = Places(torch.zeros_like(places.rows), places.columns + begins[places.rows])
            else:
                batch = self._batch(some)
            with torch.inference_mode():
                states: Tensor = self.model(batch, places.to(self.device))
            yield group, states

    def _groups(
        self, inputs: Sequence[TextInput], batch_tokens: int | None
    ) -> Iterator[tuple[list[int], list[TextInput], bool]]:
        """Yield inputs of like length: their numbers, themselves, and whether they are to share a row."""
        _check_batch_tokens(batch_tokens)
        lengths_of_all, budget = [len(one.ids) for one in inputs], batch_tokens or BATCH_TOKENS
        model: Any = self.model
        # A record has a row for each text, in their order.
        recorded = is_recorded(model)
        shares_rows = self._shares_rows and not recorded
        for group in groups_by_length(lengths_of_all, budget, padded=not shares_rows):
            group = sorted(group) if recorded else group
            yield group, [inputs[number] for number in group], shares_rows

    def _states_of_batch(self, inputs: Sequence[TextInput]) -> tuple[Tensor, Tensor]:
        batch = self._batch(inputs)
        return batch.lengths, self.model(batch)

    def _states_of_row(self, inputs: Sequence[TextInput]) -> tuple[Tensor, Tensor]:
        """Return lengths and states, which are made in one row, where there is no padding but at its end."""
        row, lengths = self._row(inputs)
        states: Tensor = self.model(row)[0]
        parts = states[: int(lengths.sum())].split(lengths.tolist())
        return lengths, pad_sequence(parts, batch_first=True)

    def _row(self, inputs: Sequence[TextInput]) -> tuple[TextBatch, Int[Tensor, " texts"]]:
        """Return texts one behind the other in one row, and how long each is."""
        ids, segments = [one.ids for one in inputs], [one.segments for one in inputs]
        lengths = torch.tensor([len(one) for one in ids])
        row = make_text_row(ids, segments, pad_id=self.config.pad_id, multiple=_ROW_MULTIPLE)
        return row, lengths


def _check_batch_tokens(batch_tokens: int | None) -> None:
    if batch_tokens is not None and batch_tokens < 1:
        raise RequestError(f"`batch_tokens` must be at least 1, but is {batch_tokens}.")
