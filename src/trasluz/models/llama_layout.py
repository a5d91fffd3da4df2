"""Our modern GPT as Hugging Face stores it, under the name `llama`: the same matrices, each under a name of its own.

self_attn.q_proj  mlp.gate_proj  ...           as they are here: outputs as rows, no biases
rope_parameters                                base of the rotary positions; kinds that stretch them are not known
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

from trasluz.errors import ModelError
from trasluz.models.bert_layout import refuse_unlike
from trasluz.models.gpt_layout import read_end
from trasluz.models.gpt_modern import GptModernConfig
from trasluz.models.hub_format import HubFormat, hub_activation, read_activation, register_format
from trasluz.models.key_map import KeyMap, Row
from trasluz.models.registry import find_architecture, make_config

_SAME = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_positions",
    "hidden_size": "model_dim",
    "intermediate_size": "feed_forward_dim",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_memory_heads",
    "rms_norm_eps": "norm_epsilon",
    "tie_word_embeddings": "tied_embeddings",
    "attention_dropout": "attention_dropout",
    "initializer_range": "initial_deviation",
    # GPT-2's names of what the library's Llama has not; it lets them be.
    "resid_pdrop": "dropout",
    "embd_pdrop": "embedding_dropout",
}
# What the library takes for a key that a config.json leaves out.
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "hidden_act": "silu",
    "eos_token_id": 2,
}
_KNOWN = {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1}
_CLASS = "LlamaForCausalLM"
_USUAL_BASE = 10_000.0


def read_config(given: Mapping[str, Any], keys: Collection[str]) -> GptModernConfig:
    """Return our config of a Llama config.json; ModelError for what our modern GPT does not have."""
    named = str((given.get("architectures") or [_CLASS])[0])
    if named != _CLASS:
        raise ModelError(f"config.json: a {named} cannot be loaded; known is {_CLASS}.")
    config = {**_DEFAULTS, **{key: value for key, value in given.items() if value is not None}}
    config.setdefault("num_key_value_heads", config["num_attention_heads"])
    refuse_unlike(config, _KNOWN)
    fields: dict[str, Any] = {field: config[key] for key, field in _SAME.items()}
    fields |= {
        "activation": read_activation("hidden_act", config["hidden_act"]),
        "rotary_base": _rotary_base(config),
        "eos_id": read_end(given.get("eos_token_id", _DEFAULTS["eos_token_id"]), config["vocab_size"]),
    }
    made = make_config(find_architecture("gpt-modern"), fields, "config.json")
    assert isinstance(made, GptModernConfig)
    refuse_unlike(config, {"head_dim": made.model_dim // made.num_heads})
    return made


def _rotary_base(config: Mapping[str, Any]) -> float:
    """Return the base of the positions, under its newer or its older name."""
    key = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
    said = config.get(key) or {}
    if not isinstance(said, Mapping):
        raise ModelError(f'config.json: {key} is {said!r}, but it must be an object, as {{"rope_type": "default"}}.')
    kind = said.get("rope_type", said.get("type", "default"))
    if kind != "default":
        raise ModelError(f"config.json: its rotary positions are of the kind {kind!r}, but only 'default' is known.")
    base = said.get("rope_theta") or config.get("rope_theta") or _USUAL_BASE
    if isinstance(base, bool) or not isinstance(base, int | float) or not 0 < base < math.inf:
        raise ModelError(f"config.json: rope_theta is {base!r}, but it must be a number above 0, as {_USUAL_BASE}.")
    return float(base)


def write_config(config: GptModernConfig) -> dict[str, Any]:
    """Return a Llama config.json of our config."""
    return {
        **{key: getattr(config, field) for key, field in _SAME.items()},
        "head_dim": config.model_dim // config.num_heads,
        # Other programs know this one name of it only.
        "hidden_act": "silu" if config.activation == "swish" else hub_activation(config.activation),
        "rope_theta": config.rotary_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_base},
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": config.eos_id,
        "eos_token_id": config.eos_id,
    }


def key_map(config: GptModernConfig) -> KeyMap:
    """Return the table of keys."""
    theirs, ours = "model.layers.{}.", "decoder.{}."
    layers = {
        "self_attn.q_proj": "self_attention.query",
        "self_attn.k_proj": "self_attention.key",
        "self_attn.v_proj": "self_attention.value",
        "self_attn.o_proj": "self_attention.output",
        "mlp.gate_proj": "feed_forward.gate",
        "mlp.up_proj": "feed_forward.expand",
        "mlp.down_proj": "feed_forward.contract",
        "input_layernorm": "self_attention_residual.norm",
        "post_attention_layernorm": "feed_forward_residual.norm",
    }
    return KeyMap(
        [
            Row("model.embed_tokens.weight", "word_embedding.weight"),
            Row("model.norm.weight", "decoder_norm.weight"),
            *(Row(f"{theirs}{there}.weight", f"{ours}{here}.weight") for there, here in layers.items()),
            # What the base says, in older folders.
            Row(f"{theirs}self_attn.rotary_emb.inv_freq", None),
            Row("lm_head.weight", None if config.tied_embeddings else "output_head.weight"),
        ]
    )


register_format(
    HubFormat(
        model_type="llama",
        summary="models of the Llama family with byte-level tokenizers, to continue texts",
        class_name=lambda config: _CLASS,
        config_class=GptModernConfig,
        read_config=read_config,
        write_config=write_config,
        key_map=key_map,
    )
)
