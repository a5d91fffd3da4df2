"""A GPT of parts that came after GPT-3, as Llama and its like combine them (Touvron et al. 2023, section 2.2).

    x      = word                                  positions enter inside attention (Su et al. 2021)
    hidden = norm(CausalBlock^N(x))                pre-norm with root mean squares (Zhang and Sennrich 2019),
                                                   grouped queries (Ainslie et al. 2023), SwiGLU (Shazeer 2020)
    logits = hidden W^T                            no biases anywhere

It is the network that Hugging Face's library calls `llama` (`llama_layout.py`). The shape of `gpt-modern-small` is no
paper's: it is GPT-2's smallest, with a third of the heads for keys and values, and a feed-forward network 8/3 as wide
as the model, of which three matrices are as large as two that are four times as wide.
"""

from jaxtyping import Float, Int
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from trasluz.layers.activated_linear import ActivationName
from trasluz.layers.embeddings import EmbeddingDropout, OutputHead, TokenEmbedding
from trasluz.layers.gated_feed_forward import GatedFeedForward
from trasluz.layers.residual import PreNorm
from trasluz.layers.rms_norm import RmsNorm
from trasluz.layers.rotary_positions import RotaryPositions
from trasluz.layers.self_attention import SelfAttention
from trasluz.layers.transformer_block import CausalBlock
from trasluz.models.causal_decoder import CausalDecoder
from trasluz.models.config import CausalConfig, Probability, must_divide
from trasluz.models.registry import Architecture, Preset, register
from trasluz.models.workload import Stack, Workload


class GptModernConfig(CausalConfig):
    """Sizes and choices; the defaults are those of `gpt-modern-small`."""

    model_dim: PositiveInt = 768
    num_heads: PositiveInt = 12
    num_memory_heads: PositiveInt = 4
    feed_forward_dim: PositiveInt = 2048
    num_layers: PositiveInt = 12
    max_positions: PositiveInt = 2048
    rotary_base: PositiveFloat = 10_000.0
    activation: ActivationName = "swish"
    norm_epsilon: PositiveFloat = 1e-5
    tied_embeddings: bool = True
    dropout: Probability = 0.0
    embedding_dropout: Probability = 0.0
    attention_dropout: Probability = 0.0
    initial_deviation: NonNegativeFloat = 0.02

    @model_validator(mode="after")
    def _sizes_fit(self) -> "GptModernConfig":
        # Features of a head are turned in pairs.
        must_divide("2 * num_heads", 2 * self.num_heads, "model_dim", self.model_dim)
        must_divide("num_memory_heads", self.num_memory_heads, "num_heads", self.num_heads)
        return self


class GptModern(CausalDecoder):
    """Embeddings, the stack of blocks, and the output head."""

    def __init__(self, config: GptModernConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.model_dim
        self.word_embedding = TokenEmbedding(config.vocab_size, dim)
        self.embedding_dropout = EmbeddingDropout(config.embedding_dropout)
        positions = RotaryPositions(dim // config.num_heads, config.rotary_base, config.max_positions)
        self.decoder = nn.ModuleList(self._block(positions) for _ in range(config.num_layers))
        self.decoder_norm = RmsNorm(dim, config.norm_epsilon)
        tied = self.word_embedding.weight
        self.output_head = OutputHead(tied if config.tied_embeddings else nn.Parameter(tied.detach().clone()))
        self.initialize(config.initial_deviation)

    def _block(self, positions: RotaryPositions) -> CausalBlock:
        config = self.config
        return CausalBlock(
            SelfAttention(
                config.model_dim,
                config.num_heads,
                config.attention_dropout,
                num_memory_heads=config.num_memory_heads,
                bias=False,
                positions=positions,
            ),
            GatedFeedForward(config.model_dim, config.feed_forward_dim, config.activation),
            PreNorm(config.model_dim, config.dropout, config.norm_epsilon, RmsNorm),
            PreNorm(config.model_dim, config.dropout, config.norm_epsilon, RmsNorm),
        )

    def embed(
        self, ids: Int[Tensor, "batch positions"], first: int = 0, places: Int[Tensor, "batch positions"] | None = None
    ) -> Float[Tensor, "batch positions dim"]:
        """Return the words; where they stand is for attention to say."""
        return self.embedding_dropout(self.word_embedding(ids))


def _layer_weights(config: GptModernConfig) -> int:
    d = config.model_dim
    remembered = d // config.num_heads * config.num_memory_heads
    return 2 * d * d + 2 * d * remembered + 3 * d * config.feed_forward_dim


def count_parameters(config: GptModernConfig) -> int:
    """Return the number of parameters in closed form."""
    d, tables = config.model_dim, 1 if config.tied_embeddings else 2
    return tables * config.vocab_size * d + config.num_layers * (_layer_weights(config) + 2 * d) + d


def workload(config: GptModernConfig) -> Workload:
    """Return what a model of this config computes."""
    dim = config.model_dim
    stack = Stack(
        "target",
        config.num_layers,
        weights=_layer_weights(config),
        dim=dim,
        # Both sides of the gate.
        feed_forward_dim=2 * config.feed_forward_dim,
        num_heads=config.num_heads,
        own_pairs=4 * dim,
    )
    return Workload((stack,), dim, config.vocab_size)


register(
    Architecture(
        model_type="gpt-modern",
        config_class=GptModernConfig,
        model_class=GptModern,
        count_parameters=count_parameters,
        tasks=("generate",),
        workload=workload,
        vocab_fields=("vocab_size",),
        presets=(
            Preset(
                "gpt-modern-small",
                "ours, of the Llama family's parts: 12 layers, 768 wide, 2,048 positions; GPT-2's vocabulary",
                {},
                paper_vocab_size=50_257,
            ),
        ),
    )
)
