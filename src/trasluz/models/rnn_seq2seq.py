"""Recurrent translation: the encoder-decoder that forgets, and the attention that was its cure.

`rnn-encdec` (Cho et al. 2014; Sutskever, Vinyals and Le 2014): the encoder's last state is all the decoder gets.

    c = last state of the encoder;   s_t = f(s_{t-1}, [E y_{t-1}; c]);   s_0 = the encoder's last states

`rnnsearch` (Bahdanau, Cho and Bengio 2015, appendix A): the decoder looks over all states of a bidirectional encoder.

    h_i = [forward_i; backward_i];   weights(t, .) = softmax_i(v^T tanh(W s_{t-1} + U h_i))
    c_t = sum_i weights(t, i) h_i;   s_t = f(s_{t-1}, [E y_{t-1}; c_t]);   s_0 = tanh(W_s backward_1)

Both end in a maxout readout of s_t, E y_{t-1} and the context. (The paper's section 3.1 reads out s_t, its appendix
A.2.2 s_{t-1}; this is section 3.1.)
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from trasluz.layers.additive_attention import AdditiveAttention
from trasluz.layers.attention import Attention, KeyValue
from trasluz.layers.attentive_recurrence import attentive_recurrence
from trasluz.layers.dropout import Dropout
from trasluz.layers.embeddings import OutputHead, TokenEmbedding, embeddings_and_head
from trasluz.layers.linear import Linear, linear
from trasluz.layers.masks import Mask
from trasluz.layers.recurrent import (
    CELLS,
    CellName,
    MaxoutReadout,
    RecurrentStack,
    RecurrentState,
    initialize_recurrent,
)
from trasluz.models.config import Probability, WordMatricesConfig
from trasluz.models.recurrent_state import AttentiveState, expand_to_rows, joined, rows_of
from trasluz.models.registry import Architecture, Preset, register
from trasluz.models.workload import Stack, Workload
from trasluz.text.batching import TranslationBatch


class RnnConfig(WordMatricesConfig):
    """What both recurrent models share; the defaults are the paper's."""

    embedding_dim: PositiveInt = 620
    hidden_dim: PositiveInt = 1000
    readout_dim: PositiveInt = Field(500, description="maxout units, each the larger of two")
    cell: CellName = "gru"
    dropout: Probability = 0.0

    @model_validator(mode="after")
    def _widths_fit(self) -> "RnnConfig":
        if self.share_embeddings and self.readout_dim != self.embedding_dim:
            raise ValueError(
                f"`share_embeddings` makes the embedding the output matrix too, so `readout_dim` must equal "
                f"`embedding_dim` ({self.embedding_dim}), but is {self.readout_dim}"
            )
        return self


class RnnEncoderDecoderConfig(RnnConfig):
    """An encoder-decoder without attention."""

    num_layers: PositiveInt = 1
    reverse_source: bool = Field(False, description="read the source backwards (Sutskever et al. 2014, section 3.3)")


class RnnSearchConfig(RnnConfig):
    """An encoder-decoder with additive attention."""

    attention_dim: PositiveInt = 1000


def _embeddings(config: RnnConfig) -> tuple[TokenEmbedding, TokenEmbedding, OutputHead]:
    return embeddings_and_head(
        *(config.source_vocab_size, config.target_vocab_size, config.embedding_dim, config.readout_dim),
        shared=config.share_embeddings,
    )


@dataclass
class RnnEncoderDecoderState:
    """What decoding remembers: the context once a source, the recurrent states of every row."""

    context: Float[Tensor, "sources 1 hidden_dim"]
    recurrent: RecurrentState

    def select_rows(self, rows: Int[Tensor, " rows"], sources: Int[Tensor, " sources"] | None = None) -> None:
        """Keep these rows and these sources."""
        self.recurrent = rows_of(self.recurrent, rows)
        if sources is not None:
            self.context = self.context[sources]

    def join(self, other: "RnnEncoderDecoderState") -> None:
        """Take in the sources of a state that has made no step, behind these."""
        self.context = torch.cat([self.context, other.context])
        self.recurrent = joined(self.recurrent, other.recurrent)


class RnnEncoderDecoder(nn.Module):
    """Everything the decoder knows of the source is one vector."""

    def __init__(self, config: RnnEncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_dim
        self.source_embedding, self.target_embedding, output_head = _embeddings(config)
        self.dropout = Dropout(config.dropout)
        self.encoder = RecurrentStack(
            config.cell, config.embedding_dim, hidden, config.num_layers, dropout=config.dropout
        )
        self.decoder = RecurrentStack(
            config.cell, config.embedding_dim + hidden, hidden, config.num_layers, dropout=config.dropout
        )
        self.readout = MaxoutReadout(hidden, config.embedding_dim, hidden, config.readout_dim)
        self.output_head = output_head
        initialize_recurrent(self)

    def attentions(self) -> dict[str, list[Attention]]:
        """Return nothing: there is no attention here."""
        return {}

    def encode(self, source: Int[Tensor, "batch source"], source_lengths: Int[Tensor, " batch"]) -> RecurrentState:
        """Return the last states of every layer, (batch, layers, hidden_dim)."""
        if self.config.reverse_source:
            positions = torch.arange(source.shape[1], device=source.device)
            backwards = (source_lengths[:, None] - 1 - positions).clamp(min=0)
            source = source.gather(1, backwards)
        _, last = self.encoder(self.dropout(self.source_embedding(source)), source_lengths)
        return last

    def _decode(
        self,
        ids: Int[Tensor, "batch target"],
        context: Float[Tensor, "batch 1 hidden_dim"],
        recurrent: RecurrentState,
    ) -> tuple[Float[Tensor, "batch target dim"], RecurrentState]:
        embedded = self.dropout(self.target_embedding(ids))
        inputs = torch.cat([embedded, context.expand(-1, ids.shape[1], -1)], dim=-1)
        states, last = self.decoder(inputs, state=recurrent)
        return self.dropout(self.readout(states, embedded, context)), last

    def forward(self, batch: TranslationBatch) -> Float[Tensor, "batch target dim"]:
        """Return the readout at every target position: one fused kernel, as no attention sits inside the loop."""
        last = self.encode(batch.source, batch.source_lengths)
        hidden, _ = self._decode(batch.target_input, last[0][:, -1:], last)
        return hidden

    def start(
        self,
        source: Int[Tensor, "sources source"],
        source_lengths: Int[Tensor, " sources"],
        num_beams: int,
        capacity: int,
    ) -> RnnEncoderDecoderState:
        """Read the sources; a recurrent state needs no room to grow."""
        last = self.encode(source, source_lengths)
        return RnnEncoderDecoderState(last[0][:, -1:], expand_to_rows(last, num_beams))

    def step(
        self, ids: Int[Tensor, " rows"], state: RnnEncoderDecoderState
    ) -> tuple[Float[Tensor, "rows vocab"], RnnEncoderDecoderState]:
        """Take the last token of every row and return the logits of the next."""
        rows = ids.shape[0]
        context = state.context.expand(-1, rows // state.context.shape[0], -1).reshape(rows, 1, -1)
        hidden, state.recurrent = self._decode(ids[:, None], context, state.recurrent)
        return self.output_head(hidden.squeeze(1)), state


class RnnSearch(nn.Module):
    """The decoder searches the source anew for every word."""

    def __init__(self, config: RnnSearchConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_dim
        self.source_embedding, self.target_embedding, output_head = _embeddings(config)
        self.dropout = Dropout(config.dropout)
        self.encoder = RecurrentStack(config.cell, config.embedding_dim, hidden, bidirectional=True)
        self.attention = AdditiveAttention(hidden, 2 * hidden, config.attention_dim)
        self.decoder = CELLS[config.cell](config.embedding_dim + 2 * hidden, hidden)
        self.initial = Linear(hidden, hidden * self.decoder.num_states)
        self.readout = MaxoutReadout(hidden, config.embedding_dim, 2 * hidden, config.readout_dim)
        self.output_head = output_head
        initialize_recurrent(self)

    def attentions(self) -> dict[str, list[Attention]]:
        """Return the one attention, by kind and layer."""
        return {"cross": [self.attention]}

    def encode(
        self, source: Int[Tensor, "batch source"], source_lengths: Int[Tensor, " batch"]
    ) -> tuple[KeyValue, RecurrentState]:
        """Return the annotations, ready to be searched, and the decoder's first state."""
        annotations, last = self.encoder(self.dropout(self.source_embedding(source)), source_lengths)
        annotations = self.dropout(annotations)
        backward_at_first_word = last[0][:, -1]
        first = self.initial(backward_at_first_word).tanh().chunk(self.decoder.num_states, dim=-1)
        return self.attention.remember(annotations), first

    def _split_input_weight(self) -> tuple[Tensor, Tensor]:
        # W [E y; c] = W_e E y + W_c c: the first part needs no loop.
        of_embedding, of_context = self.decoder.input.weight.split(
            [self.config.embedding_dim, 2 * self.config.hidden_dim], dim=1
        )
        return of_embedding, of_context

    def forward(self, batch: TranslationBatch) -> Float[Tensor, "batch target dim"]:
        """Return the readout at every target position: attention step by step, all else at once."""
        memory, recurrent = self.encode(batch.source, batch.source_lengths)
        embedded = self.dropout(self.target_embedding(batch.target_input))
        embedding_weight, context_weight = self._split_input_weight()
        projected = linear(embedded, embedding_weight, self.decoder.input.bias)
        contexts, states = attentive_recurrence(
            projected, context_weight, self.attention, memory, Mask(batch.source_lengths), self.decoder, recurrent
        )
        return self.dropout(self.readout(states, embedded, contexts))

    def start(
        self,
        source: Int[Tensor, "sources source"],
        source_lengths: Int[Tensor, " sources"],
        num_beams: int,
        capacity: int,
    ) -> AttentiveState:
        """Read the sources; a recurrent state needs no room to grow."""
        memory, first = self.encode(source, source_lengths)
        return AttentiveState(memory, Mask(source_lengths), expand_to_rows(first, num_beams))

    def step(
        self, ids: Int[Tensor, " rows"], state: AttentiveState
    ) -> tuple[Float[Tensor, "rows vocab"], AttentiveState]:
        """Take the last token of every row and return the logits of the next."""
        embedded = self.target_embedding(ids[:, None])
        context = self.attention.attend_from_rows(state.recurrent[0], state.memory, state.memory_mask)
        projected = self.decoder.input(torch.cat([embedded[:, 0], context], dim=-1))
        state.recurrent = self.decoder(projected, state.recurrent)
        hidden = self.readout(state.recurrent[0][:, None], embedded, context[:, None])
        return self.output_head(hidden.squeeze(1)), state


def _shared_parameters(config: RnnConfig, context_dim: int) -> int:
    """Return the parameters of embeddings, readout and output head."""
    embeddings = config.source_vocab_size * config.embedding_dim
    if not config.share_embeddings:
        embeddings += config.target_vocab_size * (config.embedding_dim + config.readout_dim)
    readout = 2 * config.readout_dim * (config.hidden_dim + config.embedding_dim + context_dim + 1)
    return embeddings + config.target_vocab_size + readout


def _num_gates(config: RnnConfig) -> int:
    return {"gru": 3, "lstm": 4}[config.cell]


def count_encoder_decoder_parameters(config: RnnEncoderDecoderConfig) -> int:
    """Return the number of parameters of `rnn-encdec` in closed form."""
    h, e, gates = config.hidden_dim, config.embedding_dim, _num_gates(config)
    first_layers = gates * h * ((e + h + 2) + (e + h + h + 2))
    further_layers = 2 * (config.num_layers - 1) * gates * h * (h + h + 2)
    return _shared_parameters(config, h) + first_layers + further_layers


def count_search_parameters(config: RnnSearchConfig) -> int:
    """Return the number of parameters of `rnnsearch` in closed form."""
    h, e, a, gates = config.hidden_dim, config.embedding_dim, config.attention_dim, _num_gates(config)
    encoder = 2 * gates * h * (e + h + 2)
    attention = a * h + a * 2 * h + a + a
    decoder = gates * h * (e + 2 * h + h + 1)
    num_states = 2 if config.cell == "lstm" else 1
    return _shared_parameters(config, 2 * h) + encoder + attention + decoder + num_states * (h * h + h)


def encoder_decoder_workload(config: RnnEncoderDecoderConfig) -> Workload:
    """Return what a model of this config computes."""
    h, e, gates = config.hidden_dim, config.embedding_dim, _num_gates(config)
    readout = 2 * config.readout_dim * (h + e + h)
    further = Stack("source", config.num_layers - 1, gates * 2 * h * h, h)
    return Workload(
        (
            Stack("source", 1, gates * h * (e + h), h),
            further,
            Stack("target", 1, gates * h * (e + h + h) + readout, h),
            replace(further, text="target"),
        ),
        config.readout_dim,
        config.target_vocab_size,
    )


def search_workload(config: RnnSearchConfig) -> Workload:
    """Return what a model of this config computes; a pair of positions costs a score and a part of the context."""
    h, e, a, gates = config.hidden_dim, config.embedding_dim, config.attention_dim, _num_gates(config)
    readout = 2 * config.readout_dim * (h + e + 2 * h)
    decoder = Stack(
        "target",
        1,
        gates * h * (e + 2 * h + h) + a * h + readout,
        h,
        cross_pairs=2 * a + 2 * 2 * h,
        memory_weights=a * 2 * h,
    )
    return Workload(
        (Stack("source", 1, 2 * gates * h * (e + h), 2 * h), decoder), config.readout_dim, config.target_vocab_size
    )


register(
    Architecture(
        model_type="rnn-encdec",
        config_class=RnnEncoderDecoderConfig,
        model_class=RnnEncoderDecoder,
        count_parameters=count_encoder_decoder_parameters,
        tasks=("translate",),
        workload=encoder_decoder_workload,
        presets=(
            Preset(
                "rnn-encdec",
                "Cho et al. 2014, Sutskever et al. 2014: no attention; 1,000 wide as Bahdanau's RNNencdec",
                {},
                paper_vocab_size=30_000,
            ),
        ),
    )
)
register(
    Architecture(
        model_type="rnnsearch",
        config_class=RnnSearchConfig,
        model_class=RnnSearch,
        count_parameters=count_search_parameters,
        tasks=("translate",),
        workload=search_workload,
        presets=(
            Preset(
                "rnnsearch",
                "Bahdanau et al. 2015, RNNsearch: additive attention, 1,000 wide, vocabulary 30,000",
                {},
                paper_vocab_size=30_000,
            ),
        ),
    )
)
