"""GPT (Radford et al. 2018, 2019; Brown et al. 2020): a Transformer's decoder alone, which continues any text.

    x      = word + position
    hidden = norm(CausalBlock^N(x))                pre-norm, GELU in its tanh form, every position over those before it
    logits = hidden W^T                            W is the matrix of the embeddings

The shapes of GPT-2 (2019, table 2) and GPT-3 (2020, table 2.1) differ in numbers only. GPT-3 also has every second
layer look through a narrow band, whose width was never published; here all its layers are dense.

The papers' tables have misprints, which the presets do not repeat: GPT-2's smallest model is printed with 117 million
parameters and has 124; GPT-3 XL is printed with 24 heads of 128, which are not its width of 2,048, and has 16 here;
GPT-3 13B is printed 5,140 wide, which 40 heads of 128 are not, and is 5,120 wide here.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from trasluz.errors import RequestError
from trasluz.layers.attention import Attention
from trasluz.layers.dropout import Dropout
from trasluz.layers.embeddings import OutputHead, TokenEmbedding
from trasluz.layers.feed_forward import ActivationName, FeedForward
from trasluz.layers.kernels.sum_norm import sum_norm
from trasluz.layers.key_value_cache import KeyValueCache, Lineage
from trasluz.layers.masks import CAUSAL, Mask
from trasluz.layers.positional_encoding import TrainablePositions
from trasluz.layers.residual import PreNorm
from trasluz.layers.self_attention import SelfAttention
from trasluz.layers.transformer_block import CausalBlock
from trasluz.models.config import Overrides, Probability, TextConfig, must_divide
from trasluz.models.registry import Architecture, Preset, register
from trasluz.models.workload import Workload, attention_layer
from trasluz.text.batching import CausalBatch


class GptConfig(TextConfig):
    """Sizes and choices; the defaults are GPT-2's smallest model."""

    eos_id: NonNegativeInt | None = Field(None, description="the token between documents; None: there is none")
    model_dim: PositiveInt = 768
    num_heads: PositiveInt = 12
    feed_forward_dim: PositiveInt = 3072
    num_layers: PositiveInt = 12
    max_positions: PositiveInt = 1024
    activation: ActivationName = "gelu_tanh"
    norm_epsilon: PositiveFloat = 1e-5
    dropout: Probability = 0.1
    embedding_dropout: Probability = 0.1
    attention_dropout: Probability = 0.1
    initial_deviation: NonNegativeFloat = 0.02

    @model_validator(mode="after")
    def _sizes_fit(self) -> "GptConfig":
        must_divide("num_heads", self.num_heads, "model_dim", self.model_dim)
        if self.eos_id is not None and self.eos_id >= self.vocab_size:
            raise ValueError(f"`eos_id` must be below `vocab_size` ({self.vocab_size}), but is {self.eos_id}")
        return self

    @property
    def task(self) -> str:
        """What a model of this config does where its folder does not say."""
        return "generate"

    @property
    def longest_text(self) -> int:
        """Most tokens that can be read."""
        return self.max_positions


@dataclass
class GptState:
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


class Gpt(nn.Module):
    """Embeddings, the stack of blocks, and the output head, which is the embeddings' matrix."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.model_dim
        self.word_embedding = TokenEmbedding(config.vocab_size, dim)
        self.positions = TrainablePositions(dim, config.max_positions)
        self.embedding_dropout = Dropout(config.embedding_dropout)
        self.decoder = nn.ModuleList(self._block() for _ in range(config.num_layers))
        self.decoder_norm = nn.LayerNorm(dim, config.norm_epsilon)
        self.output_head = OutputHead(self.word_embedding.weight)
        self._initialize()

    def _block(self) -> CausalBlock:
        config = self.config
        return CausalBlock(
            SelfAttention(config.model_dim, config.num_heads, dropout=config.attention_dropout),
            FeedForward(config.model_dim, config.feed_forward_dim, config.activation),
            PreNorm(config.model_dim, config.dropout, config.norm_epsilon),
            PreNorm(config.model_dim, config.dropout, config.norm_epsilon),
        )

    def _initialize(self) -> None:
        """Small normal numbers; what is added to the residual path is smaller, the more there is of it (2019, 2.3)."""
        deviation = self.config.initial_deviation
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=deviation)
                nn.init.zeros_(module.bias)
            elif isinstance(module, TokenEmbedding | TrainablePositions):
                nn.init.normal_(module.weight, std=deviation)
        added = deviation / math.sqrt(2 * self.config.num_layers)
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
        if batch.positions is None:
            positions, mask = self.positions(batch.inputs.shape[1]), CAUSAL
        else:
            positions, mask = self.positions.at(batch.positions), Mask(causal=True, texts=batch.text_numbers)
        x = self.embedding_dropout(self.word_embedding(batch.inputs) + positions)
        for block in self.blocks:
            x = block(x, mask)
        return sum_norm(self.decoder_norm, x)

    def start(
        self,
        source: Int[Tensor, "sources source"],
        source_lengths: Int[Tensor, " sources"],
        num_beams: int,
        capacity: int,
    ) -> GptState:
        """Read the prompts at once, all but their last tokens, and make room for `capacity` steps.

        They are equally long; RequestError where they are not.
        """
        num_sources, longest = source.shape
        _check_equally_long(source_lengths, longest)
        begin, last = source[:, :-1], source[:, -1]
        lineage = Lineage(num_sources * num_beams, capacity, source.device, longest - 1, num_sources)
        x = self.word_embedding(begin) + self.positions(longest - 1)
        caches = [block.self_attention.new_cache(lineage, x) for block in self.blocks]
        if longest > 1:
            for block, cache in zip(self.blocks, caches, strict=True):
                x = block.read_prompt(x, cache)
        return GptState(caches, last.repeat_interleave(num_beams))

    def step(self, ids: Int[Tensor, " rows"], state: GptState) -> tuple[Float[Tensor, "rows vocab"], GptState]:
        """Take the last token of every row and return the logits of the next.

        What begins a continuation is no token of its own but the prompt's last, so the first step takes that one,
        whatever `ids` says.
        """
        if state.unread is not None:
            ids, state.unread = state.unread, None
        x = self.word_embedding(ids[:, None]) + self.positions(1, state.lineage.num_positions)
        state.lineage.advance()
        for block, cache in zip(self.blocks, state.caches, strict=True):
            x = block.step(x, cache)
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


def count_parameters(config: GptConfig) -> int:
    """Return the number of parameters in closed form; the output head's matrix is the embeddings'."""
    d, f = config.model_dim, config.feed_forward_dim
    norm = 2 * d
    layer = 4 * (d * d + d) + 2 * d * f + f + d + 2 * norm
    return (config.vocab_size + config.max_positions) * d + config.num_layers * layer + norm


def workload(config: GptConfig) -> Workload:
    """Return what a model of this config computes."""
    dim = config.model_dim
    stack = attention_layer("target", config.num_layers, dim, config.feed_forward_dim, config.num_heads)
    return Workload((stack,), dim, config.vocab_size)


_VOCAB_SIZE = 50_257


def _shape(num_layers: int, model_dim: int, num_heads: int, max_positions: int) -> Overrides:
    return {
        "num_layers": num_layers,
        "model_dim": model_dim,
        "num_heads": num_heads,
        "feed_forward_dim": 4 * model_dim,
        "max_positions": max_positions,
    }


def _preset(name: str, paper: str, parameters: int, layers: int, dim: int, heads: int, window: int) -> Preset:
    return Preset(
        name,
        f"{paper}: {layers} layers, {dim:,} wide, {window:,} positions; vocabulary {_VOCAB_SIZE:,}",
        _shape(layers, dim, heads, window),
        paper_vocab_size=_VOCAB_SIZE,
        paper_parameters=parameters,
    )


_GPT2 = "Radford et al. 2019, table 2"
_GPT3 = "Brown et al. 2020, table 2.1, all layers dense"

register(
    Architecture(
        model_type="gpt",
        config_class=GptConfig,
        model_class=Gpt,
        count_parameters=count_parameters,
        tasks=("generate",),
        workload=workload,
        vocab_fields=("vocab_size",),
        presets=(
            # Printed: 117 million.
            _preset("gpt2", _GPT2, 124_000_000, 12, 768, 12, 1024),
            _preset("gpt2-medium", _GPT2, 345_000_000, 24, 1024, 16, 1024),
            _preset("gpt2-large", _GPT2, 762_000_000, 36, 1280, 20, 1024),
            _preset("gpt2-xl", _GPT2, 1_542_000_000, 48, 1600, 25, 1024),
            _preset("gpt3-125m", _GPT3, 125_000_000, 12, 768, 12, 2048),
            _preset("gpt3-350m", _GPT3, 350_000_000, 24, 1024, 16, 2048),
            _preset("gpt3-760m", _GPT3, 760_000_000, 24, 1536, 16, 2048),
            # Printed: 24 heads.
            _preset("gpt3-1.3b", _GPT3, 1_300_000_000, 24, 2048, 16, 2048),
            _preset("gpt3-2.7b", _GPT3, 2_700_000_000, 32, 2560, 32, 2048),
            _preset("gpt3-6.7b", _GPT3, 6_700_000_000, 32, 4096, 32, 2048),
            # Printed: 5,140 wide.
            _preset("gpt3-13b", _GPT3, 13_000_000_000, 40, 5120, 40, 2048),
            _preset("gpt3-175b", _GPT3, 175_000_000_000, 96, 12288, 96, 2048),
        ),
    )
)
