"""Which blocks of a long text look over which: the pattern of BigBird (Zaheer et al. 2020, section 2 and appendix D).

A text is cut into blocks of equal length. Every block of queries looks over a few blocks of keys: the global ones,
which are the first and the last of the text; a window around itself; and some drawn at random. The global blocks
themselves look over everything.

        0 1 2 3 4 5 6 7
    0   g g g g g g g g      g  global
    1   g w w . r . . g      w  window, of three blocks
    2   g w w w . . r g      r  random, one a row
    3   g r w w w . . g
    ...
    7   g g g g g g g g

That is the paper's "internal" construction (ITC), whose global tokens are the text's own. In the "extended" one (ETC)
they are added before the text: then the first blocks are global, and none of the last.

What a text looks over depends on its own length alone, never on the texts beside it in a batch.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

RandomPlan = Literal["paper", "huggingface-eval"]

# Larger than any block's number.
_NOWHERE = 1 << 40


class BlockSlots(NamedTuple):
    """What each block of queries looks over: numbers of blocks of keys, and which of these slots are in use."""

    blocks: Int[Tensor, "batch heads blocks seen"]
    used: Bool[Tensor, "batch heads blocks seen"]


@dataclass(frozen=True)
class BlockPattern:
    """The pattern of one layer.

    `random_plan` says where the random blocks lie: "paper" draws for each head and block distinct ones that it does
    not see anyway, from `seed`, always the same; "huggingface-eval" takes the first block `num_random` times, beside
    seeing it as a global one, which is what transformers 5 computes when it does not train.
    """

    block_size: int
    num_random: int
    num_first: int = 1
    num_last: int = 1
    window: int = 3
    random_plan: RandomPlan = "paper"
    seed: int = 0

    def __post_init__(self) -> None:
        # So that a block that stands several times is a whole one: the first is the text's last, which need not be
        # full, only where all blocks are global.
        assert self.num_first or self.random_plan == "paper", "huggingface-eval repeats a global block: the first"

    def num_blocks(self, num_positions: int) -> int:
        """Return how many blocks hold so many positions."""
        return -(-num_positions // self.block_size)

    def slots(self, num_blocks: Int[Tensor, " batch"], num_heads: int, most: int) -> BlockSlots:
        """Return what the blocks of texts of so many blocks look over, in room for `most` blocks a text.

        The rows of global blocks and of those behind a text's end mean nothing.
        """
        device = num_blocks.device
        count = num_blocks[:, None, None, None]
        own = torch.arange(most, device=device)[:, None]
        first = torch.arange(self.num_first, device=device).expand(most, -1)
        around = own + torch.arange(self.window, device=device) - self.window // 2
        last = count - self.num_last + torch.arange(self.num_last, device=device)
        inner = (around >= self.num_first) & (around < count - self.num_last)
        shape = (len(num_blocks), 1, most, -1)
        fixed = [first.expand(shape), around.expand(shape), last.expand(shape)]
        in_use = [first < count, inner, last >= self.num_first]
        if self.random_plan == "paper":
            random, random_used = self._distinct(around, inner, count, num_heads)
        else:
            random = torch.zeros(1, dtype=torch.long, device=device).expand(most, self.num_random)
            random_used = torch.ones_like(random, dtype=torch.bool)
        wide = (len(num_blocks), num_heads, most, -1)
        blocks = torch.cat([part.expand(wide) for part in (*fixed, random)], dim=-1)
        used = torch.cat([part.expand(wide) for part in (*in_use, random_used)], dim=-1)
        return BlockSlots(blocks.masked_fill(~used, 0), used)

    def _distinct(
        self,
        around: Int[Tensor, "blocks window"],
        inner: Bool[Tensor, "batch 1 blocks window"],
        count: Int[Tensor, "batch 1 1 1"],
        num_heads: int,
    ) -> tuple[Int[Tensor, "batch heads blocks drawn"], Bool[Tensor, "batch heads blocks drawn"]]:
        # Each draw is among the blocks still unseen; the number drawn then steps over the seen ones, in their order.
        batch, most = len(count), len(around)
        draws = _draws(self.seed, num_heads, most, self.num_random).to(around.device)
        seen = around.masked_fill(~inner, _NOWHERE).expand(batch, num_heads, most, -1)
        free = (count - self.num_last - self.num_first - inner.sum(-1, keepdim=True))[..., 0]
        found, used = [], []
        for number in range(self.num_random):
            left = free - number
            place = self.num_first + (draws[..., number] * left).floor().long()
            for step in seen.sort(dim=-1).values.unbind(-1):
                place = place + (place >= step)
            there = (left > 0).expand_as(place)
            seen = torch.cat([seen, place.masked_fill(~there, _NOWHERE)[..., None]], dim=-1)
            found.append(place)
            used.append(there)
        if not found:
            empty = torch.zeros(batch, num_heads, most, 0, dtype=torch.long, device=around.device)
            return empty, empty.bool()
        return torch.stack(found, dim=-1), torch.stack(used, dim=-1)


@lru_cache(maxsize=256)
def _draws(seed: int, num_heads: int, num_blocks: int, num_random: int) -> Tensor:
    """Return numbers from [0, 1) in float64, each of which follows from the seed and its place alone.

    So a text's blocks are the same in room for more, and on every machine: SplitMix64 (Steele et al. 2014) of the
    place, not a library's generator.
    """
    head, block, number = np.ogrid[:num_heads, :num_blocks, :num_random]
    with np.errstate(over="ignore"):
        place = (head.astype(np.uint64) << np.uint64(40)) | (block.astype(np.uint64) << np.uint64(8))
        word = _mixed(_mixed(np.uint64(seed) + np.uint64(1)) ^ (place | number.astype(np.uint64)))
    return torch.from_numpy((word >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def _mixed(word: Any) -> Any:
    word = np.asarray(word, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))
