"""Byte-level vocabularies: what goes in comes back, in every form a folder has, as `transformers` cuts it."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.checkpoints.hub_gpts import END, write_vocabulary
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer, GPT2Tokenizer

from trasluz.errors import ModelError
from trasluz.text.byte_tokenizer import ByteTokenizer

TEXTS = ["the old miller", " ve  una\tcarta\r\n\n", "日本 ñ 👩‍👧 e\u0301", "", "\x00\x7f", f"a {END} b", "3.14159"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bytes")
    write_vocabulary(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> ByteTokenizer:
    return ByteTokenizer.load(folder)


@settings(max_examples=60)
@given(st.text())
def test_every_text_comes_back(tokenizer: ByteTokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_texts_are_cut_as_the_library_cuts_them(folder: Path, tokenizer: ByteTokenizer, tmp_path: Path) -> None:
    theirs = GPT2Tokenizer.from_pretrained(folder)
    theirs.save_pretrained(tmp_path)
    whole = ByteTokenizer.load(tmp_path)
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert whole.encode(text) == ids and tokenizer.decode(ids) == text
        if END not in text:
            assert theirs.encode(text) == ids
    assert whole.vocab_size == tokenizer.vocab_size == len(theirs) == 330
    assert whole.end_id == tokenizer.end_id == theirs.eos_token_id == 329
    # What is spelt like the end is no end; the end itself stands for no text.
    assert tokenizer.end_id not in tokenizer.encode(END)
    assert tokenizer.decode([329, *tokenizer.encode("ñ"), 329, 5000]) == "ñ"
    assert theirs.decode([329, 70], skip_special_tokens=True) == tokenizer.decode([329, 70])


def test_half_a_character_shows_as_such(tokenizer: ByteTokenizer) -> None:
    ids = [tokenizer.id_of(piece) or 0 for piece in ("æ", "Ĺ", "¥")]
    assert tokenizer.decode(ids) == "日"
    assert tokenizer.decode(ids[:2]) == "\ufffd" and tokenizer.bytes_of(ids[0]) == b"\xe6"
    assert tokenizer.tokens([*ids, 329, 9999]) == ["<0xE6>", "<0x97>", "<0xA5>", END, "<9999>"]
    assert tokenizer.words([*ids, 329]) == [("日", [0, 1, 2]), (END, [3])]
    assert tokenizer.word_groups([*ids, 329]) == [[0, 1, 2], [3]]
    assert tokenizer.encode("a\ud800") == tokenizer.encode("a\ufffd")


def test_saved_files_are_those_that_were_read(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    ByteTokenizer.load(folder).save(first)
    assert (first / "vocab.json").read_bytes() == (folder / "vocab.json").read_bytes()
    again = ByteTokenizer.load(first)
    again.save(second)
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }
    assert again.fingerprint == ByteTokenizer.load(folder).fingerprint
    theirs = AutoTokenizer.from_pretrained(second)
    assert [theirs.encode(text) for text in TEXTS[:3]] == again.encode_batch(TEXTS[:3])
    assert again.decode_batch(again.encode_batch(TEXTS)) == TEXTS


def write(folder: Path, backend: Tokenizer) -> None:
    (folder / "tokenizer.json").write_text(backend.to_str())


def test_what_cannot_be_read_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing: the tokenizer of a model that continues texts"):
        ByteTokenizer.load(tmp_path)
    (tmp_path / "vocab.json").write_bytes((folder / "vocab.json").read_bytes())
    with pytest.raises(ModelError, match=r"merges\.txt is missing"):
        ByteTokenizer.load(tmp_path)
    (tmp_path / "merges.txt").write_text("a b c d\n")
    with pytest.raises(ModelError, match=r"vocab\.json with merges\.txt is not a tokenizer that can be read"):
        ByteTokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer\.json is not a tokenizer file that can be read"):
        ByteTokenizer.load(tmp_path)
    write(tmp_path, Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")))
    with pytest.raises(ModelError, match=r"is no byte-level BPE, but a WordPiece with another decoder or none"):
        ByteTokenizer.load(tmp_path)
    changing = ByteTokenizer.load(folder).backend
    changing.normalizer = normalizers.Lowercase()
    changing.decoder = decoders.ByteLevel()
    write(tmp_path, changing)
    with pytest.raises(ModelError, match=r"changes texts before it cuts them \(normalizer\)"):
        ByteTokenizer.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps([]))
    with pytest.raises(ModelError, match="holds no JSON object"):
        ByteTokenizer.load(tmp_path)
