"""GPT (Radford et al. 2018, 2019; Brown et al. 2020): a Transformer's decoder alone, which continues any text.

    x      = word + position
    hidden = norm(CausalBlock^N(x))                pre-norm, GELU in its tanh form, every position over those before it
    logits = hidden W^T                            W is the matrix of the embeddings

The shapes of GPT-2 (2019, table 2) and GPT-3 (2020, table 2.1) differ in numbers, and in that every second layer of
GPT-3 looks through a narrow band (2020, section 2.1). How wide the band is, and whether the first layer has one, was
never published. Both are assumptions here: 256 positions, an eighth of the window, and a first layer that sees
everything, as in GPT-Neo (Black et al. 2021), the open models in GPT-3's shapes. `band` sets another width, or none.

The papers' tables have misprints, which the presets do not repeat: GPT-2's smallest model is printed with 117 million
parameters and has 124; GPT-3 XL is printed with 24 heads of 128, which are not its width of 2,048, and has 16 here;
GPT-3 13B is printed 5,140 wide, which 40 heads of 128 are not, and is 5,120 wide here.
"""

from dataclasses import replace

from jaxtyping import Float, Int
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from trasluz.layers.activated_linear import ActivationName
from trasluz.layers.banded_attention import BandedSelfAttention
from trasluz.layers.embeddings import EmbeddingDropout, OutputHead, TokenEmbedding
from trasluz.layers.feed_forward import FeedForward
from trasluz.layers.positional_encoding import TrainablePositions
from trasluz.layers.residual import PreNorm
from trasluz.layers.self_attention import SelfAttention
from trasluz.layers.transformer_block import CausalBlock
from trasluz.models.causal_decoder import CausalDecoder
from trasluz.models.config import CausalConfig, Overrides, Probability, must_divide
from trasluz.models.registry import Architecture, Preset, register
from trasluz.models.workload import Workload, attention_layer


class GptConfig(CausalConfig):
    """Sizes and choices; the defaults are GPT-2's smallest model."""

    model_dim: PositiveInt = 768
    num_heads: PositiveInt = 12
    feed_forward_dim: PositiveInt = 3072
    num_layers: PositiveInt = 12
    band: PositiveInt | None = Field(
        None, description="positions that every second layer sees, its own included; None: all layers see everything"
    )
    activation: ActivationName = "gelu_tanh"
    norm_epsilon: PositiveFloat = 1e-5
    dropout: Probability = 0.1
    embedding_dropout: Probability = 0.1
    attention_dropout: Probability = 0.1
    initial_deviation: NonNegativeFloat = 0.02

    @model_validator(mode="after")
    def _sizes_fit(self) -> "GptConfig":
        must_divide("num_heads", self.num_heads, "model_dim", self.model_dim)
        return self


class Gpt(CausalDecoder):
    """Embeddings, the stack of blocks, and the output head, which is the embeddings' matrix."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.model_dim
        self.word_embedding = TokenEmbedding(config.vocab_size, dim)
        self.positions = TrainablePositions(dim, config.max_positions)
        self.embedding_dropout = EmbeddingDropout(config.embedding_dropout)
        self.decoder = nn.ModuleList(self._block(layer) for layer in range(config.num_layers))
        self.decoder_norm = nn.LayerNorm(dim, config.norm_epsilon)
        self.output_head = OutputHead(self.word_embedding.weight)
        self.initialize(config.initial_deviation)

    def _block(self, layer: int) -> CausalBlock:
        config = self.config
        return CausalBlock(
            self._attention(layer),
            FeedForward(config.model_dim, config.feed_forward_dim, config.activation),
            PreNorm(config.model_dim, config.dropout, config.norm_epsilon),
            PreNorm(config.model_dim, config.dropout, config.norm_epsilon),
        )

    def _attention(self, layer: int) -> SelfAttention:
        config = self.config
        dim, num_heads, dropout = config.model_dim, config.num_heads, config.attention_dropout
        if config.band is None or layer % 2 == 0:
            return SelfAttention(dim, num_heads, dropout=dropout)
        return BandedSelfAttention(dim, num_heads, config.band, dropout)

    def embed(
        self, ids: Int[Tensor, "batch positions"], first: int = 0, places: Int[Tensor, "batch positions"] | None = None
    ) -> Float[Tensor, "batch positions dim"]:
        """Return words and positions: from `first` on, or at these places."""
        where = self.positions(ids.shape[1], first) if places is None else self.positions.at(places)
        return self.embedding_dropout(self.word_embedding(ids) + where)


def count_parameters(config: GptConfig) -> int:
    """Return the number of parameters in closed form; the output head's matrix is the embeddings'."""
    d, f = config.model_dim, config.feed_forward_dim
    norm = 2 * d
    layer = 4 * (d * d + d) + 2 * d * f + f + d + 2 * norm
    return (config.vocab_size + config.max_positions) * d + config.num_layers * layer + norm


def workload(config: GptConfig) -> Workload:
    """Return what a model of this config computes."""
    dim, banded = config.model_dim, 0 if config.band is None else config.num_layers // 2
    dense = attention_layer("target", config.num_layers - banded, dim, config.feed_forward_dim, config.num_heads)
    stacks = (dense, replace(dense, num_layers=banded, band=config.band)) if banded else (dense,)
    return Workload(stacks, dim, config.vocab_size)


_VOCAB_SIZE = 50_257
# Our assumption; see above.
_BAND = 256


def _preset(name: str, parameters: int, layers: int, dim: int, heads: int, paper: str, **more: int) -> Preset:
    shape: Overrides = {"num_layers": layers, "model_dim": dim, "num_heads": heads, "feed_forward_dim": 4 * dim}
    said = f"{paper}: {layers} layers, {dim:,} wide, {more['max_positions']:,} positions"
    band = f", every second layer in a band of {more['band']} (our assumption)" if "band" in more else ""
    return Preset(
        name,
        f"{said}{band}; vocabulary {_VOCAB_SIZE:,}",
        {**shape, **more},
        paper_vocab_size=_VOCAB_SIZE,
        paper_parameters=parameters,
    )


def _gpt2(name: str, parameters: int, layers: int, dim: int, heads: int) -> Preset:
    return _preset(name, parameters, layers, dim, heads, "Radford et al. 2019, table 2", max_positions=1024)


def _gpt3(name: str, parameters: int, layers: int, dim: int, heads: int) -> Preset:
    paper = "Brown et al. 2020, table 2.1"
    return _preset(name, parameters, layers, dim, heads, paper, max_positions=2048, band=_BAND)


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
            _gpt2("gpt2", 124_000_000, 12, 768, 12),
            _gpt2("gpt2-medium", 345_000_000, 24, 1024, 16),
            _gpt2("gpt2-large", 762_000_000, 36, 1280, 20),
            _gpt2("gpt2-xl", 1_542_000_000, 48, 1600, 25),
            _gpt3("gpt3-125m", 125_000_000, 12, 768, 12),
            _gpt3("gpt3-350m", 350_000_000, 24, 1024, 16),
            _gpt3("gpt3-760m", 760_000_000, 24, 1536, 16),
            # Printed: 24 heads.
            _gpt3("gpt3-1.3b", 1_300_000_000, 24, 2048, 16),
            _gpt3("gpt3-2.7b", 2_700_000_000, 32, 2560, 32),
            _gpt3("gpt3-6.7b", 6_700_000_000, 32, 4096, 32),
            # Printed: 5,140 wide.
            _gpt3("gpt3-13b", 13_000_000_000, 40, 5120, 40),
            _gpt3("gpt3-175b", 175_000_000_000, 96, 12288, 96),
        ),
    )
)
