"""DistilBERT (Sanh et al. 2019): half of BERT's layers, taught by the whole; no segments, and no pooler.

The head of a text's classes has BERT's form, with a ReLU in place of the hyperbolic tangent.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from trasluz.models.bert import Bert, BertConfig, count_parameters, workload
from trasluz.models.bert_layout import (
    class_suffix,
    head_class,
    key_prefix,
    linear_rows,
    masked_word_rows,
    norm_rows,
    read_labels,
    read_task_heads,
    refuse_unlike,
    write_labels,
)
from trasluz.models.heads import PoolerActivation
from trasluz.models.hub_format import HubFormat, hub_activation, read_activation, register_format
from trasluz.models.key_map import KeyMap, Row
from trasluz.models.registry import Architecture, Preset, find_architecture, make_config, register


class DistilBertConfig(BertConfig):
    """Sizes and choices; the defaults are the paper's model."""

    num_layers: PositiveInt = 6
    num_segments: NonNegativeInt = 0
    pooler_activation: PoolerActivation = "relu"


class DistilBert(Bert):
    """The same network with other defaults, under its own name."""


register(
    Architecture(
        model_type="distilbert",
        config_class=DistilBertConfig,
        model_class=DistilBert,
        count_parameters=count_parameters,
        tasks=("fill-mask", "classify", "tag", "answer", "embed"),
        workload=workload,
        vocab_fields=("vocab_size",),
        presets=(
            Preset(
                "distilbert",
                "Sanh et al. 2019: BERT base with half of its layers; vocabulary 30,522",
                {},
                paper_vocab_size=30_522,
                paper_parameters=66_000_000,
            ),
        ),
    )
)

_SAME = {
    "vocab_size": "vocab_size",
    "pad_token_id": "pad_id",
    "dim": "model_dim",
    "n_heads": "num_heads",
    "hidden_dim": "feed_forward_dim",
    "n_layers": "num_layers",
    "max_position_embeddings": "max_positions",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "initializer_range": "initial_deviation",
}
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "pad_token_id": 0,
    "dim": 768,
    "n_heads": 12,
    "hidden_dim": 3072,
    "n_layers": 6,
    "max_position_embeddings": 512,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "initializer_range": 0.02,
    "activation": "gelu",
    "seq_classif_dropout": 0.2,
    "qa_dropout": 0.1,
}


def read_config(given: Mapping[str, Any], keys: Collection[str]) -> BertConfig:
    """Return our config of a DistilBERT config.json; ModelError for what our network does not have."""
    config = {**_DEFAULTS, **{key: value for key, value in given.items() if value is not None}}
    refuse_unlike(config, {"tie_word_embeddings": True})
    heads = read_task_heads(given, keys, pooled="pre_classifier.weight" in keys)
    if "vocab_projector.bias" in keys:
        heads.append("fill-mask")
    fields: dict[str, Any] = {field: config[key] for key, field in _SAME.items()}
    fields |= {
        "activation": read_activation("activation", config["activation"]),
        "head_dropout": config[_head_dropout(heads)],
        "heads": heads,
        **read_labels(config, heads),
    }
    made = make_config(find_architecture("distilbert"), fields, "config.json")
    assert isinstance(made, DistilBertConfig)
    return made


def write_config(config: DistilBertConfig) -> dict[str, Any] | None:
    """Return a DistilBERT config.json of our config; None where our config says what DistilBERT has no key for."""
    alike = (config.first_position, config.num_segments, config.pooler_activation) == (0, 0, "relu")
    if not alike or {"pool", "next-sentence"} & set(config.heads) or class_suffix(config) is None:
        return None
    if config.norm_epsilon != 1e-12:
        return None
    return {
        **{key: getattr(config, field) for key, field in _SAME.items()},
        "activation": hub_activation(config.activation),
        "seq_classif_dropout": _DEFAULTS["seq_classif_dropout"],
        "qa_dropout": _DEFAULTS["qa_dropout"],
        # Of tokens it is the network's own, which stays what it is.
        **({} if _head_dropout(config.heads) == "dropout" else {_head_dropout(config.heads): config.head_dropout}),
        "sinusoidal_pos_embds": False,
        "tie_word_embeddings": True,
        **write_labels(config),
    }


def _head_dropout(heads: Collection[str]) -> str:
    # Tokens are classified with the dropout of everything else there.
    return "seq_classif_dropout" if "classify" in heads else "qa_dropout" if "answer" in heads else "dropout"


def key_map(config: BertConfig) -> KeyMap:
    """Return the table of keys."""
    prefix = key_prefix("distilbert", config)
    embeddings, layer = f"{prefix}embeddings.", f"{prefix}transformer.layer.{{}}."
    rows = [
        Row(f"{embeddings}word_embeddings.weight", "word_embedding.weight"),
        Row(f"{embeddings}position_embeddings.weight", "positions.weight"),
        Row(f"{embeddings}position_ids", None),
        *norm_rows(f"{embeddings}LayerNorm", "embedding_norm"),
        *norm_rows(f"{layer}sa_layer_norm", "encoder.{}.self_attention_residual.norm"),
        *norm_rows(f"{layer}output_layer_norm", "encoder.{}.feed_forward_residual.norm"),
        *masked_word_rows("vocab_transform", "vocab_layer_norm"),
        Row("vocab_projector.bias", "heads.fill-mask.output.bias"),
        Row("vocab_projector.weight", None),
        *linear_rows("pre_classifier", "heads.classify.pooler.dense"),
        *linear_rows("classifier", f"heads.{'tag' if 'tag' in config.heads else 'classify'}.output"),
        *linear_rows("qa_outputs", "heads.answer.output"),
    ]
    for theirs, ours in {
        "attention.q_lin": "self_attention.query",
        "attention.k_lin": "self_attention.key",
        "attention.v_lin": "self_attention.value",
        "attention.out_lin": "self_attention.output",
        "ffn.lin1": "feed_forward.expand",
        "ffn.lin2": "feed_forward.contract",
    }.items():
        rows += linear_rows(f"{layer}{theirs}", f"encoder.{{}}.{ours}")
    return KeyMap(rows)


register_format(
    HubFormat(
        model_type="distilbert",
        summary="DistilBERT, with every usual head",
        class_name=lambda config: head_class("DistilBert", config),
        config_class=DistilBertConfig,
        read_config=read_config,
        write_config=write_config,
        key_map=key_map,
    )
)
