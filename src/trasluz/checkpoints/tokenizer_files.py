"""The tokenizers in a model folder: one for both sides, one for each, Marian's, an encoder's, or one of bytes."""

from pathlib import Path
from typing import Any, Literal

from trasluz.errors import ModelError
from trasluz.models.config import TextConfig
from trasluz.text.byte_tokenizer import ByteTokenizer
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.text.marian_tokenizer import MarianTokenizer
from trasluz.text.tokenizer import Tokenizer

TARGET_PREFIX = "target_"

TokenizerKind = Literal["shared", "separate", "marian", "encoder", "bytes"]


def tokenizer_kind(source: Any, target: Any) -> TokenizerKind:
    """Return what config.json says of the tokenizers beside it."""
    if isinstance(source, MarianTokenizer):
        return "marian"
    if isinstance(source, EncoderTokenizer):
        return "encoder"
    if isinstance(source, ByteTokenizer):
        return "bytes"
    return "shared" if target is source else "separate"


def save_tokenizers(folder: Path, source: Any, target: Any) -> None:
    """Write the tokenizer files of both sides; two that are one are written once."""
    source.save(folder)
    if target is not source:
        target.save(folder, prefix=TARGET_PREFIX)


def load_tokenizers(folder: Path, kind: str | None, config: Any) -> tuple[Any, Any]:
    """Return the tokenizers of what is read and what is written; of a `kind` that is None the files and config tell.

    Raises ModelError where one is missing, broken, or larger than the model's vocabulary.
    """
    source, target = _read(folder, kind, config)
    for side, tokenizer, size in zip(("source", "target"), (source, target), config.vocab_sizes, strict=True):
        if tokenizer.vocab_size > size:
            which = "the tokenizer" if source is target else f"the {side} tokenizer"
            raise ModelError(
                f"{folder}: {which} has {tokenizer.vocab_size} tokens, but the model knows {size}: they are not of one "
                "model."
            )
    return source, target


def _read(folder: Path, kind: str | None, config: Any) -> tuple[Any, Any]:
    if kind == "bytes" or (kind is None and config.task == "generate"):
        of_bytes = ByteTokenizer.load(folder)
        return of_bytes, of_bytes
    if kind == "encoder" or (kind is None and isinstance(config, TextConfig)):
        encoder = EncoderTokenizer.load(folder)
        return encoder, encoder
    if kind == "marian" or (kind is None and (folder / "source.spm").is_file()):
        marian = MarianTokenizer.load(folder)
        return marian, marian.target
    source = Tokenizer.load(folder)
    if kind == "separate" or (kind is None and (folder / f"{TARGET_PREFIX}tokenizer.json").is_file()):
        return source, Tokenizer.load(folder, prefix=TARGET_PREFIX)
    return source, source
