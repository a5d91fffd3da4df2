"""GPT-2 as Hugging Face stores it: matrices with their inputs as rows, and queries, keys and values in one of them.

    c_attn.weight (dim, 3 dim)  =  [query; key; value] turned

The first folders have no `transformer.` before their names, and hold the masks of attention as if they were weights.
"""

from collections.abc import Collection, Mapping
from typing import Any

from trasluz.errors import ModelError
from trasluz.models.bert_layout import refuse_unlike
from trasluz.models.gpt import GptConfig
from trasluz.models.hub_format import HubFormat, hub_activation, read_activation, register_format
from trasluz.models.key_map import KeyMap, Row
from trasluz.models.registry import find_architecture, make_config

_SAME = {
    "vocab_size": "vocab_size",
    "n_positions": "max_positions",
    "n_embd": "model_dim",
    "n_layer": "num_layers",
    "n_head": "num_heads",
    "resid_pdrop": "dropout",
    "embd_pdrop": "embedding_dropout",
    "attn_pdrop": "attention_dropout",
    "layer_norm_epsilon": "norm_epsilon",
    "initializer_range": "initial_deviation",
}
# What the library takes for a key that a config.json leaves out.
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "layer_norm_epsilon": 1e-5,
    "initializer_range": 0.02,
    "activation_function": "gelu_new",
    "eos_token_id": 50256,
}
_KNOWN = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
# Whole texts with a head of classes have other keys; without any head, the output matrix is the embeddings' anyway.
_CLASSES = ("GPT2LMHeadModel", "GPT2Model")


def read_config(given: Mapping[str, Any], keys: Collection[str]) -> GptConfig:
    """Return our config of a GPT-2 config.json; ModelError for what our GPT does not have."""
    named = str((given.get("architectures") or [_CLASSES[0]])[0])
    if named not in _CLASSES:
        raise ModelError(f"config.json: a {named} cannot be loaded; known are {', '.join(_CLASSES)}.")
    config = {**_DEFAULTS, **{key: value for key, value in given.items() if value is not None}}
    refuse_unlike(config, _KNOWN)
    fields: dict[str, Any] = {field: config[key] for key, field in _SAME.items()}
    fields |= {
        "activation": read_activation("activation_function", config["activation_function"]),
        "feed_forward_dim": config.get("n_inner") or 4 * int(config["n_embd"]),
        "eos_id": read_end(given.get("eos_token_id", _DEFAULTS["eos_token_id"]), config["vocab_size"]),
    }
    made = make_config(find_architecture("gpt"), fields, "config.json")
    assert isinstance(made, GptConfig)
    return made


def read_end(said: Any, vocab_size: Any) -> int | None:
    """Return the id of the end; the usual one says nothing about a vocabulary in which it is not.

    Of several, the first is that of a document; the others end turns of a talk. ModelError for what is no id.
    """
    index = said[0] if isinstance(said, list) and said else said
    if index is not None and (isinstance(index, bool) or not isinstance(index, int) or index < 0):
        raise ModelError(
            f"config.json: eos_token_id is {said!r}, but it must be a token's id, a list of them, or null."
        )
    if index is not None and isinstance(vocab_size, int) and index >= vocab_size:
        return None
    return index


def write_config(config: GptConfig) -> dict[str, Any] | None:
    """Return a GPT-2 config.json of our config; None where some layers see a band only, which GPT-2's never do."""
    if config.band is not None:
        return None
    return {
        **{key: getattr(config, field) for key, field in _SAME.items()},
        "n_inner": config.feed_forward_dim,
        "activation_function": hub_activation(config.activation),
        "bos_token_id": config.eos_id,
        "eos_token_id": config.eos_id,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
    }


def key_map(config: GptConfig) -> KeyMap:
    """Return the table of keys."""
    return KeyMap(
        [
            *_rows("transformer."),
            *(Row(row.theirs, row.ours, read_only=True, transposed=row.transposed) for row in _rows("")),
            Row("lm_head.weight", None),
        ]
    )


def _rows(prefix: str) -> list[Row]:
    theirs, ours = f"{prefix}h.{{}}.", "decoder.{}."
    rows = [
        Row(f"{prefix}wte.weight", "word_embedding.weight"),
        Row(f"{prefix}wpe.weight", "positions.weight"),
        # Which positions are seen, and a very small number.
        Row(f"{theirs}attn.bias", None),
        Row(f"{theirs}attn.masked_bias", None),
    ]
    norms = {
        f"{theirs}ln_1": f"{ours}self_attention_residual.norm",
        f"{theirs}ln_2": f"{ours}feed_forward_residual.norm",
        f"{prefix}ln_f": "decoder_norm",
    }
    rows += [Row(f"{there}.{kind}", f"{here}.{kind}") for there, here in norms.items() for kind in ("weight", "bias")]
    linears = {
        "attn.c_attn": ("self_attention.query", "self_attention.key", "self_attention.value"),
        "attn.c_proj": ("self_attention.output",),
        "mlp.c_fc": ("feed_forward.expand",),
        "mlp.c_proj": ("feed_forward.contract",),
    }
    for there, here in linears.items():
        rows += [
            Row(f"{theirs}{there}.{kind}", tuple(f"{ours}{name}.{kind}" for name in here), transposed=kind == "weight")
            for kind in ("weight", "bias")
        ]
    return rows


register_format(
    HubFormat(
        model_type="gpt2",
        summary="GPT-2 and whatever has its layout, to continue texts",
        class_name=lambda config: "GPT2LMHeadModel",
        config_class=GptConfig,
        read_config=read_config,
        write_config=write_config,
        key_map=key_map,
    )
)
