"""Random GPT-2 folders as the `transformers` library writes them, with byte-level tokenizers."""

import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
from tests.checkpoints.sentences import pairs
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

END = "<|endoftext|>"
ODD_SIZES: dict[str, dict[str, Any]] = {
    "eights": {"n_embd": 24, "n_head": 3, "n_layer": 2},
    "odd": {"n_embd": 21, "n_head": 3, "n_layer": 3, "n_inner": 17, "activation_function": "relu"},
    "one-layer": {"n_embd": 10, "n_head": 1, "n_layer": 1, "n_inner": 33, "activation_function": "gelu"},
}


def write_vocabulary(folder: Path, vocab_size: int = 330) -> None:
    """Write vocab.json and merges.txt, learnt from sentences of our own."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([text for pair in pairs(200, seed=7) for text in pair], trainer)
    vocabulary = backend.get_vocab()
    backend.add_special_tokens([END])
    folder.mkdir(parents=True, exist_ok=True)
    backend.model.save(str(folder))
    # The last id, as in GPT-2's own.
    (folder / "vocab.json").write_text(json.dumps({**vocabulary, END: len(vocabulary)}, ensure_ascii=False))


def write_gpt(folder: Path, *, seed: int = 0, **sizes: Any) -> GPT2LMHeadModel:
    """Write a random model with its tokenizer, and return it; its weights make clear choices."""
    write_vocabulary(folder)
    tokenizer = GPT2Tokenizer.from_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    tokenizer.save_pretrained(folder)
    config = GPT2Config(
        **{
            "vocab_size": len(tokenizer),
            "n_positions": 48,
            "bos_token_id": tokenizer.eos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            **ODD_SIZES["eights"],
            **sizes,
        }
    )
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
        # Where a token stands matters, so that texts do not go round in circles.
        model.transformer.wpe.weight.mul_(3.0)
    model.set_attn_implementation("eager")
    model.save_pretrained(folder)
    return model
