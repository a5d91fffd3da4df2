"""Attention weights of which most are zero: only the blocks that are looked at are held."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class BlockWeights:
    """Weights in square blocks; where no block lies they are zero, and blocks at one place add up.

    `rows` count texts, their heads, and the blocks of queries of each; `columns` are blocks of keys.
    """

    values: Float[Tensor, "held size size"]
    rows: Int[Tensor, " held"]
    columns: Int[Tensor, " held"]
    shape: tuple[int, int, int, int]
    """Texts, heads, queries, keys."""

    @property
    def _grid(self) -> tuple[int, int]:
        size = self.values.shape[-1]
        return -(-self.shape[2] // size), -(-self.shape[3] // size)

    def of_heads(self, heads: Sequence[int]) -> "BlockWeights":
        """Return the weights of these heads, in this order."""
        batch, num_heads, queries, keys = self.shape
        across, _ = self._grid
        text, head, block = self.rows // across // num_heads, self.rows // across % num_heads, self.rows % across
        held, rows = [], []
        for number, chosen in enumerate(heads):
            here = (head == chosen).nonzero()[:, 0]
            held.append(here)
            rows.append((text[here] * len(heads) + number) * across + block[here])
        at = torch.cat(held)
        return BlockWeights(self.values[at], torch.cat(rows), self.columns[at], (batch, len(heads), queries, keys))

    def joined(self, texts: Int[Tensor, " texts"], weights: Float[Tensor, "texts heads short short"]) -> "BlockWeights":
        """Return these and the weights of short texts, which were written out and of which nothing is here yet."""
        size, heads, (across, _) = self.values.shape[-1], self.shape[1], self._grid
        texts = texts.to(self.values.device)
        blocks = -(-weights.shape[-1] // size)
        room = blocks * size - weights.shape[-1]
        cut = pad(weights, (0, room, 0, room)).view(-1, blocks, size, blocks, size).transpose(2, 3)
        row = (texts[:, None] * heads + torch.arange(heads, device=texts.device)).flatten() * across
        number = torch.arange(blocks, device=texts.device)
        rows = (row[:, None, None] + number[:, None]).expand(-1, -1, blocks).flatten()
        columns = number.expand(len(row), blocks, -1).flatten()
        return BlockWeights(
            torch.cat([self.values, cut.reshape(-1, size, size)]),
            torch.cat([self.rows, rows]),
            torch.cat([self.columns, columns]),
            self.shape,
        )

    def dense(self) -> Float[Tensor, "batch heads query key"]:
        """Return all weights written out: 67 MB a head at 4,096 positions in fp32."""
        batch, heads, queries, keys = self.shape
        across, down = self._grid
        size = self.values.shape[-1]
        found = self.values.new_zeros(batch * heads * across, down, size, size)
        found.index_put_((self.rows, self.columns), self.values, accumulate=True)
        found = found.transpose(1, 2).reshape(batch, heads, across * size, down * size)
        return found[:, :, :queries, :keys]
