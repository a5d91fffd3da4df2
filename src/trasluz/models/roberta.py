"""RoBERTa (Liu et al. 2019): BERT's network, trained longer, without next sentences, on pieces of bytes.

Its layout differs in three places: the table of positions begins with rows for padding, there are no segments to speak
of, and the head of a text's classes is the pooler's equal under another name. The head of masked words has GELU always.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn

from trasluz.models.bert import Bert, BertConfig, count_parameters, workload
from trasluz.models.bert_layout import (
    encoder_rows,
    head_class,
    key_prefix,
    linear_rows,
    make_bert_config,
    masked_word_rows,
    read_task_heads,
    write_bert_config,
)
from trasluz.models.heads import HeadName, MaskedWordHead
from trasluz.models.hub_format import HubFormat, register_format
from trasluz.models.key_map import KeyMap, Row
from trasluz.models.registry import Architecture, register


class RobertaConfig(BertConfig):
    """Sizes and choices; the defaults are the paper's base model."""

    pad_id: NonNegativeInt = 1
    max_positions: PositiveInt = 514
    first_position: NonNegativeInt = 2
    num_segments: NonNegativeInt = 1
    norm_epsilon: PositiveFloat = 1e-5


class Roberta(Bert):
    """The same network under its own name."""

    def _head(self, name: HeadName) -> nn.Module:
        if name == "fill-mask":
            # Exact GELU, as in the library, whatever the encoder's activation is.
            return MaskedWordHead(self.word_embedding.weight, "gelu", self.config.norm_epsilon)
        return super()._head(name)


register(
    Architecture(
        model_type="roberta",
        config_class=RobertaConfig,
        model_class=Roberta,
        count_parameters=count_parameters,
        tasks=("fill-mask", "classify", "tag", "answer", "embed"),
        workload=workload,
        vocab_fields=("vocab_size",),
        presets=(),
    )
)


def read_config(given: Mapping[str, Any], keys: Collection[str]) -> BertConfig:
    """Return our config of a RoBERTa config.json; ModelError for what our network does not have."""
    heads = read_task_heads(given, keys, pooled="classifier.out_proj.weight" in keys)
    if "lm_head.bias" in keys:
        heads.append("fill-mask")
    if {"pooler.dense.weight", "roberta.pooler.dense.weight"} & set(keys) and "classify" not in heads:
        heads.insert(0, "pool")
    # The library counts positions from the row behind the padding's.
    pad_id = given.get("pad_token_id")
    pad_id = 1 if pad_id is None else pad_id
    given = {"vocab_size": 50265, "layer_norm_eps": 1e-12, **given, "pad_token_id": pad_id}
    return make_bert_config("roberta", given, heads, {"first_position": pad_id + 1})


def write_config(config: RobertaConfig) -> dict[str, Any] | None:
    """Return a RoBERTa config.json of our config; None where our config says what RoBERTa has no key for."""
    if config.first_position != config.pad_id + 1 or not config.num_segments or "next-sentence" in config.heads:
        return None
    # Whoever classifies ignores a pooler beside it.
    if {"pool", "classify"} <= set(config.heads):
        return None
    return write_bert_config(config)


def key_map(config: BertConfig) -> KeyMap:
    """Return the table of keys."""
    prefix = key_prefix("roberta", config)
    pooler = linear_rows(f"{prefix}pooler.dense", "heads.pool.dense")
    if "classify" in config.heads:
        # The head of classes has its own; files may hold one beside it that nothing uses.
        pooler = [Row(row.theirs, None) for row in pooler]
    return KeyMap(
        [
            *encoder_rows("roberta", config),
            *pooler,
            *masked_word_rows("lm_head.dense", "lm_head.layer_norm"),
            Row("lm_head.bias", "heads.fill-mask.output.bias"),
            Row("lm_head.decoder.weight", None),
            Row("lm_head.decoder.bias", None),
            *linear_rows("classifier.dense", "heads.classify.pooler.dense"),
            *linear_rows("classifier.out_proj", "heads.classify.output"),
            *linear_rows("classifier", "heads.tag.output"),
            *linear_rows("qa_outputs", "heads.answer.output"),
        ]
    )


register_format(
    HubFormat(
        model_type="roberta",
        summary="RoBERTa and whatever has its layout, with every usual head",
        class_name=lambda config: head_class("Roberta", config),
        config_class=RobertaConfig,
        read_config=read_config,
        write_config=write_config,
        key_map=key_map,
    )
)
