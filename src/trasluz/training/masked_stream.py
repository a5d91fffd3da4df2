"""The updates of pre-training by masked words: padded texts of like length, or short texts packed into rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from trasluz.text.batching import MaskedBatch, make_masked_batch
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.text.masking import Masking
from trasluz.text.packing import PackedOrder, cut_rows, make_packed_batch
from trasluz.text.token_cache import TokenCache
from trasluz.training.raw_text import masked_piece
from trasluz.training.stream import ExampleStream, Order


class MaskedStream(ExampleStream[MaskedBatch]):
    """Pieces of text, masked otherwise in every epoch; the cache's columns are ids and place."""

    def __init__(
        self,
        cache: TokenCache,
        files: Sequence[str],
        *,
        tokenizer: EncoderTokenizer,
        masking: Masking,
        pad_id: int,
        **settings: Any,
    ) -> None:
        """Take the cache and what batches need; `settings` are those of every stream."""
        super().__init__(cache, files, [cache.lengths("ids") + tokenizer.num_added()], **settings)
        self.tokenizer = tokenizer
        self.masking = masking
        self.pad_id = pad_id

    def batch(self, examples: Sequence[int] | Any, epoch: int | None = None) -> MaskedBatch:
        """Return the padded batch of some pieces, masked for this epoch (None: as for the one before the first)."""
        return make_masked_batch(self._masked(examples, epoch), pad_id=self.pad_id)

    def _masked(self, examples: Sequence[int] | Any, epoch: int | None) -> list[tuple[Any, Any, Any]]:
        drawn = -1 if epoch is None else epoch
        return [
            masked_piece(self.tokenizer, self.masking, self.cache[int(number)][0], generator)
            for number in examples
            for generator in [np.random.default_rng([self.seed, drawn + 1, int(number)])]
        ]


class PackedStream(MaskedStream):
    """The same pieces, several in a row of `row_length` tokens; the pieces of an update are of all lengths."""

    def __init__(self, cache: TokenCache, files: Sequence[str], *, row_length: int, **settings: Any) -> None:
        """Take what `MaskedStream` takes, and the length of rows."""
        super().__init__(cache, files, **settings)
        self.row_length = row_length

    def batch(self, examples: Sequence[int] | Any, epoch: int | None = None) -> MaskedBatch:
        """Return the packed batch of some pieces, those that follow each other in one row."""
        return make_packed_batch(self._masked(examples, epoch), row_length=self.row_length, pad_id=self.pad_id)

    def _draw_order(self, epoch: int) -> Order:
        rows = max(1, self.batch_tokens // self.row_length)
        return PackedOrder(self._lengths[0], self.row_length, rows, self.seed, epoch)

    def _pieces(self, examples: Any) -> list[Any]:
        rows = cut_rows(self._lengths[0][examples], self.row_length)
        at_once = max(1, (self.micro_batch_tokens or self.batch_tokens) // self.row_length)
        number = -(-len(rows) // (at_once * self.size)) * self.size
        # Rows are dealt out whole: taken apart they would fill no others.
        return [examples[[place for row in rows[piece::number] for place in row]] for piece in range(number)]
