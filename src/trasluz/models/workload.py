"""What a model computes, as numbers: enough to count operations and bytes at any size without building it.

    one layer, forward     2 * weights            for each of its positions          (a multiplication and an addition)
                         + own_pairs              for each pair that is compared     dot-product attention: 4 * dim
                         + cross_pairs            for each pair with the source
                         + 2 * memory_weights     for each source position           keys and values of the source
    output head            2 * dim * vocabulary   for each position that is judged
    less, last layer       2 * (weights - 3 dim^2)   for each that is not: it gives queries, keys and values alone

Additions of biases, norms, softmax and activations are left out: they are few beside these. Each position is compared
with all of them; within a band, with those that its block of queries can reach (layers/dot_product_attention.py);
block-sparse, with the blocks that its own looks over (layers/block_sparse_attention.py).
"""

from dataclasses import dataclass
from typing import Literal

Text = Literal["source", "target"]


@dataclass(frozen=True)
class Blocks:
    """How block-sparse attention looks: blocks of `size` positions, each over so many, some over everything."""

    size: int
    seen: int
    """Over how many blocks of keys a block of queries looks."""
    looking_at_all: int
    all_up_to: int = 0
    """Texts of so many positions are looked over whole."""

    def pairs(self, length: int) -> int:
        """Return how many pairs of positions are compared in a text of so many."""
        if length <= self.all_up_to:
            return length**2
        blocks = -(-length // self.size)
        whole = min(self.looking_at_all, blocks)
        return self.size * (whole * length + (blocks - whole) * self.seen * self.size)


@dataclass(frozen=True)
class Stack:
    """Layers that are alike, over the positions of one text; a text that is continued is a target without source."""

    text: Text
    num_layers: int
    weights: int
    """Numbers in the matrices that a position meets in one layer."""
    dim: int
    feed_forward_dim: int = 0
    """Numbers inside the feed-forward network; in a gated one, of both sides of the gate."""
    num_heads: int = 0
    own_pairs: int = 0
    cross_pairs: int = 0
    memory_weights: int = 0
    band: int | None = None
    """How many positions each one sees at most; None: all."""
    blocks: Blocks | None = None
    added: int = 0
    """Positions that stand before every text."""

    def pairs(self, length: int) -> int:
        """Return how many pairs of positions attention compares in a text of so many tokens."""
        if self.blocks is not None:
            return self.blocks.pairs(length)
        band = self.band
        if band is None or band >= length:
            return length**2
        blocks, rest = divmod(length, band)
        # The first block has nothing before it; each other one reaches a band less one position further back.
        return band**2 + (blocks - 1) * band * (2 * band - 1) + rest * (rest + band - 1)


@dataclass(frozen=True)
class Workload:
    """All of a model: its stacks, and the output head where it has one."""

    stacks: tuple[Stack, ...]
    head_dim: int = 0
    head_vocab_size: int = 0
    judged_share: float = 1.0
    """Of the target's positions: at how many the head says something. Of masked words 0.15, and then the last layer
    ends with those alone."""

    def forward_operations(self, source: int, target: int) -> float:
        """Return the operations of one forward pass over a source and a target of so many tokens."""
        total = 0.0
        for stack in self.stacks:
            length = stack.added + (source if stack.text == "source" else target)
            layer = 2 * stack.weights * length + stack.own_pairs * stack.pairs(length)
            layer += stack.cross_pairs * length * source + 2 * stack.memory_weights * source
            total += stack.num_layers * layer
        if self.judged_share < 1:
            last = self.stacks[-1]
            not_judged = last.added + target * (1 - self.judged_share)
            total -= 2 * (last.weights - 3 * last.dim**2) * not_judged
        return total + 2 * self.head_dim * self.head_vocab_size * target * self.judged_share

    @property
    def reads_a_source(self) -> bool:
        """Whether there are two texts."""
        return any(stack.text == "source" for stack in self.stacks)


def attention_layer(
    text: Text, num_layers: int, dim: int, feed_forward_dim: int, num_heads: int, *, looks_at_source: bool = False
) -> Stack:
    """Return layers of multi-head self-attention, perhaps attention over a source, and a feed-forward network."""
    square = dim * dim
    return Stack(
        text,
        num_layers,
        weights=(6 if looks_at_source else 4) * square + 2 * dim * feed_forward_dim,
        dim=dim,
        feed_forward_dim=feed_forward_dim,
        num_heads=num_heads,
        own_pairs=4 * dim,
        cross_pairs=4 * dim if looks_at_source else 0,
        memory_weights=2 * square if looks_at_source else 0,
    )
