"""Trained byte-level tokenizers: whatever text goes in comes back, and characters are never joined."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from trasluz.errors import DataError, RequestError
from trasluz.text.byte_tokenizer import ByteTokenizer
from trasluz.text.byte_tokenizer_training import END, train_byte_tokenizer

TEXTS = ["El niño encendió la lámpara.\nLa lámpara no alumbró.", "¿Quién la apagó? 👩‍👧 — nadie", "\tel río\r\n\n"] * 3
KINDS = ("bpe", "character")
TRAINED = {kind: train_byte_tokenizer(TEXTS, kind, 400) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(text=st.text())
def test_every_text_comes_back(kind: str, text: str) -> None:
    tokenizer = TRAINED[kind]
    for one in (text, *TEXTS, f"日本 {END} 🙂\r\n"):
        assert tokenizer.decode(tokenizer.encode(one)) == one


def test_pieces_are_characters_or_words() -> None:
    characters, words = TRAINED["character"], TRAINED["bpe"]
    for text in TEXTS:
        assert len(characters.encode(text)) == len(text)
        assert len(words.encode(text)) < len(text)
    # What was not met is written in its bytes.
    assert len(characters.encode("日")) == 3
    met = {letter for text in TEXTS for letter in text if len(letter.encode()) > 1}
    assert 256 + len(met) < characters.vocab_size < 256 + 4 * len(met)
    assert words.id_of("Ġlámpara".replace("á", "Ã¡")) is not None
    # A character for which there is no room.
    assert train_byte_tokenizer(TEXTS, "character", 257).encode("ñ") == [characters.id_of(one) for one in ("Ã", "±")]


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_is_the_last_and_the_library_cuts_alike(kind: str, tmp_path: Path) -> None:
    tokenizer = TRAINED[kind]
    assert tokenizer.end_id == tokenizer.vocab_size - 1 and tokenizer.end_id not in tokenizer.encode(END)
    tokenizer.save(tmp_path)
    again, theirs = ByteTokenizer.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint == train_byte_tokenizer(iter(TEXTS), kind, 400).fingerprint
    assert theirs.eos_token_id == again.end_id == tokenizer.end_id
    for text in TEXTS:
        assert theirs.encode(text) == again.encode(text) == tokenizer.encode_arrays([text])[0].tolist()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(RequestError, match=r"tokenizer kind 'charakter' is not known: did you mean character\?"):
        train_byte_tokenizer(TEXTS, "charakter")
    with pytest.raises(RequestError, match="vocab_size is 256, too small: a tokenizer of bytes needs at least 257"):
        train_byte_tokenizer(TEXTS, "bpe", 256)
    with pytest.raises(DataError, match="there is no text to train a tokenizer on: every document is empty"):
        train_byte_tokenizer(["", ""])
