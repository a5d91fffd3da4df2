"""Recurrent translation that looks after each step (Luong, Pham and Manning 2015): global attention, general score.

    s_t = LSTMs([E y_{t-1}; a_{t-1}]), which begin as the encoder's end;   weights(t, .) = softmax_i(s_t^T W h_i)
    c_t = sum_i weights(t, i) h_i;   a_t = tanh(W_c [c_t; s_t]);   scores of words: W_o a_t

Bahdanau's decoder looks from its last state before it steps, this one from its new state afterwards. Handing a_{t-1} on
to the next step ("input feeding", section 3.3) tells it what has been looked at already, and is what ties training to
one step at a time; without it all states are known before anything looks, and a whole target is trained at once.
"""

import torch
from jaxtyping import Float, Int
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from trasluz.layers.attention import Attention, KeyValue
from trasluz.layers.dropout import Dropout
from trasluz.layers.embeddings import embeddings_and_head
from trasluz.layers.linear import Linear
from trasluz.layers.masks import Mask
from trasluz.layers.multiplicative_attention import MultiplicativeAttention
from trasluz.layers.recurrent import RecurrentStack, RecurrentState, initialize_recurrent
from trasluz.models.config import Probability, WordMatricesConfig
from trasluz.models.recurrent_state import AttentiveState, expand_to_rows
from trasluz.models.registry import Architecture, Preset, register
from trasluz.models.workload import Stack, Workload
from trasluz.text.batching import TranslationBatch


class LuongConfig(WordMatricesConfig):
    """A stack of LSTMs on either side; sizes and dropout are the paper's (section 4.1)."""

    hidden_dim: PositiveInt = Field(1000, description="width of embeddings and of every layer's state")
    num_layers: PositiveInt = 4
    input_feeding: bool = Field(True, description="each step reads what the one before it found")
    dropout: Probability = 0.2


class Luong(nn.Module):
    """The decoder steps, then looks, then says a word."""

    def __init__(self, config: LuongConfig) -> None:
        super().__init__()
        self.config = config
        dim, layers, dropout = config.hidden_dim, config.num_layers, config.dropout
        self.source_embedding, self.target_embedding, self.output_head = embeddings_and_head(
            config.source_vocab_size, config.target_vocab_size, dim, dim, shared=config.share_embeddings
        )
        self.dropout = Dropout(dropout)
        self.encoder = RecurrentStack("lstm", dim, dim, layers, dropout=dropout)
        self.decoder = RecurrentStack("lstm", 2 * dim if config.input_feeding else dim, dim, layers, dropout=dropout)
        self.attention = MultiplicativeAttention(dim, dim)
        self.combine = Linear(2 * dim, dim, bias=False)
        initialize_recurrent(self)

    def attentions(self) -> dict[str, list[Attention]]:
        """Return the one attention, by kind and layer."""
        return {"cross": [self.attention]}

    def encode(
        self, source: Int[Tensor, "batch source"], source_lengths: Int[Tensor, " batch"]
    ) -> tuple[KeyValue, RecurrentState]:
        """Return the states of the top layer, ready to be looked over, and the last ones of all layers."""
        states, last = self.encoder(self.dropout(self.source_embedding(source)), source_lengths)
        return self.attention.remember(self.dropout(states)), last

    def _found(
        self, states: Float[Tensor, "batch target hidden_dim"], contexts: Float[Tensor, "batch target hidden_dim"]
    ) -> Float[Tensor, "batch target hidden_dim"]:
        """Return a_t of every position."""
        return self.combine(torch.cat([contexts, states], dim=-1)).tanh()

    def forward(self, batch: TranslationBatch) -> Float[Tensor, "batch target dim"]:
        """Return a_t at every target position: all at once, or step by step where each feeds the next."""
        memory, recurrent = self.encode(batch.source, batch.source_lengths)
        mask = Mask(batch.source_lengths)
        embedded = self.dropout(self.target_embedding(batch.target_input))
        if not self.config.input_feeding:
            states, _ = self.decoder(embedded, state=recurrent)
            return self.dropout(self._found(states, self.attention.attend(states, memory, mask)))
        found, every = self._nothing(memory)[:, None], []
        for now in embedded.split(1, dim=1):
            states, recurrent = self.decoder(torch.cat([now, found.to(now.dtype)], dim=-1), state=recurrent)
            found = self.dropout(self._found(states, self.attention.attend(states, memory, mask)))
            every.append(found)
        return torch.cat(every, dim=1)

    def _nothing(self, memory: KeyValue) -> Float[Tensor, "batch hidden_dim"]:
        """Return what the first step hears of one before it."""
        return memory.value.new_zeros(memory.value.shape[0], self.config.hidden_dim)

    def start(
        self,
        source: Int[Tensor, "sources source"],
        source_lengths: Int[Tensor, " sources"],
        num_beams: int,
        capacity: int,
    ) -> AttentiveState:
        """Read the sources; a recurrent state needs no room to grow."""
        memory, last = self.encode(source, source_lengths)
        fed = (self._nothing(memory),) if self.config.input_feeding else ()
        return AttentiveState(memory, Mask(source_lengths), expand_to_rows((*last, *fed), num_beams))

    def step(
        self, ids: Int[Tensor, " rows"], state: AttentiveState
    ) -> tuple[Float[Tensor, "rows vocab"], AttentiveState]:
        """Take the last token of every row and return the logits of the next."""
        hidden, cell, *fed = state.recurrent
        embedded = self.target_embedding(ids[:, None])
        read = torch.cat([embedded, *(part[:, None] for part in fed)], dim=-1)
        states, last = self.decoder(read, state=(hidden, cell))
        context = self.attention.attend_from_rows(states[:, 0], state.memory, state.memory_mask)
        found = self._found(states, context[:, None])[:, 0]
        state.recurrent = (*last, found) if fed else last
        return self.output_head(found), state


def count_parameters(config: LuongConfig) -> int:
    """Return the number of parameters in closed form."""
    d, source, target = config.hidden_dim, config.source_vocab_size, config.target_vocab_size
    words = source * d + target + (0 if config.share_embeddings else 2 * target * d)
    layers = 2 * config.num_layers * 4 * d * (2 * d + 2) + (4 * d * d if config.input_feeding else 0)
    return words + layers + 3 * d * d


def workload(config: LuongConfig) -> Workload:
    """Return what a model of this config computes; a pair of positions costs a score and a part of the context."""
    d, layers = config.hidden_dim, config.num_layers
    of_layer = 4 * d * 2 * d
    looking = Stack(
        "target",
        1,
        of_layer + (4 * d * d if config.input_feeding else 0) + 2 * d * d,
        d,
        cross_pairs=4 * d,
        memory_weights=d * d,
    )
    stacks = (Stack("source", layers, of_layer, d), looking, Stack("target", layers - 1, of_layer, d))
    return Workload(stacks, d, config.target_vocab_size)


register(
    Architecture(
        model_type="luong",
        config_class=LuongConfig,
        model_class=Luong,
        count_parameters=count_parameters,
        tasks=("translate",),
        workload=workload,
        presets=(
            Preset(
                "luong",
                "Luong et al. 2015: attention after each step; 4 + 4 layers, 1,000 wide, vocabulary 50,000",
                {},
                paper_vocab_size=50_000,
            ),
        ),
    )
)
