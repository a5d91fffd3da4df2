"""A GPT with random weights of large spread, written by trasluz as every engine reads it.

With weights of the usual small spread a random model says one word over and over, as the output matrix is that of the
embeddings. Here the layers speak louder than the embedding of the last word, and what is said next depends on the whole
text. The vector of the token that ends a text is zero, so that it is never the likeliest.
"""

import itertools
import json
from pathlib import Path

# GPT-2's smallest shape (Radford et al. 2019, table 2).
SMALL = {"num_layers": 12, "model_dim": 768, "num_heads": 12, "feed_forward_dim": 3_072, "vocab_size": 50_257}
TINY = {"num_layers": 2, "model_dim": 64, "num_heads": 4, "feed_forward_dim": 128, "vocab_size": 1_000}

_GAIN = 4.0
_NUM_BYTES = 256
_END = "<|endoftext|>"


def num_weights(shape: dict[str, int]) -> int:
    """Return how many weights every token meets: all matrices but the table of positions."""
    dim = shape["model_dim"]
    return shape["num_layers"] * (4 * dim * dim + 2 * dim * shape["feed_forward_dim"]) + dim * shape["vocab_size"]


def write_gpt_folder(folder: Path, shape: dict[str, int], seed: int) -> None:
    """Write the folder: tokenizer, config and weights."""
    import torch

    from trasluz.checkpoints.model_folder import save_model
    from trasluz.models.registry import build_model
    from trasluz.text.byte_tokenizer import ByteTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    _write_vocabulary(folder, shape["vocab_size"])
    torch.manual_seed(seed)
    model = build_model({"preset": "gpt2", **shape}, vocab_size=shape["vocab_size"], eos_id=shape["vocab_size"] - 1)
    with torch.no_grad():
        for block in model.get_submodule("decoder").children():
            for parameter in block.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(_GAIN)
        model.get_parameter("word_embedding.weight")[-1] = 0.0
    tokenizer = ByteTokenizer.load(folder)
    save_model(folder, model.eval(), tokenizer, tokenizer)


def _write_vocabulary(folder: Path, size: int) -> None:
    """Write a vocabulary of single bytes and of as many pairs of them as there is room for."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    pairs = list(itertools.islice(itertools.product(letters, letters), size - _NUM_BYTES - 1))
    pieces = [*letters, *(first + second for first, second in pairs), _END]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{first} {second}\n" for first, second in pairs))
    settings = {"tokenizer_class": "GPT2Tokenizer", **dict.fromkeys(("bos_token", "eos_token", "unk_token"), _END)}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
