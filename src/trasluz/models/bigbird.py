"""BigBird (Zaheer et al. 2020): BERT for long texts, whose attention costs no more per word however long they are.

It is BERT with another attention (`layers/block_sparse_attention.py`): global blocks, a window, and blocks drawn at
random, which keep every word two steps from every other. In the internal construction (ITC) the first and the last
block of the text are the global ones; in the extended one (ETC, `global_tokens`) trained vectors stand before the text,
which everything sees and which see everything.

Any BERT becomes a BigBird by `lengthened`: its weights stay, its positions are repeated (section 4, "warm start").
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from trasluz.errors import ModelError, nearest
from trasluz.layers.activated_linear import ActivationName
from trasluz.layers.block_pattern import BlockPattern, RandomPlan
from trasluz.layers.block_sparse_attention import BlockSparseAttention
from trasluz.layers.masks import Mask
from trasluz.layers.self_attention import SelfAttention
from trasluz.models import bert
from trasluz.models.bert import Bert, BertConfig
from trasluz.models.heads import ClassHead, HeadName
from trasluz.models.registry import Architecture, Preset, find_architecture, make_config, register
from trasluz.models.workload import Blocks, Workload
from trasluz.text.batching import Places, TextBatch

_WINDOW = 3


class BigBirdConfig(BertConfig):
    """Sizes and choices; the defaults are the paper's base model (table 8 of its appendix), ITC."""

    max_positions: PositiveInt = 4096
    activation: ActivationName = "gelu_tanh"
    class_activation: ActivationName | Literal["tanh"] | None = Field(
        None, description="of the head `classify`; null: that of the layers"
    )
    attention: Literal["block-sparse", "full"] = "block-sparse"
    block_size: PositiveInt = 64
    num_random_blocks: NonNegativeInt = 3
    random_plan: RandomPlan = Field(
        "paper",
        description="paper: distinct blocks drawn for every head; huggingface-eval: the first block again and again, "
        "which transformers computes when it does not train",
    )
    random_seed: NonNegativeInt = Field(0, description="what the blocks are drawn from, for good")
    layer_seeds: list[NonNegativeInt] | None = Field(
        None, description="what each layer's blocks are drawn from, beside `random_seed`; null: its number, from 0 on"
    )
    global_tokens: NonNegativeInt = Field(0, description="trained vectors before the text (ETC); 0: none (ITC)")
    full_up_to: NonNegativeInt = Field(0, description="longest text whose words all see each other; 0: none")

    @property
    def full_positions(self) -> int:
        """How many positions a text may take, global tokens included, to be looked over whole."""
        return self.full_up_to + self.global_tokens if self.full_up_to else 0

    @model_validator(mode="after")
    def _global_tokens_fill_blocks(self) -> "BigBirdConfig":
        if self.global_tokens % self.block_size:
            raise ValueError(
                f"`global_tokens` must be a multiple of `block_size` ({self.block_size}), but is {self.global_tokens}"
            )
        return self

    @model_validator(mode="after")
    def _layers_have_seeds(self) -> "BigBirdConfig":
        if self.layer_seeds is not None and len(self.layer_seeds) != self.num_layers:
            raise ValueError(
                f"`layer_seeds` must be one a layer, {self.num_layers} of them, but are {self.layer_seeds}"
            )
        return self

    def with_layers(self, kept: Sequence[int]) -> "BigBirdConfig":
        """Return the config of a model that has only these layers, and sees the blocks that they were trained on."""
        seeds = [self._seed(layer) for layer in kept]
        return type(self)(**{**self.model_dump(), "num_layers": len(kept), "layer_seeds": seeds})

    def _seed(self, layer: int) -> int:
        return layer if self.layer_seeds is None else self.layer_seeds[layer]

    def pattern(self, layer: int) -> BlockPattern:
        """Return which blocks see which in a layer."""
        extended = self.global_tokens > 0
        return BlockPattern(
            self.block_size,
            self.num_random_blocks,
            num_first=self.global_tokens // self.block_size if extended else 1,
            num_last=0 if extended else 1,
            window=_WINDOW,
            random_plan=self.random_plan,
            # Layers differ, and so do seeds that follow each other. What is drawn from has 64 bits.
            seed=(self.random_seed * 1_000_003 + self._seed(layer)) % (1 << 64),
        )


class BigBird(Bert):
    """BERT's network with block-sparse attention."""

    config: BigBirdConfig

    def __init__(self, config: BigBirdConfig) -> None:
        super().__init__(config)
        self.global_embedding: nn.Parameter | None = None
        if config.global_tokens:
            self.global_embedding = nn.Parameter(torch.empty(config.global_tokens, config.model_dim))
            nn.init.normal_(self.global_embedding, std=config.initial_deviation)

    def _attention(self, layer: int) -> SelfAttention:
        config = self.config
        if config.attention == "full":
            return super()._attention(layer)
        return BlockSparseAttention(
            config.model_dim, config.num_heads, config.pattern(layer), config.full_positions, config.attention_dropout
        )

    def _head(self, name: HeadName) -> nn.Module:
        config = self.config
        if name == "classify":
            activation = config.class_activation or config.activation
            return ClassHead(config.model_dim, len(config.labels), activation, config.head_dropout)
        return super()._head(name)

    @property
    def reads_rows(self) -> bool:
        """Whether several texts may share a row."""
        return self.config.attention == "full" and self.global_embedding is None

    def forward(
        self, batch: TextBatch, places: Places | None = None
    ) -> Float[Tensor, "batch positions dim"] | Float[Tensor, "places dim"]:
        """Return the states of every position, of which those behind a text's end mean nothing, or those of `places`.

        Raises ModelError for rows into which several texts are packed: their blocks would be of two texts at once, and
        global tokens would carry words from one to the other.
        """
        if batch.positions is not None and not self.reads_rows:
            what = "block-sparse attention reads" if self.config.attention != "full" else "global tokens stand before"
            raise ModelError(f"{what} one text a row, but several are packed into each here.")
        if self.global_embedding is None:
            return super().forward(batch, places)
        x, extra = self._embedded(batch), self.config.global_tokens
        x = torch.cat([self.global_embedding.to(x.dtype).expand(len(x), -1, -1), x], dim=1)
        if places is not None:
            return self._encoded(x, Mask(batch.lengths + extra), Places(places.rows, places.columns + extra))
        return self._encoded(x, Mask(batch.lengths + extra), None)[:, extra:]


# What may differ from the shorter model without touching what its weights mean.
_CHOICES = frozenset(BigBirdConfig.model_fields) - frozenset(BertConfig.model_fields) | {
    name for name in BigBirdConfig.model_fields if name.endswith("dropout")
}


def lengthened(model: Bert, max_positions: int, **choices: Any) -> BigBird:
    """Return a BigBird with the weights of a BERT-like model, and its trained positions repeated to `max_positions`.

    `choices` are what `BigBirdConfig` has beyond BERT's fields, and rates of dropout. Raises ModelError for another one
    or one that cannot be, for a model that has blocks or global tokens already, and for one that reads as many tokens.
    Of a model folder, `LoadedModel.lengthened` tells the tokenizer, too.
    """
    config = model.config
    for name in choices:
        if name not in _CHOICES:
            near = nearest(name, _CHOICES)
            meant = f"did you mean {near!r}?" if near else f"it takes {', '.join(sorted(_CHOICES))}."
            raise ModelError(f"`lengthen` takes no {name!r}, since the weights stay what they are; {meant}", name)
    if isinstance(model, BigBird) and (model.config.attention != "full" or model.config.global_tokens):
        raise ModelError("the model is a BigBird already, and cannot be lengthened again.")
    if max_positions <= config.longest_text:
        raise ModelError(
            f"the model reads {config.longest_text} tokens already; `max_positions` must be more, but is "
            f"{max_positions}.",
            "max_positions",
        )
    kept = config.model_dump(include={*BertConfig.model_fields, "class_activation"})
    fields = {"class_activation": config.pooler_activation, **kept}
    fields |= {"first_position": 0, "max_positions": max_positions, **choices}
    made = make_config(find_architecture("bigbird"), fields, "lengthen")
    assert isinstance(made, BigBirdConfig)
    longer = BigBird(made)
    weights = model.state_dict()
    known = weights["positions.weight"][config.first_position :]
    weights["positions.weight"] = known.repeat(-(-max_positions // len(known)), 1)[:max_positions]
    if longer.global_embedding is not None:
        weights["global_embedding"] = longer.global_embedding.detach()
    longer.load_state_dict(weights)
    return longer


def count_parameters(config: BigBirdConfig) -> int:
    """Return the number of parameters in closed form."""
    return bert.count_parameters(config) + config.global_tokens * config.model_dim


def workload(config: BigBirdConfig) -> Workload:
    """Return what a model of this config computes; of its heads, that of masked words."""
    dense = bert.workload(config)
    pattern = config.pattern(0)
    at_all = pattern.num_first + pattern.num_last
    blocks = Blocks(
        config.block_size,
        seen=at_all + pattern.window + pattern.num_random,
        looking_at_all=at_all,
        all_up_to=config.full_positions,
    )
    sparse = replace(
        dense.stacks[0],
        blocks=blocks if config.attention == "block-sparse" else None,
        added=config.global_tokens,
    )
    return replace(dense, stacks=(sparse,))


register(
    Architecture(
        model_type="bigbird",
        config_class=BigBirdConfig,
        model_class=BigBird,
        count_parameters=count_parameters,
        tasks=("fill-mask", "classify", "tag", "answer", "embed"),
        workload=workload,
        vocab_fields=("vocab_size",),
        presets=(
            Preset(
                "bigbird-base",
                "Zaheer et al. 2020, ITC base: BERT base with blocks of 64, 4,096 positions; vocabulary 50,358",
                {},
                paper_vocab_size=50_358,
                paper_parameters=None,
            ),
        ),
    )
)
