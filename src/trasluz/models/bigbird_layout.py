"""BigBird as Hugging Face stores it: BERT's keys, another head for classes, and a few words on blocks.

The library has no word for the plan of random blocks: when it does not train, it takes the first block again and again,
and texts of at most (5 + 2 * random blocks) blocks are read with full attention. A folder of its making is read with
both (`random_plan: huggingface-eval`, `full_up_to`). Where ours says otherwise, config.json has further keys, which the
library keeps and does not heed: it reads our weights, and computes its own plan.
"""

import warnings
from collections.abc import Collection, Mapping
from typing import Any

from trasluz.errors import ModelError, TrasluzWarning
from trasluz.models.bert import BertConfig
from trasluz.models.bert_layout import (
    encoder_rows,
    head_class,
    key_prefix,
    linear_rows,
    make_bert_config,
    masked_word_rows,
    read_task_heads,
    refuse_unlike,
    write_bert_config,
)
from trasluz.models.bigbird import BigBirdConfig
from trasluz.models.hub_format import HubFormat, register_format
from trasluz.models.key_map import KeyMap, Row

_ATTENTIONS = {"block_sparse": "block-sparse", "original_full": "full"}
# Ours, under names that say so.
_FURTHER = {
    "trasluz_random_plan": "random_plan",
    "trasluz_random_seed": "random_seed",
    "trasluz_layer_seeds": "layer_seeds",
    "trasluz_full_up_to": "full_up_to",
    "trasluz_class_activation": "class_activation",
}
# What the library takes for a key that a config.json leaves out, where BERT's says otherwise.
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 50358,
    "hidden_act": "gelu_new",
    "max_position_embeddings": 4096,
    "attention_type": "block_sparse",
    "block_size": 64,
    "num_random_blocks": 3,
}


def full_up_to(block_size: int, num_random_blocks: int) -> int:
    """Return the longest text that the library reads with full attention, although it was told of blocks."""
    return (5 + 2 * num_random_blocks) * block_size


def read_config(given: Mapping[str, Any], keys: Collection[str]) -> BertConfig:
    """Return our config of a BigBird config.json; ModelError for what our network does not have."""
    given = {**_DEFAULTS, **{key: value for key, value in given.items() if value is not None}}
    refuse_unlike(given, {"use_bias": True, "rescale_embeddings": False, "add_cross_attention": False})
    if given["attention_type"] not in _ATTENTIONS:
        raise ModelError(
            f"config.json: attention_type is {given['attention_type']!r}; known are {', '.join(_ATTENTIONS)}."
        )
    if any(key.startswith("qa_classifier.") for key in keys):
        raise ModelError(
            "a BigBirdForQuestionAnswering cannot be loaded: there is a layer below its head that ours lacks."
        )
    heads = read_task_heads(given, keys, pooled="classifier.out_proj.weight" in keys)
    if "cls.predictions.bias" in keys:
        heads.append("fill-mask")
    if "cls.seq_relationship.weight" in keys:
        heads.append("next-sentence")
    if {"pooler.weight", "bert.pooler.weight"} & set(keys) and "next-sentence" not in heads:
        heads.insert(0, "pool")
    size, random = given["block_size"], given["num_random_blocks"]
    if given["attention_type"] == "block_sparse" and "trasluz_full_up_to" not in given:
        plan = "" if "trasluz_random_plan" in given else ", and longer ones without random blocks"
        warnings.warn(
            f"as in the library that wrote it, this BigBird reads texts of up to {full_up_to(size, random)} tokens "
            f"with full attention{plan} (docs/long-texts.md).",
            TrasluzWarning,
            stacklevel=2,
        )
    ours = {
        "attention": _ATTENTIONS[given["attention_type"]],
        "block_size": size,
        "num_random_blocks": random,
        "random_plan": "huggingface-eval",
        "full_up_to": full_up_to(size, random),
        **{field: given[key] for key, field in _FURTHER.items() if key in given},
    }
    return make_bert_config("bigbird", given, heads, ours)


def write_config(config: BigBirdConfig) -> dict[str, Any] | None:
    """Return a BigBird config.json of our config; None where our config says what BigBird has no key for."""
    if config.first_position or not config.num_segments or config.pooler_activation != "tanh" or config.global_tokens:
        return None
    if "answer" in config.heads:
        return None
    if "classify" in config.heads and config.class_activation not in (None, config.activation):
        return None
    written = write_bert_config(config)
    if written is None:
        return None
    theirs = next(theirs for theirs, ours in _ATTENTIONS.items() if ours == config.attention)
    return written | {
        "attention_type": theirs,
        "block_size": config.block_size,
        "num_random_blocks": config.num_random_blocks,
        "use_bias": True,
        "rescale_embeddings": False,
        **{key: getattr(config, field) for key, field in _FURTHER.items()},
    }


def key_map(config: BertConfig) -> KeyMap:
    """Return the table of keys."""
    prefix = key_prefix("bert", config)
    pooler = "heads.next-sentence.pooler" if "next-sentence" in config.heads else "heads.pool"
    return KeyMap(
        [
            *encoder_rows("bert", config),
            *linear_rows(f"{prefix}pooler", f"{pooler}.dense"),
            *masked_word_rows("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"),
            Row("cls.predictions.bias", "heads.fill-mask.output.bias"),
            Row("cls.predictions.decoder.weight", None),
            Row("cls.predictions.decoder.bias", None),
            *linear_rows("cls.seq_relationship", "heads.next-sentence.output"),
            *linear_rows("classifier.dense", "heads.classify.pooler.dense"),
            *linear_rows("classifier.out_proj", "heads.classify.output"),
            *linear_rows("classifier", "heads.tag.output"),
        ]
    )


register_format(
    HubFormat(
        model_type="big_bird",
        summary="BigBird, with every usual head but that of answers",
        class_name=lambda config: head_class("BigBird", config),
        config_class=BigBirdConfig,
        read_config=read_config,
        write_config=write_config,
        key_map=key_map,
    )
)
