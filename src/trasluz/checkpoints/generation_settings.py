"""How a model searches, in its generation_config.json: Hugging Face's names, and one of ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trasluz.checkpoints.folder_files import read_json, write_json
from trasluz.errors import ModelError

GENERATION = "generation_config.json"

_OURS = "trasluz"
# What of a generation_config.json a search of ours can follow.
_GENERATION_NAMES = (
    "num_beams",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "no_repeat_ngram_size",
    "bad_words_ids",
    "forced_eos_token_id",
    "renormalize_logits",
    # Of models that continue texts.
    "do_sample",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "stop_strings",
)
UNFOLLOWED: dict[str, Any] = {
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "constraints": None,
    "diversity_penalty": 0.0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "exponential_decay_length_penalty": None,
    "force_words_ids": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "guidance_scale": 1.0,
    "min_length": 0,
    "min_new_tokens": 0,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "penalty_alpha": 0.0,
    "sequence_bias": None,
    "suppress_tokens": None,
    "top_h": 1.0,
    "typical_p": 1.0,
}
"""What of it does not act on a text that goes on, with the value that asks for nothing."""


def max_target_tokens(generation: Mapping[str, Any]) -> int | None:
    """Return how many tokens generation_config.json lets a target have, its end included; None where it says nothing.

    Hugging Face's `max_length` counts the token a target begins with, too.
    """
    if generation.get("max_new_tokens"):
        return int(generation["max_new_tokens"])
    return int(generation["max_length"]) - 1 if generation.get("max_length") else None


def unwritten_ids(tokenizer: Any, eos_id: int) -> tuple[int, ...]:
    """Return the special tokens that are no part of a text: padding, beginning and language tags."""
    specials = (tokenizer.id_of(token) for token in tokenizer.special_tokens)
    return tuple(sorted(index for index in specials if index not in (None, eos_id, tokenizer.unk_id)))


def forbidden_ids(generation: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the tokens that may never stand in a target; ModelError for forbidden sequences of several."""
    entries = generation.get("bad_words_ids") or []
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 1:
            raise ModelError(f"generation_config.json: bad_words_ids holds {entry}; only lists of one token are known.")
    return tuple(entry[0] for entry in entries)


def write_generation(folder: Path, config: Any, tokenizer: Any, given: Mapping[str, Any]) -> None:
    """Write generation_config.json; ours forbids padding, beginning and language tags inside a target."""
    settings = {name: value for name, value in given.items() if name != "normalization"}
    normalization = given.get("normalization", "gnmt")
    if normalization == "gnmt":
        settings = {
            "num_beams": 4,
            "length_penalty": 0.6,
            # With the token a target begins with.
            "max_length": getattr(config, "max_positions", 512) + 1,
            "bad_words_ids": [[index] for index in unwritten_ids(tokenizer, config.eos_id)],
            "forced_eos_token_id": config.eos_id,
            **settings,
        }
    ids = {
        "decoder_start_token_id": config.start_id,
        "eos_token_id": config.eos_id,
        "pad_token_id": config.pad_id,
    }
    write_json(folder / GENERATION, {**settings, **ids, _OURS: {"normalization": normalization}})


def write_continuation(folder: Path, config: Any, given: Mapping[str, Any]) -> None:
    """Write the generation_config.json of a model that continues texts; a text without a prompt begins with its end."""
    settings = {name: value for name, value in given.items() if name != "normalization"}
    write_json(folder / GENERATION, {"bos_token_id": config.eos_id, "eos_token_id": config.eos_id, **settings})


def read_generation(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return how to search; folders older than generation_config.json say it in config.json."""
    path = folder / GENERATION
    found = read_json(path) if path.is_file() else config
    ours = (found.get(_OURS) or {}) if path.is_file() else {}
    # A config.json of an older library has every name, whether or not anybody meant it.
    names = dict.fromkeys([*_GENERATION_NAMES, *(UNFOLLOWED if path.is_file() else ())])
    settings = {name: found[name] for name in names if found.get(name) is not None}
    if isinstance(found.get("eos_token_id"), list):
        # A single one stands in the config of the model.
        settings["eos_token_id"] = found["eos_token_id"]
    return settings | {"normalization": ours.get("normalization", "power")}
