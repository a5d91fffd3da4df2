"""A Marian model with random weights of large spread, written by trasluz as every engine reads it.

Random weights of the usual small spread make all words nearly alike, so that the last bit decides what is said. Here
the embeddings are wide and the logits of a step lie far apart: in fp32 every engine says the same, and that all do the
same work can be seen. The layout is that of Marian's own models: end first, padding last, and the decoder begins with
the padding, whose vector is zero. The two SentencePiece models hold made-up words, one token each.
"""

import io
import json
from pathlib import Path

# Base of Vaswani et al. 2017, as most of Marian's published models are.
BASE = {"dim": 512, "heads": 8, "feed_forward": 2_048, "layers": 6, "vocab_size": 32_000}
TINY = {"dim": 64, "heads": 4, "feed_forward": 128, "layers": 2, "vocab_size": 1_000}

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Without these a random decoder says one word over and over: it hears its own last word, what all words have in common
# behind a ReLU, or the mean of the source, louder than anything else.
_FEED_FORWARD_GAIN, _ATTENTION_GAIN = 1.5, 0.5


def write_marian_folder(folder: Path, shape: dict[str, int], seed: int) -> None:
    """Write the folder: tokenizers, vocabulary, config and weights."""
    import torch

    from trasluz.checkpoints.model_folder import save_model
    from trasluz.models.registry import build_model
    from trasluz.text.marian_tokenizer import MarianTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    size = shape["vocab_size"]
    words = [made_up_word(number) for number in range(size - 3)]
    content = _sentencepiece(words)
    for side in ("source", "target"):
        (folder / f"{side}.spm").write_bytes(content)
    entries = ["</s>", "<unk>", *(f"▁{word}" for word in words), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({entry: index for index, entry in enumerate(entries)}))
    torch.manual_seed(seed)
    model = build_model(
        {
            "preset": "transformer-base",
            "model_dim": shape["dim"],
            "num_heads": shape["heads"],
            "feed_forward_dim": shape["feed_forward"],
            "num_layers": shape["layers"],
            "scale_embeddings": False,
        },
        source_vocab_size=size,
        target_vocab_size=size,
        pad_id=size - 1,
        start_id=size - 1,
        eos_id=0,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("expand.weight", "contract.weight")):
                parameter.mul_(_FEED_FORWARD_GAIN)
            if name.endswith("contract.weight"):
                parameter.sub_(parameter.mean(1, keepdim=True))
            if name.endswith(("value.weight", "output.weight")):
                parameter.mul_(_ATTENTION_GAIN)
        embedding = model.get_parameter("source_embedding.weight")
        embedding.normal_()
        embedding[size - 1] = 0.0
    tokenizer = MarianTokenizer.load(folder)
    save_model(folder, model.eval(), tokenizer, tokenizer.target, languages=("xx", "yy"))


def sources(count: int, length: int, vocab_size: int, seed: int) -> list[list[int]]:
    """Return sentences of so many tokens, the end token among them."""
    import random

    draw = random.Random(seed)
    return [[draw.randrange(2, vocab_size - 1) for _ in range(length - 1)] + [0] for _ in range(count)]


def made_up_word(number: int) -> str:
    """Return a word of four letters that is no other number's."""
    letters = []
    for _ in range(4):
        number, letter = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[letter])
    return "".join(letters)


def _sentencepiece(words: list[str]) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words),
        model_writer=model,
        vocab_size=len(words) + 3,
        model_type="word",
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    return model.getvalue()
