import copy
import json
import pickle
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trasluz.errors import DataError, ModelError, RequestError, WriteError
from trasluz.text.tokenizer import Tokenizer, train_tokenizer

TAGS = ("<2en>", "<2es>")
KINDS = ("bpe", "unigram", "word", "character")
LOSSLESS = ("bpe", "unigram")

HARD = [
    "",
    " \t\n ",
    "The neighbour opens the lamp today.",
    "  two   blanks\tand\u00a0others\u2028end ",
    "▁ mark ▁▁in▁words▁",
    # The character that escapes marks, alone and before what its escapes end in.
    "\U000f2581 \U000f25810 \U000f25811 ▁0 ▁1 \U000f2581▁",
    "👩‍👩‍👧‍👦 🇪🇸🇩🇪 👍🏽 1️⃣ ❤️",
    "日本語のテキスト。한국어 中文",
    "مرحبا بالعالم، كيف؟ שלום עולם",
    "नमस्ते क्‍ष ไทย",
    "cafe\u0301 ñ Å ﬁ ½ ①",
    "<pad> <s> </s> <unk> <2es> <0xE2> <0x41>",
    "<2es>Hola</s>",
    "zero\0inside \x07bell\x85next",
    "...!!!???---===",
    "!",
    "don't 'quoted' rock’n’roll 'tis",
    "3.14 10:45 2026-11-23 +34 600",
    "\ufeffmark \u200bzero\u200dwidth",
    "half \ud800 a pair \udfff",
    "https://example.org/a_b?c=d&e=f#g",
    "supercalifragilistic" * 30,
    "\U0010ffff\ue000",
]


@pytest.fixture(scope="session")
def trained(english, spanish):
    sizes = {"bpe": 420, "unigram": 300, "word": 200, "character": 100}
    return {kind: train_tokenizer([*english, *spanish], kind, sizes[kind], special_tokens=TAGS) for kind in KINDS}


def stated(text):
    """The stated normalisation, written out: NFC, blanks and control characters folded, none at the ends."""
    text = re.sub("[\ud800-\udfff]", "\ufffd", text)
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", unicodedata.normalize("NFC", text)).strip(" ")


# Characters that only a newer Unicode than Python's knows are left out: two versions normalise them differently.
any_text = st.text(st.characters(exclude_categories=("Cn",)), max_size=60)
tricky_text = st.text(
    st.sampled_from(list("ab1 .▁<>2es/'’\u0301é日👍🏽\u200d🇪🇸\U000f258101\x00\t\u2028שم")), max_size=40
)
thorough = settings(max_examples=150)


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("text", HARD)
def test_every_text_comes_back_up_to_the_stated_normalisation(trained, kind, text):
    tokenizer = trained[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == stated(text)


@pytest.mark.parametrize("kind", LOSSLESS)
@thorough
@given(text=any_text | tricky_text)
def test_any_text_at_all_comes_back(trained, kind, text):
    tokenizer = trained[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.normalize(text) == stated(text)
    # Nothing is unknown, and nothing is special.
    assert min(ids, default=99) >= 4 + len(TAGS)


@pytest.mark.parametrize("kind", ["word", "character"])
@thorough
@given(data=st.data())
def test_texts_of_known_words_come_back(trained, kind, data, english, spanish):
    known = st.sampled_from(sorted({word for text in [*english, *spanish] for word in text.split()}))
    text = " ".join(data.draw(st.lists(known)))
    tokenizer = trained[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
@thorough
@given(text=tricky_text)
def test_ids_are_those_of_the_saved_file_in_the_library_itself(trained, kind, text):
    """Words cut once and remembered give what the whole text gives when cut at once."""
    tokenizer = trained[kind]
    assert tokenizer.encode(text) == tokenizer.backend.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_has_the_same_ids_alone_and_among_others(trained, kind):
    tokenizer = trained[kind]
    assert tokenizer.encode_batch(HARD) == [tokenizer.encode(text) for text in HARD]
    assert tokenizer.encode_batch([]) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text", ["<2es> hola", "</s>", "a<pad>b", "<unk>", "<s>x</s><2en>", "▁<2es>", "<2es>" * 5, "<\u200b2es>"]
)
def test_text_never_becomes_a_special_token(trained, kind, text):
    tokenizer = trained[kind]
    specials = {tokenizer.id_of(name) for name in tokenizer.special_tokens} - {tokenizer.unk_id}
    assert specials.isdisjoint(tokenizer.encode(text))


@pytest.mark.parametrize("kind", KINDS)
def test_special_ids_are_fixed_and_tags_follow(trained, kind):
    tokenizer = trained[kind]
    assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2, 3)
    assert [tokenizer.id_of(tag) for tag in TAGS] == [4, 5]
    assert tokenizer.id_of("<2fr>") is None
    assert tokenizer.special_tokens == ("<pad>", "<s>", "</s>", "<unk>", *TAGS)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_drops_special_tokens(trained, kind):
    tokenizer = trained[kind]
    ids = [1, 5, *tokenizer.encode("The neighbour"), 2, 0, 0]
    assert tokenizer.decode(ids) == "The neighbour"
    assert tokenizer.decode([]) == tokenizer.decode([0, 2]) == ""
    assert tokenizer.decode_batch([ids, []]) == ["The neighbour", ""]


def test_what_a_vocabulary_of_words_does_not_know_shows_as_unknown(trained):
    tokenizer = trained["word"]
    assert tokenizer.encode("The zebra")[1] == tokenizer.unk_id
    assert tokenizer.decode(tokenizer.encode("The zebra paints")) == "The <unk> paints"
    assert trained["character"].decode(trained["character"].encode("laß")) == "la<unk>"


def test_ids_beyond_the_vocabulary_show_as_unknown(trained):
    assert trained["bpe"].tokens([100_000]) == ["<unk>"]
    assert trained["bpe"].decode([100_000]) == "<unk>"


def test_bytes_that_are_no_text_show_as_replacement(trained):
    tokenizer = trained["bpe"]
    assert tokenizer.decode([tokenizer.id_of("<0xE2>")]) == "\ufffd"
    assert tokenizer.words([tokenizer.id_of("<0xE2>"), *tokenizer.encode("The")]) == [("\ufffd", [0]), ("The", [1])]


def test_pieces_are_readable(trained):
    tokenizer = trained["bpe"]
    assert tokenizer.tokens([5, *tokenizer.encode("The lamp, again!"), 2]) == [
        "<2es>",
        "▁The",
        "▁lamp",
        ",",
        "▁again",
        "!",
        "</s>",
    ]


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The lamp, (slowly) again!", ["The", "lamp", ",", "(", "slowly", ")", "again", "!"]),
        ("Don't stop...", ["Don't", "stop", "..."]),
        ("rock’n’roll 'tis", ["rock’n’roll", "'", "tis"]),
        ("at 10:45, 3.14 or 1,000. 5.", ["at", "10:45", ",", "3.14", "or", "1,000", ".", "5", "."]),
        ("¿Cómo? así", ["¿", "Cómo", "?", "así"]),
        ("👩‍👩‍👧 ok 🇪🇸🇩🇪 👍🏽", ["👩‍👩‍👧", "ok", "🇪🇸", "🇩🇪", "👍🏽"]),
        ("שלום مرحبا।", ["שלום", "مرحبا", "।"]),
        ("日本 x", ["日", "本", "x"]),
        ("a ▁ b▁c", ["a", "▁", "b", "▁", "c"]),
        ("", []),
    ],
)
def test_words_are_put_together_from_pieces(trained, kind, text, words):
    tokenizer = trained[kind]
    ids = tokenizer.encode(text)
    found = tokenizer.words(ids)
    assert [word for word, _ in found] == words
    assert [position for _, positions in found for position in positions] == list(range(len(ids)))
    assert tokenizer.word_groups(ids) == [positions for _, positions in found]


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_words_of_their_own(trained, kind):
    tokenizer = trained[kind]
    found = tokenizer.words([5, *tokenizer.encode("The lamp"), 2, 0])
    assert [word for word, _ in found] == ["<2es>", "The", "lamp", "</s>", "<pad>"]
    assert found[0] == ("<2es>", [0])


@thorough
@given(ids=st.lists(st.integers(0, 410), max_size=30))
def test_any_ids_at_all_make_words(trained, ids):
    tokenizer = trained["bpe"]
    assert sorted(position for group in tokenizer.word_groups(ids) for position in group) == list(range(len(ids)))
    assert len(tokenizer.tokens(ids)) == len(ids)
    tokenizer.decode(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_cuts_alike(trained, kind, tmp_path):
    tokenizer = trained[kind]
    tokenizer.save(tmp_path)
    tokenizer.save(tmp_path, prefix="target-")
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{prefix}{name}"
        for prefix in ("", "target-")
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    }
    for prefix in ("", "target-"):
        again = Tokenizer.load(tmp_path, prefix)
        assert again.encode_batch(HARD) == tokenizer.encode_batch(HARD)
        assert (again.kind, again.normalization, again.vocab_size) == (kind, "nfc", tokenizer.vocab_size)
        assert again.fingerprint == tokenizer.fingerprint
        assert again.special_tokens == tokenizer.special_tokens


def test_a_folder_that_cannot_be_written_is_named(trained, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match=r"^cannot write .*tokenizer\.json: "):
        trained["bpe"].save(tmp_path / "file" / "folder")


def test_fingerprints_tell_tokenizers_apart(trained):
    assert len({tokenizer.fingerprint for tokenizer in trained.values()}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_what_was_saved(trained, kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = trained[kind]
    tokenizer.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in HARD:
        if "\ud800" in text:
            continue
        ids = tokenizer.encode(text)
        # Theirs adds the end token, which every model of ours was trained with.
        assert theirs(text).input_ids == [*ids, tokenizer.eos_id]
        if kind in LOSSLESS:
            assert theirs.decode([*ids, tokenizer.eos_id], skip_special_tokens=True) == stated(text)
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id, theirs.unk_token_id) == (0, 1, 2, 3)
    assert theirs.convert_tokens_to_ids(list(TAGS)) == [4, 5]
    assert len(theirs) == tokenizer.vocab_size


def test_other_normalisations():
    texts = ["The ﬁrst LAMP"] * 3
    assert train_tokenizer(texts, "bpe", 300, normalization="nfkc").normalize(" ﬁrst\t½ ") == "first 1⁄2"
    lower = train_tokenizer(texts, "bpe", 300, normalization="lowercase")
    assert lower.decode(lower.encode("ÉTÉ  LAMP ▁")) == "été lamp ▁"
    assert lower.normalize("ÉTÉ  LAMP") == "été lamp"


def test_a_tokenizer_of_another_house_is_used_as_it_is(tmp_path):
    import tokenizers
    from tokenizers import models, pre_tokenizers

    backend = tokenizers.Tokenizer(
        models.WordLevel({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "lamp": 4}, "[UNK]")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    backend.enable_padding()
    (tmp_path / "tokenizer.json").write_text(backend.to_str())
    names = {"pad_token": "[PAD]", "bos_token": {"content": "[CLS]"}, "eos_token": "[SEP]", "unk_token": "[UNK]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(names))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode_batch(["lamp", "lamp zebra [SEP]"]) == [[4], [4, 3, 3, 3, 3]]
    assert (tokenizer.kind, tokenizer.normalization, tokenizer.eos_id) == ("wordlevel", None, 2)
    assert tokenizer.normalize(" a ") == " a "


def test_many_different_words_do_not_fill_the_memory(english, monkeypatch):
    monkeypatch.setattr("trasluz.text.tokenizer._KNOWN_WORDS", 50)
    tokenizer = train_tokenizer(english, "bpe", 300)
    for start in range(0, 300, 20):
        texts = [f"word{number} and {'x' * 100}{number}" for number in range(start, start + 20)]
        assert [tokenizer.decode(ids) for ids in tokenizer.encode_batch(texts)] == texts
    known = tokenizer._words | tokenizer._words.before
    assert len(known) < 200
    assert "and" in known
    assert max(map(len, known)) <= 32


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda tokenizer: pickle.loads(pickle.dumps(tokenizer))])
def test_a_copy_cuts_alike_and_keeps_text_from_special_tokens(trained, duplicate):
    for tokenizer in trained.values():
        again = duplicate(tokenizer)
        assert again.encode_batch(HARD) == tokenizer.encode_batch(HARD)
        assert again.fingerprint == tokenizer.fingerprint


def test_arrays_hold_the_same_ids(trained):
    for tokenizer in trained.values():
        arrays = tokenizer.encode_arrays(HARD)
        assert [ids.tolist() for ids in arrays] == tokenizer.encode_batch(HARD)
        assert {ids.dtype.itemsize for ids in arrays} == {2}


def test_files_that_are_no_tokenizer_are_told(trained, tmp_path):
    with pytest.raises(ModelError, match=r"tokenizer_config\.json is missing: a tokenizer needs tokenizer\.json and"):
        Tokenizer.load(tmp_path)
    trained["bpe"].save(tmp_path)
    config, content = tmp_path / "tokenizer_config.json", tmp_path / "tokenizer.json"
    whole_config, whole = config.read_text(), content.read_text()
    content.write_text(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"tokenizer\.json is not a tokenizer file that can be read: "):
        Tokenizer.load(tmp_path)
    content.write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"tokenizer\.json is not a tokenizer file that can be read: "):
        Tokenizer.load(tmp_path)
    content.unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing: a tokenizer needs tokenizer\.json and"):
        Tokenizer.load(tmp_path)
    content.write_text(whole)
    config.write_text(whole_config[:-5])
    with pytest.raises(ModelError, match=r"tokenizer_config\.json cannot be read: "):
        Tokenizer.load(tmp_path)
    config.write_text("[]")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json holds no JSON object; the tokenizer's settings were"):
        Tokenizer.load(tmp_path)
    config.write_text("{}")
    with pytest.raises(
        ModelError, match=r"tokenizer_config\.json: pad_token is None, which is no entry of the vocabulary"
    ):
        Tokenizer.load(tmp_path)
    config.write_text(whole_config.replace('"eos_token": "</s>"', '"eos_token": "</end>"'))
    with pytest.raises(
        ModelError, match=r"eos_token is '</end>', which is no entry of the vocabulary in tokenizer\.json\.$"
    ):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"kind": "bep"}, r"^tokenizer kind 'bep' is not known: did you mean bpe\?$"),
        (
            {"kind": "xyz"},
            r"^tokenizer kind 'xyz' is not known: it is one of bpe, unigram, word, character\.$",
        ),
        ({"normalization": "nfd"}, r"^normalization 'nfd' is not known: did you mean nfc\?$"),
        (
            {"vocab_size": 100},
            r"^vocab_size is 100, too small: a bpe tokenizer with 4 special tokens needs at least 214\.$",
        ),
        (
            {"kind": "word", "vocab_size": 0},
            r"^vocab_size is 0, too small: a word tokenizer with 4 special tokens needs",
        ),
        ({"special_tokens": ["es"]}, r"^'es' cannot be a special token: it must look like <2es>"),
        ({"special_tokens": ["<unk>"]}, r"^'<unk>' cannot be a special token"),
        ({"special_tokens": ["<0xE2>"]}, r"^'<0xE2>' cannot be a special token"),
        ({"special_tokens": ["<!>"]}, r"^'<!>' cannot be a special token"),
        ({"special_tokens": ["<2 es>"]}, r"^'<2 es>' cannot be a special token"),
    ],
)
def test_impossible_settings_are_told(arguments, sentence):
    with pytest.raises(RequestError, match=sentence):
        train_tokenizer(["a text"], **arguments)


@pytest.mark.parametrize("texts", [[], ["", "  \t\0"]])
@pytest.mark.parametrize("kind", KINDS)
def test_no_text_makes_no_tokenizer(kind, texts):
    with pytest.raises(DataError, match=r"^there is no text to train a tokenizer on: every line is empty\.$"):
        train_tokenizer(texts, kind)
