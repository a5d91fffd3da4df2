"""BERT (Devlin et al. 2019): a Transformer's encoder that reads a text in both directions at once.

    x_0    = norm(word + position + segment)
    hidden = EncoderBlock^N(x_0)                 post-norm, GELU (Hendrycks and Gimpel 2016)

It learns from text alone, by words that were masked, and is then tuned for a task through a head (`models/heads.py`).
"""

from collections.abc import Iterable, Sequence
from typing import Literal, cast

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from trasluz.layers.activated_linear import ActivationName
from trasluz.layers.attention import Attention
from trasluz.layers.embeddings import EmbeddingDropout, TokenEmbedding
from trasluz.layers.feed_forward import FeedForward
from trasluz.layers.kept_rows import in_few_sizes
from trasluz.layers.linear import compute_dtype
from trasluz.layers.masks import Mask
from trasluz.layers.positional_encoding import TrainablePositions
from trasluz.layers.residual import PostNorm
from trasluz.layers.self_attention import SelfAttention
from trasluz.layers.sum_norm import sum_norm
from trasluz.layers.transformer_block import EncoderBlock, read_through
from trasluz.models.config import Probability, TextConfig, must_divide
from trasluz.models.heads import (
    NEXT_SENTENCE_CLASSES,
    SPAN_ENDS,
    ClassHead,
    HeadName,
    MaskedWordHead,
    Pooler,
    PoolerActivation,
    TokenHead,
)
from trasluz.models.registry import Architecture, Preset, register
from trasluz.models.workload import Workload, attention_layer
from trasluz.text.batching import Places, TextBatch

LabelKind = Literal["one", "several", "number"]


class BertConfig(TextConfig):
    """Sizes and choices; the defaults are the paper's base model."""

    model_dim: PositiveInt = 768
    num_heads: PositiveInt = 12
    feed_forward_dim: PositiveInt = 3072
    num_layers: PositiveInt = 12
    max_positions: PositiveInt = 512
    first_position: NonNegativeInt = Field(0, description="row of the table that a text's first position takes")
    num_segments: NonNegativeInt = Field(2, description="kinds of text that one input may hold; 0: no such embedding")
    activation: ActivationName = "gelu"
    pooler_activation: PoolerActivation = "tanh"
    norm_epsilon: PositiveFloat = 1e-12
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1
    head_dropout: Probability = 0.1
    initial_deviation: NonNegativeFloat = 0.02
    heads: list[HeadName] = Field(default_factory=list, description="what stands on the encoder")
    labels: list[str] = Field(default_factory=list, description="names of the classes of `classify` or `tag`")
    label_kind: LabelKind = Field("one", description="of `classify`: one class a text, several at once, or a number")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "BertConfig":
        must_divide("num_heads", self.num_heads, "model_dim", self.model_dim)
        if self.first_position >= self.max_positions:
            raise ValueError(
                f"`first_position` must be below `max_positions` ({self.max_positions}), but is {self.first_position}"
            )
        return self

    @model_validator(mode="after")
    def _labels_fit(self) -> "BertConfig":
        labelled = {"classify", "tag"} & set(self.heads)
        if len(set(self.heads)) < len(self.heads) or len(labelled) > 1:
            raise ValueError(f"`heads` must be different, and not both classify and tag, but are {self.heads}")
        if bool(labelled) != bool(self.labels):
            raise ValueError("`labels` are the classes of a head classify or tag: the one needs the other")
        if self.label_kind == "number" and len(self.labels) != 1:
            raise ValueError(f"`label_kind: number` needs one label, its name, but there are {len(self.labels)}")
        return self

    @property
    def task(self) -> str:
        """What a model of this config does where its folder does not say: what its head is for."""
        return next((name for name in self.heads if name in ("fill-mask", "classify", "tag", "answer")), "embed")

    def with_layers(self, kept: Sequence[int]) -> "BertConfig":
        """Return the config of a model that has only these layers of one of this config."""
        return type(self)(**{**self.model_dump(), "num_layers": len(kept)})

    @property
    def longest_text(self) -> int:
        """Most tokens of a text, special ones included."""
        return self.max_positions - self.first_position


class Bert(nn.Module):
    """The encoder, and the heads that stand on it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.model_dim
        self.word_embedding = TokenEmbedding(config.vocab_size, dim)
        self.positions = TrainablePositions(dim, config.max_positions, config.first_position)
        self.segment_embedding = TokenEmbedding(config.num_segments, dim) if config.num_segments else None
        self.embedding_norm = nn.LayerNorm(dim, config.norm_epsilon)
        self.embedding_dropout = EmbeddingDropout(config.dropout)
        self.encoder = nn.ModuleList(self._block(layer) for layer in range(config.num_layers))
        self.heads = nn.ModuleDict({name: self._head(name) for name in config.heads})
        self._initialize()

    def _block(self, layer: int) -> EncoderBlock:
        config = self.config
        return EncoderBlock(
            self._attention(layer),
            FeedForward(config.model_dim, config.feed_forward_dim, config.activation),
            PostNorm(config.model_dim, config.dropout, config.norm_epsilon),
            PostNorm(config.model_dim, config.dropout, config.norm_epsilon),
        )

    def _attention(self, layer: int) -> SelfAttention:
        config = self.config
        return SelfAttention(config.model_dim, config.num_heads, dropout=config.attention_dropout)

    def _head(self, name: HeadName) -> nn.Module:
        config = self.config
        dim, pooler, dropout = config.model_dim, config.pooler_activation, config.head_dropout
        match name:
            case "pool":
                return Pooler(dim, pooler)
            case "fill-mask":
                return MaskedWordHead(self.word_embedding.weight, config.activation, config.norm_epsilon)
            case "next-sentence":
                return ClassHead(dim, NEXT_SENTENCE_CLASSES, pooler, dropout)
            case "classify":
                return ClassHead(dim, len(config.labels), pooler, dropout)
            case "tag":
                return TokenHead(dim, len(config.labels), dropout)
            case "answer":
                return TokenHead(dim, SPAN_ENDS, dropout)

    def _initialize(self) -> None:
        deviation = self.config.initial_deviation
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=deviation)
                nn.init.zeros_(module.bias)
            elif isinstance(module, TokenEmbedding | TrainablePositions):
                nn.init.normal_(module.weight, std=deviation)
        with torch.no_grad():
            self.word_embedding.weight[self.config.pad_id] = 0.0

    @property
    def blocks(self) -> tuple[EncoderBlock, ...]:
        """The layers, typed."""
        return tuple(cast(Iterable[EncoderBlock], self.encoder))

    @property
    def reads_rows(self) -> bool:
        """Whether several texts may share a row."""
        return True

    def attentions(self) -> dict[str, list[Attention]]:
        """Return every attention, by kind and layer."""
        return {"encoder": [block.self_attention for block in self.blocks]}

    @property
    def pooler(self) -> Pooler | None:
        """What makes one vector of a text, for whichever head; None where no head has one."""
        return next((part for part in self.heads.modules() if isinstance(part, Pooler)), None)

    def forward(
        self, batch: TextBatch, places: Places | None = None
    ) -> Float[Tensor, "batch positions dim"] | Float[Tensor, "places dim"]:
        """Return the states of every position, of which those behind a text's end mean nothing, or those of `places`.

        Few places cost less than all: of the others the last layer computes only what is looked at.
        """
        numbers = batch.text_numbers
        return self._encoded(
            self._embedded(batch), Mask(batch.lengths) if numbers is None else Mask(texts=numbers), places
        )

    def _encoded(
        self, x: Float[Tensor, "batch positions dim"], mask: Mask, places: Places | None
    ) -> Float[Tensor, "batch positions dim"] | Float[Tensor, "places dim"]:
        if places is None:
            return read_through(self.blocks, x, mask)
        *lower, last = self.blocks
        x = read_through(lower, x, mask)
        kept = places.rows * x.shape[1] + places.columns
        return last(x, mask, in_few_sizes(kept, compute_dtype(x)))[: len(kept)]

    def _embedded(self, batch: TextBatch) -> Float[Tensor, "batch positions dim"]:
        x = self.word_embedding(batch.ids) + self._positions_of(batch)
        if self.segment_embedding is not None:
            x = x + self.segment_embedding(batch.segments)
        embedded: Tensor = self.embedding_dropout(sum_norm(self.embedding_norm, x))
        return embedded

    def _positions_of(self, batch: TextBatch) -> Float[Tensor, "*batch positions dim"]:
        if batch.positions is None:
            return self.positions(batch.ids.shape[1])
        return self.positions.at(batch.positions)

    def depths(self) -> dict[str, int]:
        """Return how deep each parameter lies: embeddings 0, the lowest layer 1, heads above the highest."""
        top = self.config.num_layers + 1
        depths = {}
        for name, _ in self.named_parameters():
            part, _, rest = name.partition(".")
            depths[name] = int(rest.split(".")[0]) + 1 if part == "encoder" else top if part == "heads" else 0
        return depths

    def with_heads(
        self, heads: Sequence[HeadName], labels: Sequence[str] = (), label_kind: LabelKind = "one"
    ) -> "Bert":
        """Return the same encoder under other heads: those it has are kept, and a pooler is taken over, others are new.

        The parameters are copies, so that tuning one model leaves the other alone.
        """
        changes = {"heads": list(heads), "labels": list(labels), "label_kind": label_kind}
        other = type(self)(type(self.config)(**{**self.config.model_dump(), **changes}))
        kept = {name for name in heads if name in self.heads and (not labels or self.config.labels == list(labels))}
        self._copy_all_but("heads", other)
        for name in kept:
            other.heads[name].load_state_dict(self.heads[name].state_dict())
        if self.pooler is not None and other.pooler is not None and not kept:
            other.pooler.load_state_dict(self.pooler.state_dict())
        return other

    def with_layers(self, kept: Sequence[int]) -> "Bert":
        """Return a copy that has only these layers, counted from 0, in this order (Sanh et al. 2019, section 2)."""
        other = type(self)(self.config.with_layers(kept))
        self._copy_all_but("encoder", other)
        for block, number in zip(other.blocks, kept, strict=True):
            block.load_state_dict(self.blocks[number].state_dict())
        return other

    def _copy_all_but(self, part: str, other: "Bert") -> None:
        """Give another model all parameters that are not of this part; the rest of it may be of another shape."""
        mine = self.state_dict()
        wanted = [name for name in other.state_dict() if name.partition(".")[0] != part]
        other.load_state_dict({name: mine[name] for name in wanted}, strict=False)


def count_parameters(config: BertConfig) -> int:
    """Return the number of parameters in closed form."""
    d, f = config.model_dim, config.feed_forward_dim
    norm, square = 2 * d, d * d + d
    embeddings = (config.vocab_size + config.max_positions + config.num_segments) * d + norm
    layer = 4 * square + 2 * d * f + f + d + 2 * norm
    classes = len(config.labels) * (d + 1)
    heads = {
        "pool": square,
        "fill-mask": square + norm + config.vocab_size,
        "next-sentence": square + NEXT_SENTENCE_CLASSES * (d + 1),
        "classify": square + classes,
        "tag": classes,
        "answer": SPAN_ENDS * (d + 1),
    }
    return embeddings + config.num_layers * layer + sum(heads[name] for name in config.heads)


# Of a text's pieces, as many are masked in training as in the paper's.
_MASKED_SHARE = 0.15


def workload(config: BertConfig) -> Workload:
    """Return what a model of this config computes; of its heads, that of masked words."""
    dim = config.model_dim
    stack = attention_layer("target", config.num_layers, dim, config.feed_forward_dim, config.num_heads)
    return Workload((stack,), dim, dim + config.vocab_size, _MASKED_SHARE)


register(
    Architecture(
        model_type="bert",
        config_class=BertConfig,
        model_class=Bert,
        count_parameters=count_parameters,
        tasks=("fill-mask", "classify", "tag", "answer", "embed"),
        workload=workload,
        vocab_fields=("vocab_size",),
        presets=(
            Preset(
                "bert-tiny",
                "Turc et al. 2019: 2 layers, 128 wide; vocabulary 30,522",
                {"model_dim": 128, "num_heads": 2, "feed_forward_dim": 512, "num_layers": 2},
                paper_vocab_size=30_522,
                paper_parameters=4_400_000,
            ),
            Preset(
                "bert-mini",
                "Turc et al. 2019: 4 layers, 256 wide; vocabulary 30,522",
                {"model_dim": 256, "num_heads": 4, "feed_forward_dim": 1024, "num_layers": 4},
                paper_vocab_size=30_522,
                paper_parameters=11_300_000,
            ),
            Preset(
                "bert-small",
                "Turc et al. 2019: 4 layers, 512 wide; vocabulary 30,522",
                {"model_dim": 512, "num_heads": 8, "feed_forward_dim": 2048, "num_layers": 4},
                paper_vocab_size=30_522,
                paper_parameters=29_100_000,
            ),
            Preset(
                "bert-base",
                "Devlin et al. 2019, base: 12 layers, 768 wide; vocabulary 30,522",
                {},
                paper_vocab_size=30_522,
                paper_parameters=110_000_000,
            ),
            Preset(
                "bert-large",
                "Devlin et al. 2019, large: 24 layers, 1,024 wide; vocabulary 30,522",
                {"model_dim": 1024, "num_heads": 16, "feed_forward_dim": 4096, "num_layers": 24},
                paper_vocab_size=30_522,
                paper_parameters=340_000_000,
            ),
        ),
    )
)
