"""BERT as Hugging Face stores it, and what the layouts that resemble it have in common with it.

A file's keys tell which heads it has. Old files name the parameters of a layer norm gamma and beta.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from trasluz.errors import ModelError
from trasluz.models.bert import BertConfig
from trasluz.models.heads import HeadName
from trasluz.models.hub_format import HubFormat, hub_activation, read_activation, register_format
from trasluz.models.key_map import KeyMap, Row
from trasluz.models.registry import find_architecture, make_config

_SAME = {
    "vocab_size": "vocab_size",
    "pad_token_id": "pad_id",
    "hidden_size": "model_dim",
    "num_attention_heads": "num_heads",
    "intermediate_size": "feed_forward_dim",
    "num_hidden_layers": "num_layers",
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "num_segments",
    "layer_norm_eps": "norm_epsilon",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "initializer_range": "initial_deviation",
}
# What the library takes for a key that a config.json leaves out.
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "pad_token_id": 0,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "hidden_act": "gelu",
}
_CLASSES = {
    ("fill-mask", "next-sentence"): "ForPreTraining",
    ("fill-mask",): "ForMaskedLM",
    ("next-sentence",): "ForNextSentencePrediction",
    ("classify",): "ForSequenceClassification",
    ("tag",): "ForTokenClassification",
    ("answer",): "ForQuestionAnswering",
    (): "Model",
}
_LABEL_KINDS = {
    "single_label_classification": "one",
    "multi_label_classification": "several",
    "regression": "number",
}

# Theirs, the older ones last, and ours.
_NORM = (("weight", "weight"), ("bias", "bias"), ("gamma", "weight"), ("beta", "bias"))


def read_config(given: Mapping[str, Any], keys: Collection[str]) -> BertConfig:
    """Return our config of a BERT config.json; ModelError for what our BERT does not have."""
    heads = read_task_heads(given, keys, pooled="bert.pooler.dense.weight" in keys)
    if "cls.predictions.bias" in keys:
        heads.append("fill-mask")
    if "cls.seq_relationship.weight" in keys:
        heads.append("next-sentence")
    pooler = {"pooler.dense.weight", "bert.pooler.dense.weight"} & set(keys)
    if pooler and not {"next-sentence", "classify"} & set(heads):
        heads.insert(0, "pool")
    return make_bert_config("bert", given, heads, {})


def make_bert_config(
    model_type: str, given: Mapping[str, Any], heads: Sequence[str], ours: Mapping[str, Any]
) -> BertConfig:
    """Return the config of a layout like BERT's; `ours` are fields that the layout itself says."""
    config = {**_DEFAULTS, **{key: value for key, value in given.items() if value is not None}}
    refuse_unlike(config, {"position_embedding_type": "absolute", "is_decoder": False, "tie_word_embeddings": True})
    fields: dict[str, Any] = {field: config[key] for key, field in _SAME.items()}
    fields |= {
        "activation": read_activation("hidden_act", config["hidden_act"]),
        "head_dropout": config.get("classifier_dropout", config["hidden_dropout_prob"]),
        "heads": list(heads),
        **read_labels(config, heads),
        **ours,
    }
    made = make_config(find_architecture(model_type), fields, "config.json")
    assert isinstance(made, BertConfig)
    return made


def refuse_unlike(config: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise ModelError for a key whose value is not the one that is known here; a key that is missing has it."""
    for key, value in known.items():
        if config.get(key, value) != value:
            raise ModelError(
                f"config.json: {key} is {config[key]!r}, but only {value!r} is known of this kind of model."
            )


def read_task_heads(given: Mapping[str, Any], keys: Collection[str], pooled: bool) -> list[HeadName]:
    """Return the task's head: what is called `classifier` may be of texts or of tokens, and the class's name tells.

    Where no class is named, a `pooled` text is what is classified. Raises ModelError for heads not known here.
    """
    named = str((given.get("architectures") or [""])[0])
    if named.endswith("ForMultipleChoice") or named.endswith("LMHeadModel"):
        raise ModelError(f"config.json: a {named} cannot be loaded; known are {', '.join(_CLASSES.values())}.")
    if "qa_outputs.weight" in keys:
        return ["answer"]
    if not any(key.startswith("classifier.") for key in keys):
        return []
    of_texts = named.endswith("ForSequenceClassification") or (pooled and not named.endswith("ForTokenClassification"))
    return ["classify" if of_texts else "tag"]


def read_labels(config: Mapping[str, Any], heads: Collection[str]) -> dict[str, Any]:
    """Return the fields of our config that name the classes."""
    if not {"classify", "tag"} & set(heads):
        return {}
    numbers = {int(index): str(name) for index, name in (config.get("id2label") or {}).items()}
    count = len(numbers) or int(config.get("num_labels", 2))
    labels = [numbers.get(index, f"LABEL_{index}") for index in range(count)]
    twice = next((name for name in labels if labels.count(name) > 1), None)
    if twice is not None and "classify" in heads:
        raise ModelError(
            f"config.json: id2label names two classes {twice!r}, whose scores could not be told apart: give each a "
            "name of its own."
        )
    kind = config.get("problem_type")
    if kind is not None and kind not in _LABEL_KINDS:
        raise ModelError(f"config.json: problem_type is {kind!r}; known are {', '.join(_LABEL_KINDS)}.")
    # Without a word the library takes one class for a number; nothing else can be meant.
    ours = _LABEL_KINDS[kind] if kind else "number" if count == 1 and "classify" in heads else "one"
    return {"labels": labels, "label_kind": ours}


def write_config(config: BertConfig) -> dict[str, Any] | None:
    """Return a BERT config.json of our config; None where our config says what BERT has no key for."""
    if config.first_position or not config.num_segments or config.pooler_activation != "tanh":
        return None
    return write_bert_config(config)


def write_bert_config(config: BertConfig) -> dict[str, Any] | None:
    """Return what the config.json of a layout like BERT's says; None for heads that no class there has together."""
    if class_suffix(config) is None:
        return None
    return {
        **{key: getattr(config, field) for key, field in _SAME.items()},
        "hidden_act": hub_activation(config.activation),
        "classifier_dropout": config.head_dropout,
        "is_decoder": False,
        "tie_word_embeddings": True,
        **write_labels(config),
    }


def write_labels(config: BertConfig) -> dict[str, Any]:
    """Return the keys of a config.json that name the classes."""
    if not config.labels:
        return {}
    kind = next(theirs for theirs, ours in _LABEL_KINDS.items() if ours == config.label_kind)
    return {
        "id2label": {str(index): name for index, name in enumerate(config.labels)},
        "label2id": {name: index for index, name in enumerate(config.labels)},
        **({"problem_type": kind} if "classify" in config.heads else {}),
    }


def class_suffix(config: BertConfig) -> str | None:
    """Return what the library calls a model with these heads, behind the family's name; None if it has none.

    A pooler beside another head is allowed for: some files hold one that nothing there uses.
    """
    return _CLASSES.get(tuple(sorted(set(config.heads) - {"pool"})))


def head_class(family: str, config: BertConfig) -> str:
    """Return the library's class for a model of this family."""
    return f"{family}{class_suffix(config)}"


def key_map(config: BertConfig) -> KeyMap:
    """Return the table of keys."""
    rows = encoder_rows("bert", config)
    prefix = key_prefix("bert", config)
    pooler = next(
        (f"heads.{name}.pooler" for name in ("next-sentence", "classify") if name in config.heads), "heads.pool"
    )
    rows += linear_rows(f"{prefix}pooler.dense", f"{pooler}.dense")
    rows += masked_word_rows("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm")
    rows += [
        Row("cls.predictions.bias", "heads.fill-mask.output.bias"),
        Row("cls.predictions.decoder.weight", None),
        Row("cls.predictions.decoder.bias", None),
        *linear_rows("cls.seq_relationship", "heads.next-sentence.output"),
        *linear_rows("classifier", f"heads.{'tag' if 'tag' in config.heads else 'classify'}.output"),
        *linear_rows("qa_outputs", "heads.answer.output"),
    ]
    return KeyMap(rows)


def key_prefix(family: str, config: BertConfig) -> str:
    """Return what stands before the encoder's keys: nothing where there is nothing but the encoder."""
    return "" if set(config.heads) <= {"pool"} else f"{family}."


def encoder_rows(family: str, config: BertConfig) -> list[Row]:
    """Return the rows of an encoder whose keys are like BERT's."""
    prefix = key_prefix(family, config)
    embeddings, layer = f"{prefix}embeddings.", f"{prefix}encoder.layer.{{}}."
    rows = [
        Row(f"{embeddings}word_embeddings.weight", "word_embedding.weight"),
        Row(f"{embeddings}position_embeddings.weight", "positions.weight"),
        Row(f"{embeddings}token_type_embeddings.weight", "segment_embedding.weight"),
        # Numbers from 0 on, and zeros, which older files hold.
        Row(f"{embeddings}position_ids", None),
        Row(f"{embeddings}token_type_ids", None),
        *norm_rows(f"{embeddings}LayerNorm", "embedding_norm"),
        *norm_rows(f"{layer}attention.output.LayerNorm", "encoder.{}.self_attention_residual.norm"),
        *norm_rows(f"{layer}output.LayerNorm", "encoder.{}.feed_forward_residual.norm"),
    ]
    for theirs, ours in {
        "attention.self.query": "self_attention.query",
        "attention.self.key": "self_attention.key",
        "attention.self.value": "self_attention.value",
        "attention.output.dense": "self_attention.output",
        "intermediate.dense": "feed_forward.expand",
        "output.dense": "feed_forward.contract",
    }.items():
        rows += linear_rows(f"{layer}{theirs}", f"encoder.{{}}.{ours}")
    return rows


def linear_rows(theirs: str, ours: str) -> list[Row]:
    """Return the rows of a linear layer."""
    return [Row(f"{theirs}.{kind}", f"{ours}.{kind}") for kind in ("weight", "bias")]


def norm_rows(theirs: str, ours: str) -> list[Row]:
    """Return the rows of a layer norm, whose older names are read too."""
    return [Row(f"{theirs}.{there}", f"{ours}.{here}", read_only=there != here) for there, here in _NORM]


def masked_word_rows(dense: str, norm: str) -> list[Row]:
    """Return the rows of what a head for masked words does before its output."""
    return linear_rows(dense, "heads.fill-mask.dense") + norm_rows(norm, "heads.fill-mask.norm")


register_format(
    HubFormat(
        model_type="bert",
        summary="BERT, MiniLM and whatever has their layout, with every usual head",
        class_name=lambda config: head_class("Bert", config),
        config_class=BertConfig,
        read_config=read_config,
        write_config=write_config,
        key_map=key_map,
    )
)
