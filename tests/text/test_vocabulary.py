"""What a vocabulary is learnt from, and what becomes of it."""

import random
import sys

import pytest

from trasluz.errors import RequestError
from trasluz.text.tokenizer import train_tokenizer

KINDS = ("bpe", "unigram", "word", "character")


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_gives_the_same_vocabulary(kind, english, spanish):
    first, second = (train_tokenizer(iter([*english, *spanish]), kind, 320) for _ in range(2))
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_is_no_larger_than_asked(kind, english):
    assert train_tokenizer(english, kind, 250).vocab_size <= 250


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_larger_vocabulary_makes_shorter_texts(kind):
    syllables = ["lam", "ven", "ta", "mo", "ri", "sol", "per", "na"]
    texts = [f"{first}{second}{third}" for first in syllables for second in syllables for third in syllables]
    small, large = (train_tokenizer(texts, kind, size) for size in (225, 300))
    assert large.vocab_size > small.vocab_size
    assert sum(map(len, large.encode_batch(texts))) < sum(map(len, small.encode_batch(texts)))


def test_unigram_without_its_package_is_told(monkeypatch, english):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(
        RequestError, match=r"^a unigram tokenizer is learnt by the package sentencepiece, which is not"
    ):
        train_tokenizer(english, "unigram", 300)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("text", ["!", "...", "👍🏽", "日本", "שלום", "a", "▁", "\U000f2581"])
def test_a_text_of_one_kind_of_character_suffices(kind, text):
    tokenizer = train_tokenizer([text], kind, 300)
    for other in (text, "Hello, ñandú 日本 👍🏽"):
        assert tokenizer.decode(tokenizer.encode(other)) == other


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_smallest_vocabulary_has_bytes_and_ascii_only(kind):
    tokenizer = train_tokenizer(["日本語 año"] * 5, kind, 215)
    assert tokenizer.vocab_size <= 215
    assert tokenizer.decode(tokenizer.encode("日本語 año")) == "日本語 año"


def test_rare_characters_are_left_to_their_bytes(english):
    tokenizer = train_tokenizer([*english * 30, "日"], "bpe", 400)
    assert tokenizer.id_of("日") is None
    assert tokenizer.tokens(tokenizer.encode("日")) == ["▁", "<0xE6>", "<0x97>", "<0xA5>"]


def test_no_piece_joins_punctuation_to_a_word(english, spanish):
    tokenizer = train_tokenizer([*english, *spanish], "bpe", 600)
    pieces = [tokenizer.tokens([index])[0].removeprefix("▁") for index in range(4 + 115, tokenizer.vocab_size)]
    mixed = [p for p in pieces if any(c.isalnum() for c in p) and any(not c.isalnum() and c not in "'’" for c in p)]
    assert mixed == []
    # Digits stay single, so that every number can be copied.
    assert not any(piece.isdigit() and len(piece) > 1 for piece in pieces)


def test_a_corpus_larger_than_the_sample_is_thinned_evenly(monkeypatch):
    monkeypatch.setattr("trasluz.text.vocabulary.SAMPLED_CHARACTERS", 20_000)
    from trasluz.text.vocabulary import sample_texts

    texts = [f"{number:09d}" for number in range(50_000)]
    sample = sample_texts(iter(texts), seed=1)
    assert sample == sorted(sample)
    assert 5_000 <= sum(map(len, sample)) <= 20_000
    first_half = sum(text < f"{25_000:09d}" for text in sample)
    assert 0.4 < first_half / len(sample) < 0.6
    assert sample == sample_texts(iter(texts), seed=1) != sample_texts(iter(texts), seed=2)


def test_one_endless_text_is_kept(monkeypatch):
    monkeypatch.setattr("trasluz.text.vocabulary.SAMPLED_CHARACTERS", 100)
    tokenizer = train_tokenizer(["word " * 100], "bpe", 300)
    assert tokenizer.id_of("▁word") is not None


def test_long_runs_without_blanks_are_no_burden():
    random.seed(1)
    run = "".join(random.choice("abcdefgh") for _ in range(50_000))
    tokenizer = train_tokenizer([run, "=" * 50_000, "日本" * 20_000], "bpe", 400)
    for text in (run, "=" * 12_345, "日本" * 10_000):
        assert tokenizer.decode(tokenizer.encode(text)) == text
