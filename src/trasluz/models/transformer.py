"""The Transformer (Vaswani et al. 2017, "Attention Is All You Need"): encoder and decoder of attention alone.

    memory = EncoderBlock^N(embed(source) + positions)
    hidden = DecoderBlock^N(embed(target) + positions, memory)
    logits = hidden W^T + b

Post-norm, sinusoidal positions and tied embeddings are the paper's; pre-norm (Xiong et al. 2020) and trainable
positions (Gehring et al. 2017) are the usual alternatives.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from trasluz.layers.activated_linear import ActivationName
from trasluz.layers.attention import Attention, KeyValue
from trasluz.layers.embeddings import EmbeddingDropout, OutputHead, TokenEmbedding
from trasluz.layers.encoder_decoder_attention import EncoderDecoderAttention, remember_for_steps
from trasluz.layers.feed_forward import FeedForward
from trasluz.layers.key_value_cache import KeyValueCache, Lineage
from trasluz.layers.masks import CAUSAL, Mask
from trasluz.layers.positional_encoding import SinusoidalPositions, TrainablePositions
from trasluz.layers.residual import RESIDUALS
from trasluz.layers.self_attention import SelfAttention
from trasluz.layers.source_memories import joined, of_sources
from trasluz.layers.transformer_block import DecoderBlock, EncoderBlock, Residual, read_through, step_through
from trasluz.models.config import Probability, SequenceToSequenceConfig, must_be_equal_to_share, must_divide
from trasluz.models.registry import Architecture, Preset, register
from trasluz.models.workload import Workload, attention_layer
from trasluz.text.batching import TranslationBatch


class TransformerConfig(SequenceToSequenceConfig):
    """Sizes and choices; the defaults are the paper's base model."""

    model_dim: PositiveInt = 512
    num_heads: PositiveInt = 8
    feed_forward_dim: PositiveInt = 2048
    num_encoder_layers: NonNegativeInt = 6
    num_decoder_layers: PositiveInt = 6
    norm: Literal["post", "pre"] = "post"
    positions: Literal["sinusoidal", "trainable"] = "sinusoidal"
    max_positions: PositiveInt = Field(512, description="trained positions; sinusoidal ones have no end")
    tied_embeddings: Literal["all", "target", "none"] = Field(
        "all", description="all: source, target and output share one matrix; target: target and output do"
    )
    scale_embeddings: bool = Field(True, description="multiply embeddings by sqrt(model_dim)")
    output_bias: bool = False
    activation: ActivationName = "relu"
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.0
    activation_dropout: Probability = 0.0

    @model_validator(mode="before")
    @classmethod
    def _num_layers_sets_both(cls, given: Any) -> Any:
        if isinstance(given, dict) and "num_layers" in given:
            given = dict(given)
            both = given.pop("num_layers")
            given.setdefault("num_encoder_layers", both)
            given.setdefault("num_decoder_layers", both)
        return given

    @model_validator(mode="after")
    def _sizes_fit(self) -> "TransformerConfig":
        must_divide("num_heads", self.num_heads, "model_dim", self.model_dim)
        if self.tied_embeddings == "all":
            must_be_equal_to_share("tied_embeddings: all", self)
        return self


@dataclass
class TransformerState:
    """What decoding remembers: the projected source once a source, and each row's own past."""

    memories: list[KeyValue]
    memory_mask: Mask
    caches: list[KeyValueCache]

    @property
    def lineage(self) -> Lineage:
        """Who descends from whom; all layers share it."""
        return self.caches[0].lineage

    def select_rows(self, rows: Int[Tensor, " rows"], sources: Int[Tensor, " sources"] | None = None) -> None:
        """Keep these rows and these sources."""
        self.lineage.select_rows(rows)
        if sources is not None:
            self.memories, self.memory_mask = of_sources(self.memories, self.memory_mask, sources)

    def join(self, other: "TransformerState") -> None:
        """Take in the sources of a state that has made no step, behind these."""
        self.lineage.join(other.lineage.rows)
        self.memories, self.memory_mask = joined(self.memories, self.memory_mask, other.memories, other.memory_mask)


class Transformer(nn.Module):
    """Encoder and decoder stacks, embeddings and output head."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.model_dim
        scale = math.sqrt(dim) if config.scale_embeddings else 1.0
        self.source_embedding = TokenEmbedding(config.source_vocab_size, dim, scale)
        self.target_embedding = TokenEmbedding(config.target_vocab_size, dim, scale)
        if config.tied_embeddings == "all":
            self.target_embedding.weight = self.source_embedding.weight
        self.source_positions = self._positions()
        self.target_positions = self._positions()
        self.embedding_dropout = EmbeddingDropout(config.dropout)
        self.encoder = nn.ModuleList(self._encoder_block() for _ in range(config.num_encoder_layers))
        self.decoder = nn.ModuleList(self._decoder_block() for _ in range(config.num_decoder_layers))
        # A pre-norm stack leaves its sum un-normalised; a post-norm one has normalised already.
        self.encoder_norm = nn.LayerNorm(dim) if config.norm == "pre" else nn.Identity()
        self.decoder_norm = nn.LayerNorm(dim) if config.norm == "pre" else nn.Identity()
        tied = config.tied_embeddings != "none"
        self.output_head = OutputHead(
            self.target_embedding.weight if tied else nn.Parameter(torch.empty(config.target_vocab_size, dim)),
            nn.Parameter(torch.zeros(config.target_vocab_size)) if config.output_bias else None,
        )
        self._initialize()

    def _positions(self) -> SinusoidalPositions | TrainablePositions:
        config = self.config
        if config.positions == "sinusoidal":
            return SinusoidalPositions(config.model_dim, config.max_positions)
        return TrainablePositions(config.model_dim, config.max_positions)

    def _residual(self) -> Residual:
        return RESIDUALS[self.config.norm](self.config.model_dim, self.config.dropout)

    def _feed_forward(self) -> FeedForward:
        config = self.config
        return FeedForward(config.model_dim, config.feed_forward_dim, config.activation, config.activation_dropout)

    def _encoder_block(self) -> EncoderBlock:
        config = self.config
        return EncoderBlock(
            SelfAttention(config.model_dim, config.num_heads, dropout=config.attention_dropout),
            self._feed_forward(),
            self._residual(),
            self._residual(),
        )

    def _decoder_block(self) -> DecoderBlock:
        config = self.config
        return DecoderBlock(
            SelfAttention(config.model_dim, config.num_heads, dropout=config.attention_dropout),
            EncoderDecoderAttention(config.model_dim, config.num_heads, dropout=config.attention_dropout),
            self._feed_forward(),
            self._residual(),
            self._residual(),
            self._residual(),
        )

    def _initialize(self) -> None:
        """Glorot for the layers; embeddings of deviation dim^-0.5: scaled inputs and tied logits both start near 1."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, TokenEmbedding | OutputHead):
                nn.init.normal_(module.weight, std=self.config.model_dim**-0.5)
            elif isinstance(module, TrainablePositions):
                nn.init.normal_(module.weight, std=0.02)
        with torch.no_grad():
            for embedding in (self.source_embedding, self.target_embedding):
                embedding.weight[self.config.pad_id] = 0.0

    @property
    def encoder_blocks(self) -> tuple[EncoderBlock, ...]:
        """The encoder's layers, typed."""
        return tuple(cast(Iterable[EncoderBlock], self.encoder))

    @property
    def decoder_blocks(self) -> tuple[DecoderBlock, ...]:
        """The decoder's layers, typed."""
        return tuple(cast(Iterable[DecoderBlock], self.decoder))

    def attentions(self) -> dict[str, list[Attention]]:
        """Return every attention, by kind and layer."""
        return {
            "encoder": [block.self_attention for block in self.encoder_blocks],
            "decoder": [block.self_attention for block in self.decoder_blocks],
            "cross": [block.cross_attention for block in self.decoder_blocks],
        }

    def encode(
        self, source: Int[Tensor, "batch source"], source_lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch source dim"]:
        """Return the encoder's states; those behind a sentence's end mean nothing."""
        mask = Mask(source_lengths)
        x = self.embedding_dropout(self.source_embedding(source) + self.source_positions(source.shape[1]))
        memory: Tensor = self.encoder_norm(read_through(self.encoder_blocks, x, mask))
        return memory

    def forward(self, batch: TranslationBatch) -> Float[Tensor, "batch target dim"]:
        """Return the decoder's states at every target position, before the output head."""
        memory = self.encode(batch.source, batch.source_lengths)
        memory_mask = Mask(batch.source_lengths)
        ids = batch.target_input
        x = self.embedding_dropout(self.target_embedding(ids) + self.target_positions(ids.shape[1]))
        for block in self.decoder_blocks:
            x = block(x, memory, CAUSAL, memory_mask)
        hidden: Tensor = self.decoder_norm(x)
        return hidden

    def start(
        self,
        source: Int[Tensor, "sources source"],
        source_lengths: Int[Tensor, " sources"],
        num_beams: int,
        capacity: int,
    ) -> TransformerState:
        """Encode the sources, project them for every layer, and make room for the targets."""
        memory = self.encode(source, source_lengths)
        lineage = Lineage(source.shape[0] * num_beams, capacity, memory.device)
        return TransformerState(
            memories=remember_for_steps([block.cross_attention for block in self.decoder_blocks], memory),
            memory_mask=Mask(source_lengths),
            caches=[block.self_attention.new_cache(lineage, memory) for block in self.decoder_blocks],
        )

    def step(
        self, ids: Int[Tensor, " rows"], state: TransformerState
    ) -> tuple[Float[Tensor, "rows vocab"], TransformerState]:
        """Take the last token of every row and return the logits of the next."""
        lineage = state.lineage
        places = lineage.ages
        here = self.target_positions(1, lineage.length) if places is None else self.target_positions.at(places[:, None])
        x = self.target_embedding(ids[:, None]) + here
        lineage.advance()
        x = step_through(self.decoder_blocks, x, state.caches, state.memories, state.memory_mask)
        return self.output_head(self.decoder_norm(x).squeeze(1)), state


def count_parameters(config: TransformerConfig) -> int:
    """Return the number of parameters in closed form: tied matrices count once."""
    d, f = config.model_dim, config.feed_forward_dim
    attention = 4 * (d * d + d)
    feed_forward = 2 * d * f + f + d
    norm = 2 * d
    encoder = config.num_encoder_layers * (attention + feed_forward + 2 * norm)
    decoder = config.num_decoder_layers * (2 * attention + feed_forward + 3 * norm)
    matrices = {
        "all": config.source_vocab_size,
        "target": config.source_vocab_size + config.target_vocab_size,
        "none": config.source_vocab_size + 2 * config.target_vocab_size,
    }[config.tied_embeddings]
    positions = 2 * config.max_positions * d if config.positions == "trainable" else 0
    last_norms = 2 * norm if config.norm == "pre" else 0
    bias = config.target_vocab_size if config.output_bias else 0
    return encoder + decoder + matrices * d + positions + last_norms + bias


def workload(config: TransformerConfig) -> Workload:
    """Return what a model of this config computes."""
    sizes = config.model_dim, config.feed_forward_dim, config.num_heads
    return Workload(
        (
            attention_layer("source", config.num_encoder_layers, *sizes),
            attention_layer("target", config.num_decoder_layers, *sizes, looks_at_source=True),
        ),
        config.model_dim,
        config.target_vocab_size,
    )


register(
    Architecture(
        model_type="transformer",
        config_class=TransformerConfig,
        model_class=Transformer,
        count_parameters=count_parameters,
        tasks=("translate",),
        workload=workload,
        presets=(
            Preset(
                "transformer-tiny",
                "3 + 3 layers, 256 wide: learns from some ten thousand pairs on a laptop",
                {"model_dim": 256, "num_heads": 4, "feed_forward_dim": 1024, "num_layers": 3},
            ),
            Preset(
                "transformer-small",
                "4 + 4 layers, 384 wide: some hundred thousand pairs",
                {"model_dim": 384, "num_heads": 6, "feed_forward_dim": 1536, "num_layers": 4},
            ),
            Preset(
                "transformer-base",
                "Vaswani et al. 2017, table 3, base: 6 + 6 layers, 512 wide, vocabulary 37,000",
                {},
                paper_vocab_size=37_000,
                paper_parameters=65_000_000,
            ),
            Preset(
                "transformer-big",
                "Vaswani et al. 2017, table 3, big: 6 + 6 layers, 1,024 wide, vocabulary 37,000",
                {"model_dim": 1024, "num_heads": 16, "feed_forward_dim": 4096, "dropout": 0.3},
                paper_vocab_size=37_000,
                paper_parameters=213_000_000,
            ),
        ),
    )
)
