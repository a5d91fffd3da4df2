"""An encoder with random weights and made-up words, written as every engine reads it, and texts for it.

Each word is one token, so that all engines read the same ids; lengths are log-normal, 40 tokens in the mean and at most
128, special tokens included, as those of short texts are. Weights are wider than those that training begins with:
vectors of different texts lie apart, and what rounding does to them can be seen.
"""

import json
import math
import random
from pathlib import Path

from marian_folder import made_up_word

# As the small encoders that are most used for vectors of sentences.
SMALL = {"model_dim": 384, "num_heads": 12, "feed_forward_dim": 1_536, "num_layers": 6}
TINY = {"model_dim": 32, "num_heads": 4, "feed_forward_dim": 64, "num_layers": 2}
VOCAB_SIZE, TINY_VOCAB_SIZE = 30_522, 500

LONGEST, MEAN_LENGTH = 128, 40
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_DEVIATION = 0.6
_GAIN = 3.0


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """Write a WordPiece vocabulary of made-up words."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [made_up_word(number) for number in range(vocab_size - len(_SPECIAL))]
    (folder / "vocab.txt").write_text("\n".join([*_SPECIAL, *words]) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_encoder_folder(folder: Path, shape: dict[str, int], vocab_size: int, seed: int) -> None:
    """Write the folder: tokenizer, config, weights, and that vectors are means."""
    import torch

    from trasluz.checkpoints.model_folder import save_model
    from trasluz.checkpoints.sentence_vectors import Pooling
    from trasluz.models.registry import build_model
    from trasluz.text.encoder_tokenizer import EncoderTokenizer

    write_tokenizer(folder, vocab_size)
    torch.manual_seed(seed)
    model = build_model({"preset": "bert-base", **shape}, vocab_size=vocab_size)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(_GAIN)
    tokenizer = EncoderTokenizer.load(folder)
    save_model(folder, model.eval(), tokenizer, tokenizer, pooling=Pooling())


def texts(count: int, vocab_size: int, seed: int) -> list[str]:
    """Return texts of made-up words."""
    draw = random.Random(seed)
    location = math.log(MEAN_LENGTH) - _DEVIATION**2 / 2
    found = []
    for _ in range(count):
        length = min(max(round(draw.lognormvariate(location, _DEVIATION)), 4), LONGEST)
        found.append(" ".join(made_up_word(draw.randrange(vocab_size - len(_SPECIAL))) for _ in range(length - 2)))
    return found
