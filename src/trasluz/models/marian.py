"""Marian's Transformer (Junczys-Dowmunt et al. 2018) as Hugging Face stores it: post-norm, sinusoidal positions.

    logits = hidden W^T + final_logits_bias

Both sides write the positions as sines, then cosines, so nothing is permuted. A target begins with
`decoder_start_token_id`, in Marian's own models the padding token.
"""

from collections.abc import Collection, Mapping
from typing import Any

from trasluz.errors import ModelError
from trasluz.models.hub_format import HubFormat, hub_activation, read_activation, register_format
from trasluz.models.key_map import KeyMap, Row
from trasluz.models.registry import find_architecture, make_config
from trasluz.models.transformer import TransformerConfig

_ATTENTION = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}

# Of a post-norm stack of alike layers nothing else is known to our Transformer.
_REFUSED = {
    "normalize_before": False,
    "normalize_embedding": False,
    "add_final_layer_norm": False,
    "static_position_embeddings": True,
}


# Their key, our field: numbers that mean the same.
_SAME = {
    "vocab_size": "source_vocab_size",
    "pad_token_id": "pad_id",
    "decoder_start_token_id": "start_id",
    "eos_token_id": "eos_id",
    "d_model": "model_dim",
    "encoder_layers": "num_encoder_layers",
    "decoder_layers": "num_decoder_layers",
    "max_position_embeddings": "max_positions",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
}

# Two keys there, one field here: encoder and decoder must agree.
_TWICE = {"attention_heads": "num_heads", "ffn_dim": "feed_forward_dim"}

# What the Hugging Face library takes for a key that a config.json leaves out.
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 58101,
    "pad_token_id": 58100,
    "decoder_start_token_id": 58100,
    "eos_token_id": 0,
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "max_position_embeddings": 1024,
    "dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "activation_function": "gelu",
    "scale_embedding": False,
    "share_encoder_decoder_embeddings": True,
    "tie_word_embeddings": True,
}

_TYING = {(True, True): "all", (False, True): "target", (False, False): "none"}


def read_config(given: Mapping[str, Any], keys: Collection[str]) -> TransformerConfig:
    """Return our config of a Marian config.json; ModelError for what our Transformer does not have."""
    config = {**_DEFAULTS, **{key: value for key, value in given.items() if value is not None}}
    for key, value in _REFUSED.items():
        if config.get(key, value) != value:
            raise ModelError(
                f"config.json: {key} is {config[key]}, but only {value} is known: a post-norm Transformer with "
                "sinusoidal positions."
            )
    fields: dict[str, Any] = {ours: config[theirs] for theirs, ours in _SAME.items()}
    for theirs, ours in _TWICE.items():
        encoder, decoder = config[f"encoder_{theirs}"], config[f"decoder_{theirs}"]
        if encoder != decoder:
            raise ModelError(
                f"config.json: encoder_{theirs} is {encoder} and decoder_{theirs} {decoder}; only equal ones are known."
            )
        fields[ours] = encoder
    sharing = bool(config["share_encoder_decoder_embeddings"]), bool(config["tie_word_embeddings"])
    fields |= {
        "target_vocab_size": config["vocab_size"]
        if sharing[0]
        else config.get("decoder_vocab_size", config["vocab_size"]),
        "activation": read_activation("activation_function", config["activation_function"]),
        "scale_embeddings": config["scale_embedding"],
        # Three matrices of their own in the file are what they are, whatever the first flag says.
        "tied_embeddings": _TYING.get(sharing, "none"),
        "output_bias": "final_logits_bias" in keys,
        "norm": "post",
        "positions": "sinusoidal",
    }
    made = make_config(find_architecture("transformer"), fields, "config.json")
    assert isinstance(made, TransformerConfig)
    return made


def write_config(config: TransformerConfig) -> dict[str, Any] | None:
    """Return a Marian config.json of our config; None for pre-norm or trained positions, which Marian lacks."""
    if config.norm != "post" or config.positions != "sinusoidal":
        return None
    shared, tied = {tying: flags for flags, tying in _TYING.items()}[config.tied_embeddings]
    written: dict[str, Any] = {theirs: getattr(config, ours) for theirs, ours in _SAME.items()}
    for theirs, ours in _TWICE.items():
        written |= {f"encoder_{theirs}": getattr(config, ours), f"decoder_{theirs}": getattr(config, ours)}
    return written | {
        "decoder_vocab_size": config.target_vocab_size,
        "activation_function": hub_activation(config.activation),
        "scale_embedding": config.scale_embeddings,
        "share_encoder_decoder_embeddings": shared,
        "tie_word_embeddings": tied,
        "bos_token_id": None,
        "forced_eos_token_id": config.eos_id,
        "is_encoder_decoder": True,
        "static_position_embeddings": True,
        "normalize_before": False,
        "use_cache": True,
    }


def key_map(config: TransformerConfig) -> KeyMap:
    """Return the table of keys; which matrices are copies of others depends on the tying."""
    rows = [
        # Fixed sinusoids; older files hold them too.
        Row("model.encoder.embed_positions.weight", None),
        Row("model.decoder.embed_positions.weight", None),
        Row("final_logits_bias", "output_head.bias", (1, -1)),
        *_block("encoder", {"self_attn": "self_attention"}),
        *_block("decoder", {"self_attn": "self_attention", "encoder_attn": "cross_attention"}),
    ]
    everywhere = config.tied_embeddings == "all"
    rows += [
        Row("model.shared.weight", "source_embedding.weight" if everywhere else None),
        Row("model.encoder.embed_tokens.weight", None if everywhere else "source_embedding.weight"),
        Row("model.decoder.embed_tokens.weight", None if everywhere else "target_embedding.weight"),
        Row("lm_head.weight", "output_head.weight" if config.tied_embeddings == "none" else None),
    ]
    return KeyMap(rows)


def _block(stack: str, attentions: dict[str, str]) -> list[Row]:
    pairs = {
        f"{theirs}.{part}": f"{ours}.{name}" for theirs, ours in attentions.items() for part, name in _ATTENTION.items()
    }
    pairs |= {f"{theirs}_layer_norm": f"{ours}_residual.norm" for theirs, ours in attentions.items()}
    pairs |= {
        "fc1": "feed_forward.expand",
        "fc2": "feed_forward.contract",
        "final_layer_norm": "feed_forward_residual.norm",
    }
    return [
        Row(f"model.{stack}.layers.{{}}.{theirs}.{kind}", f"{stack}.{{}}.{ours}.{kind}")
        for theirs, ours in pairs.items()
        for kind in ("weight", "bias")
    ]


register_format(
    HubFormat(
        model_type="marian",
        summary="Marian and OPUS-MT translators: post-norm Transformers with sinusoidal positions",
        class_name=lambda config: "MarianMTModel",
        config_class=TransformerConfig,
        read_config=read_config,
        write_config=write_config,
        key_map=key_map,
    )
)
