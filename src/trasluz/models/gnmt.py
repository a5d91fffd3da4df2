"""Deep recurrent translation with attention (Wu et al. 2016, "Google's neural machine translation system").

    encoder    one layer that reads both ways, then layers that read forward; h_i is what the last one gives
    decoder    the bottom layer looks over h before each step; what it found goes to all layers

    weights(t, .) = softmax_i(v^T tanh(W s^1_{t-1} + U h_i));   c_t = sum_i weights(t, i) h_i
    s^1_t = LSTM_1([E y_{t-1}; c_t]);   s^j_t = LSTM_j([x^{j-1}_t; c_t]);   x^j = s^j + x^{j-1} from the third layer on

Attention asks the bottom layer, not the top one, which is what lets a deep decoder be trained in parallel: once the
bottom layer has gone through a target step by step, each of the others goes through it whole. How the states of the
decoder begin the paper does not say; here they are zeros. Scores of words come straight from the top layer.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from trasluz.layers.additive_attention import AdditiveAttention
from trasluz.layers.attention import Attention, KeyValue
from trasluz.layers.attentive_recurrence import attentive_recurrence
from trasluz.layers.dropout import Dropout
from trasluz.layers.embeddings import embeddings_and_head
from trasluz.layers.linear import linear
from trasluz.layers.masks import Mask
from trasluz.layers.recurrent import LSTMCell, RecurrentStack, RecurrentState, initialize_recurrent
from trasluz.layers.residual_recurrence import ResidualRecurrentStack
from trasluz.models.config import Probability, WordMatricesConfig
from trasluz.models.recurrent_state import AttentiveState, expand_to_rows
from trasluz.models.registry import Architecture, Preset, register
from trasluz.models.workload import Stack, Workload
from trasluz.text.batching import TranslationBatch


class GnmtConfig(WordMatricesConfig):
    """A deep encoder and decoder; the defaults are the paper's."""

    hidden_dim: PositiveInt = Field(1024, description="width of embeddings and of every layer's state")
    num_encoder_layers: int = Field(8, ge=2, description="the first of them reads both ways")
    num_decoder_layers: int = Field(8, ge=2)
    attention_dim: PositiveInt = 1024
    dropout: Probability = 0.2


class Gnmt(nn.Module):
    """Many layers on both sides, and one attention between them."""

    def __init__(self, config: GnmtConfig) -> None:
        super().__init__()
        self.config = config
        dim, dropout = config.hidden_dim, config.dropout
        self.source_embedding, self.target_embedding, self.output_head = embeddings_and_head(
            config.source_vocab_size, config.target_vocab_size, dim, dim, shared=config.share_embeddings
        )
        self.dropout = Dropout(dropout)
        self.bottom_encoder = RecurrentStack("lstm", dim, dim, bidirectional=True)
        self.encoder = ResidualRecurrentStack("lstm", 2 * dim, dim, config.num_encoder_layers - 1, dropout=dropout)
        self.attention = AdditiveAttention(dim, dim, config.attention_dim)
        self.bottom_decoder = LSTMCell(2 * dim, dim)
        self.decoder = ResidualRecurrentStack(
            "lstm", dim, dim, config.num_decoder_layers - 1, beside_dim=dim, dropout=dropout
        )
        initialize_recurrent(self)

    def attentions(self) -> dict[str, list[Attention]]:
        """Return the one attention, by kind and layer."""
        return {"cross": [self.attention]}

    def encode(self, source: Int[Tensor, "batch source"], source_lengths: Int[Tensor, " batch"]) -> KeyValue:
        """Return what the last layer gives, ready to be looked over."""
        both_ways, _ = self.bottom_encoder(self.dropout(self.source_embedding(source)), source_lengths)
        # Forward, what stands behind a text's end touches nothing before it, and attention does not look there.
        states, _ = self.encoder(both_ways)
        return self.attention.remember(self.dropout(states))

    def forward(self, batch: TranslationBatch) -> Float[Tensor, "batch target dim"]:
        """Return the top layer at every target position: the bottom layer step by step, the others at once."""
        memory = self.encode(batch.source, batch.source_lengths)
        embedded = self.dropout(self.target_embedding(batch.target_input))
        # W [E y; c] = W_e E y + W_c c: the first part needs no loop.
        of_embedding, of_context = self.bottom_decoder.input.weight.chunk(2, dim=1)
        contexts, states = attentive_recurrence(
            linear(embedded, of_embedding, self.bottom_decoder.input.bias),
            of_context,
            self.attention,
            memory,
            Mask(batch.source_lengths),
            self.bottom_decoder,
            self._zeros(memory)[:2],
        )
        hidden, _ = self.decoder(states, contexts)
        return self.dropout(hidden)

    def _zeros(self, memory: KeyValue) -> RecurrentState:
        """Return the decoder's first states: of the bottom layer, and of all others together."""
        bottom = memory.value.new_zeros(memory.value.shape[0], self.config.hidden_dim)
        others = bottom[:, None].repeat(1, self.config.num_decoder_layers - 1, 1)
        return bottom, bottom, others, others

    def start(
        self,
        source: Int[Tensor, "sources source"],
        source_lengths: Int[Tensor, " sources"],
        num_beams: int,
        capacity: int,
    ) -> AttentiveState:
        """Read the sources; a recurrent state needs no room to grow."""
        memory = self.encode(source, source_lengths)
        return AttentiveState(memory, Mask(source_lengths), expand_to_rows(self._zeros(memory), num_beams))

    def step(
        self, ids: Int[Tensor, " rows"], state: AttentiveState
    ) -> tuple[Float[Tensor, "rows vocab"], AttentiveState]:
        """Take the last token of every row and return the logits of the next."""
        embedded = self.target_embedding(ids[:, None])[:, 0]
        bottom, others = state.recurrent[:2], state.recurrent[2:]
        context = self.attention.attend_from_rows(bottom[0], state.memory, state.memory_mask)
        bottom = self.bottom_decoder(self.bottom_decoder.input(torch.cat([embedded, context], dim=-1)), bottom)
        hidden, others = self.decoder(bottom[0][:, None], context[:, None], state=others)
        state.recurrent = (*bottom, *others)
        return self.output_head(hidden.squeeze(1)), state


def count_parameters(config: GnmtConfig) -> int:
    """Return the number of parameters in closed form."""
    d, source, target = config.hidden_dim, config.source_vocab_size, config.target_vocab_size
    words = source * d + target + (0 if config.share_embeddings else 2 * target * d)
    encoder = 2 * 4 * d * (2 * d + 2) + 4 * d * (3 * d + 2) + (config.num_encoder_layers - 2) * 4 * d * (2 * d + 2)
    decoder = 4 * d * (3 * d + 1) + (config.num_decoder_layers - 1) * 4 * d * (3 * d + 2)
    return words + encoder + decoder + config.attention_dim * (2 * d + 2)


def workload(config: GnmtConfig) -> Workload:
    """Return what a model of this config computes; a pair of positions costs a score and a part of the context."""
    d, a = config.hidden_dim, config.attention_dim
    one_way = Stack("source", config.num_encoder_layers - 2, 4 * d * 2 * d, d)
    upper = Stack("target", config.num_decoder_layers - 1, 4 * d * 3 * d, d)
    bottom = replace(
        upper, num_layers=1, weights=upper.weights + a * d, cross_pairs=2 * a + 2 * d, memory_weights=a * d
    )
    stacks = (
        replace(one_way, num_layers=1, weights=2 * one_way.weights, dim=2 * d),
        replace(one_way, num_layers=1, weights=4 * d * 3 * d),
        *(one_way, bottom, upper),
    )
    return Workload(stacks, d, config.target_vocab_size)


_SIZES = {4: "4 + 4 layers, 1,024 wide", 8: "the paper's 8 + 8 layers, 1,024 wide, pieces of words"}

register(
    Architecture(
        model_type="gnmt",
        config_class=GnmtConfig,
        model_class=Gnmt,
        count_parameters=count_parameters,
        tasks=("translate",),
        workload=workload,
        presets=tuple(
            Preset(
                f"gnmt-{layers}",
                f"Wu et al. 2016: deep recurrent translation with attention; {size}",
                {"num_encoder_layers": layers, "num_decoder_layers": layers},
            )
            for layers, size in _SIZES.items()
        ),
    )
)
