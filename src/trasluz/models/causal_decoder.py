"""A Transformer's decoder alone (Liu et al. 2018, section 4.2.3): what all models that continue texts have in common.

    hidden = norm(CausalBlock^N(embedded))         every position over those before it
    logits = output_head(hidden)

A model's own file says of which parts it is made, and how a token is embedded.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trasluz.errors import RequestError
from trasluz.layers.attention import Attention
from trasluz.layers.embeddings import OutputHead, TokenEmbedding
from trasluz.layers.key_value_cache import KeyValueCache, Lineage
from trasluz.layers.masks import CAUSAL, Mask
from trasluz.layers.positional_encoding import TrainablePositions
from trasluz.layers.sum_norm import sum_norm
from trasluz.layers.transformer_block import CausalBlock, step_through
from trasluz.text.batching import CausalBatch


@dataclass
class CausalState:
    """What decoding remembers: every layer's keys and values, and the last token of each prompt until it is read."""

    caches: list[KeyValueCache]
    unread: Int[Tensor, " rows"] | None

    @property
    def lineage(self) -> Lineage:
        """Who descends from whom; all layers share it."""
        return self.caches[0].lineage

    def select_rows(self, rows: Int[Tensor, " rows"], sources: Int[Tensor, " sources"] | None = None) -> None:
        """Keep these rows; the prompts of sources that leave stay where they lie, and nobody looks at them."""
        self.lineage.select_rows(rows)
        if self.unread is not None:
            self.unread = self.unread[rows]


class CausalDecoder(nn.Module, ABC):
    """The stack of blocks and what it is used for; a model makes the parts."""

    word_embedding: TokenEmbedding
    decoder: nn.ModuleList
    decoder_norm: nn.Module
    output_head: OutputHead

    @abstractmethod
    def embed(
        self, ids: Int[Tensor, "batch positions"], first: int = 0, places: Int[Tensor, "batch positions"] | None = None
    ) -> Float[Tensor, "batch positions dim"]:
        """Return what the first block reads of tokens that stand from position `first` on, or at these places."""

    def initialize(self, deviation: float) -> None:
        """Small normal numbers; what is added to the residual path is smaller, the more there is of it.

        Radford et al. 2019, section 2.3.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=deviation)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, TokenEmbedding | TrainablePositions):
                nn.init.normal_(module.weight, std=deviation)
        if self.output_head.weight is not self.word_embedding.weight:
            nn.init.normal_(self.output_head.weight, std=deviation)
        added = deviation / math.sqrt(2 * len(self.blocks))
        for block in self.blocks:
            nn.init.normal_(block.self_attention.output.weight, std=added)
            nn.init.normal_(block.feed_forward.contract.weight, std=added)

    @property
    def blocks(self) -> tuple[CausalBlock, ...]:
        """The layers, typed."""
        return tuple(cast(Iterable[CausalBlock], self.decoder))

    def attentions(self) -> dict[str, list[Attention]]:
        """Return every attention, by kind and layer."""
        return {"decoder": [block.self_attention for block in self.blocks]}

    def forward(self, batch: CausalBatch) -> Float[Tensor, "batch positions dim"]:
        """Return the states of every position, before the output head; those behind a text's end mean nothing."""
        # Padding stands behind a text, where no position of the text looks.
        mask = CAUSAL if batch.positions is None else Mask(causal=True, texts=batch.text_numbers)
        x = self.embed(batch.inputs, places=batch.positions)
        for block in self.blocks:
            x = block(x, mask)
        return sum_norm(self.decoder_norm, x)

    def start(
        self,
        source: Int[Tensor, "sources source"],
        source_lengths: Int[Tensor, " sources"],
        num_beams: int,
        capacity: int,
    ) -> CausalState:
        """Read the prompts at once, all but their last tokens, and make room for `capacity` steps.

        They are equally long; RequestError where they are not.
        """
        num_sources, longest = source.shape
        _check_equally_long(source_lengths, longest)
        begin, last = source[:, :-1], source[:, -1]
        lineage = Lineage(num_sources * num_beams, capacity, source.device, longest - 1, num_sources)
        x = self.embed(begin)
        caches = [block.self_attention.new_cache(lineage, x) for block in self.blocks]
        if longest > 1:
            for block, cache in zip(self.blocks, caches, strict=True):
                x = block.read_prompt(x, cache)
        return CausalState(caches, last.repeat_interleave(num_beams))

    def step(self, ids: Int[Tensor, " rows"], state: CausalState) -> tuple[Float[Tensor, "rows vocab"], CausalState]:
        """Take the last token of every row and return the logits of the next.

        What begins a continuation is no token of its own but the prompt's last, so the first step takes that one,
        whatever `ids` says.
        """
        if state.unread is not None:
            ids, state.unread = state.unread, None
        x = self.embed(ids[:, None], state.lineage.num_positions)
        state.lineage.advance()
        x = step_through(self.blocks, x, state.caches)
        return self.output_head(sum_norm(self.decoder_norm, x).squeeze(1)), state


def _check_equally_long(lengths: Int[Tensor, " sources"], longest: int) -> None:
    if torch.compiler.is_exporting():
        # A graph that is being drawn knows no numbers.
        return
    shortest = int(lengths.min())
    if shortest < longest or not longest:
        raise RequestError(
            f"the prompts of one start have {shortest} to {longest} tokens; they must be equally long, of one "
            "token at least: start those of each length by themselves."
        )
