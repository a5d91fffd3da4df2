"""Random Llama folders as the `transformers` library writes them, with byte-level tokenizers."""

from pathlib import Path
from typing import Any

import torch
from tests.checkpoints.hub_gpts import write_vocabulary
from transformers import GPT2Tokenizer, LlamaConfig, LlamaForCausalLM

ODD_SIZES: dict[str, dict[str, Any]] = {
    "eights": {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2},
    "odd": {
        "hidden_size": 30,
        "num_attention_heads": 5,
        "num_key_value_heads": 1,
        "num_hidden_layers": 3,
        "intermediate_size": 17,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    },
    "one-layer": {
        "hidden_size": 10,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "num_hidden_layers": 1,
        "hidden_act": "gelu",
        "rms_norm_eps": 0.01,
    },
}


def write_llama(folder: Path, *, seed: int = 0, **sizes: Any) -> LlamaForCausalLM:
    """Write a random model with its tokenizer, and return it; its weights make clear choices."""
    write_vocabulary(folder)
    tokenizer = GPT2Tokenizer.from_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        **{
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 48,
            "intermediate_size": 33,
            "bos_token_id": tokenizer.eos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            **ODD_SIZES["eights"],
            **sizes,
        }
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    model.set_attn_implementation("eager")
    model.save_pretrained(folder)
    return model
