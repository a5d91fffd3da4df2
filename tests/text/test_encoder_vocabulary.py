import os
import subprocess
import sys

import pytest

from trasluz.errors import DataError, RequestError
from trasluz.text.encoder_tokenizer import train_encoder_tokenizer


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_trained_vocabularies(kind, english, spanish):
    texts = [*english, *spanish]
    tokenizer = train_encoder_tokenizer(texts, kind, 400)
    assert tokenizer.special_tokens == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
    assert (ids, tokenizer.kind) == ((0, 1, 2, 3, 4), kind)
    assert tokenizer.vocab_size <= 400
    # Every known character is spelt, accents stay, and what was written apart is one letter.
    assert all(tokenizer.unk_id not in ids for ids in tokenizer.encode_arrays(texts))
    assert tokenizer.encode("LÁMPARA").ids.tolist() == tokenizer.encode("la\u0301mpara").ids.tolist()
    assert tokenizer.encode("lámpara").ids.tolist() != tokenizer.encode("lampara").ids.tolist()
    assert len(tokenizer.encode("the")) == 1
    cased = train_encoder_tokenizer(texts, kind, 400, lowercase=False)
    assert cased.decode(cased.encode("La vecina").ids) == "La vecina"


def test_frequent_words_and_rare_characters():
    texts = ["lamp 日"] + ["lamp"] * 2500
    tokenizer = train_encoder_tokenizer(texts, vocab_size=120)
    assert tokenizer.tokens(tokenizer.encode("lamp 日").ids.tolist()) == ["lamp", "[UNK]"]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_training_gives_the_same_in_every_process(kind):
    program = (
        "from random import Random; from trasluz.text.encoder_tokenizer import train_encoder_tokenizer as train;"
        "draw = Random(3);"
        # Random words are full of ties.
        "texts = [' '.join(''.join(draw.choices('abcdeñé', k=5)) for _ in range(8)) for _ in range(300)];"
        f"print(train(texts, {kind!r}, 900).fingerprint)"
    )
    found = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        found.add(subprocess.run([sys.executable, "-c", program], env=environment, check=True, stdout=-1).stdout)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"kind": "wordpece"}, r"^tokenizer kind 'wordpece' is not known: did you mean wordpiece\?$"),
        ({"kind": "xyz"}, r"^tokenizer kind 'xyz' is not known: it is one of wordpiece, bpe\.$"),
        ({"vocab_size": 100}, r"^vocab_size is 100, too small: a wordpiece tokenizer needs at least 109\.$"),
        ({"vocab_size": 100, "kind": "bpe"}, r"^vocab_size is 100, too small: a bpe tokenizer needs at least 261\.$"),
    ],
)
def test_impossible_settings_are_told(arguments, sentence):
    with pytest.raises(RequestError, match=sentence):
        train_encoder_tokenizer(["a text"], **arguments)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_no_text_makes_no_tokenizer(kind):
    with pytest.raises(DataError, match=r"^there is no text to train a tokenizer on: every line is empty\.$"):
        train_encoder_tokenizer(["", "  \t"], kind)
