"""Training of byte-level tokenizers: byte-pair encoding (Radford et al. 2019, section 2.2), or single characters.

    bpe         the 256 bytes, then the most frequent pairs of pieces within a word, joined one after the other
    character   the 256 bytes, then the characters met, each joined from its own bytes and never with a neighbour

A character that was not met, or for which `vocab_size` leaves no room, is written in its bytes; so every text comes
back. The token between documents is the last.
"""

from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from trasluz.errors import DataError, RequestError, nearest
from trasluz.text.byte_tokenizer import ByteTokenizer
from trasluz.text.segmentation import readable
from trasluz.text.vocabulary import sample_texts

BYTE_KINDS = ("bpe", "character")
END = "<|endoftext|>"
_NUM_BYTES = 256
# What `transformers` makes of a folder: GPT-2's own class would cut characters as GPT-2 cuts words.
_CLASSES = {"bpe": "GPT2Tokenizer", "character": "PreTrainedTokenizerFast"}


def train_byte_tokenizer(
    texts: Iterable[str], kind: str = "bpe", vocab_size: int = 8000, *, seed: int = 1
) -> ByteTokenizer:
    """Train a tokenizer of at most `vocab_size` entries; fewer where the text gives no more.

    Raises RequestError for an impossible setting and DataError where there is no text.
    """
    if kind not in BYTE_KINDS:
        close = nearest(kind, BYTE_KINDS)
        hint = f"did you mean {close}?" if close else f"it is one of {', '.join(BYTE_KINDS)}."
        raise RequestError(f"tokenizer kind {kind!r} is not known: {hint}")
    if vocab_size < _NUM_BYTES + 1:
        raise RequestError(
            f"vocab_size is {vocab_size}, too small: a tokenizer of bytes needs at least {_NUM_BYTES + 1}."
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = _splitter(kind)
    backend.decoder = decoders.ByteLevel()
    num_texts = 0

    def counted() -> Iterator[str]:
        nonlocal num_texts
        for text in sample_texts(texts, seed):
            num_texts += bool(text)
            yield readable(text)

    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        # A pair that comes once is no habit; a character that comes once is one.
        min_frequency=2 if kind == "bpe" else 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(counted(), trainer)
    if not num_texts:
        raise DataError("there is no text to train a tokenizer on: every document is empty.")
    backend.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), END)
    return ByteTokenizer(backend, {"tokenizer_class": _CLASSES[kind], **names})


def _splitter(kind: str) -> pre_tokenizers.PreTokenizer:
    """Return what cuts a text into the stretches within which pieces are joined."""
    if kind == "bpe":
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    # A point would not fit line ends.
    every_character = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return pre_tokenizers.Sequence([every_character, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
