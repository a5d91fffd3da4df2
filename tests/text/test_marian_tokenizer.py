import json
import sys

import pytest

from trasluz.errors import ModelError
from trasluz.text.marian_tokenizer import MarianTokenizer

HARD = [
    "",
    "   ",
    "The neighbour opens the lamp today.",
    "  two   blanks\tand\nlines ",
    "Don't stop: it's 3.5 €, isn't it?",
    "...!!!",
    "¿Cómo estás? Así, así. ñandú",
    "日本語。 שלום مرحبا नमस्ते",
    "👩‍👩‍👧 🇪🇸",
    "▁ mark ▁▁",
    "zero\0inside",
    "ﬁne ½ ①",
]


@pytest.fixture(scope="module", params=[False, True], ids=["one vocabulary", "two vocabularies"])
def folder(request, marian_folder):
    return marian_folder(separate=request.param)


@pytest.fixture(scope="module")
def reference(folder):
    transformers = pytest.importorskip("transformers")
    # The file names are given one by one: the folder holds no model.
    separate = (folder / "target_vocab.json").exists()
    return transformers.MarianTokenizer(
        str(folder / "source.spm"),
        str(folder / "target.spm"),
        str(folder / "vocab.json"),
        target_vocab_file=str(folder / "target_vocab.json") if separate else None,
        separate_vocabs=separate,
    )


@pytest.mark.parametrize("text", HARD)
def test_ids_are_those_of_transformers(folder, reference, text):
    ours = MarianTokenizer.load(folder)
    assert [*ours.encode(text), ours.eos_id] == reference(text).input_ids
    assert [*ours.encode_target(text), ours.target.eos_id] == reference(text_target=text).input_ids


def test_texts_are_those_of_transformers(folder, reference, spanish):
    ours = MarianTokenizer.load(folder)
    for text in [*HARD, *spanish]:
        ids = [ours.pad_id, *ours.target.encode(text), ours.target.eos_id]
        assert ours.target.decode(ids) == reference.decode(ids, skip_special_tokens=True)
    assert ours.target.decode_batch([[], ours.target.encode("La vecina")]) == ["", "La vecina"]


def test_ids_of_the_special_tokens(folder, reference):
    ours = MarianTokenizer.load(folder)
    assert (ours.pad_id, ours.eos_id, ours.unk_id) == (
        reference.pad_token_id,
        reference.eos_token_id,
        reference.unk_token_id,
    )
    assert ours.bos_id == ours.pad_id
    assert ours.vocab_size == reference.vocab_size
    assert ours.language_codes == (">>es<<",)
    assert ours.id_of(">>es<<") == reference.convert_tokens_to_ids(">>es<<")
    assert ours.id_of("nowhere") is None


def test_text_never_becomes_a_special_token(folder):
    ours = MarianTokenizer.load(folder)
    specials = {ours.id_of(name) for name in ours.special_tokens} - {ours.unk_id}
    for text in ("</s>", ">>es<< hello", "<pad>", "<unk>", "a</s>b <s>"):
        assert specials.isdisjoint(ours.encode(text))
        assert specials.isdisjoint(ours.encode_target(text))


def test_pieces_and_words_for_people(folder):
    ours = MarianTokenizer.load(folder)
    ids = [*ours.encode("The lamp, today."), ours.eos_id]
    assert "".join(ours.tokens(ids)) == "▁The▁lamp,▁today.</s>"
    assert [text for text, _ in ours.words(ids)][-1] == "</s>"
    assert "lamp" in [text.strip(",") for text, _ in ours.words(ids)]
    assert sorted(position for group in ours.word_groups(ids) for position in group) == list(range(len(ids)))


def test_half_a_surrogate_pair_is_an_unknown_character(folder):
    ours = MarianTokenizer.load(folder)
    assert ours.encode("a\ud800b") == ours.encode("a\ufffdb")


def test_normalisation_is_that_of_the_model(folder):
    assert MarianTokenizer.load(folder).normalize("  ﬁne \t day ") == "fine day"


def test_saved_files_are_the_same_files(folder, tmp_path):
    ours = MarianTokenizer.load(folder)
    ours.save(tmp_path)
    ours.target.save(tmp_path, prefix="target-")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    again = MarianTokenizer.load(tmp_path)
    assert again.fingerprint == ours.fingerprint
    assert again.encode("The lamp") == ours.encode("The lamp")


def test_other_names_of_special_tokens_are_read_from_the_settings(marian_folder):
    folder = marian_folder()
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary["<none>"] = vocabulary.pop("<unk>")
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer_config.json").write_text(json.dumps({"unk_token": {"content": "<none>"}}))
    assert MarianTokenizer.load(folder).unk_id == vocabulary["<none>"]


def test_broken_folders_are_told(marian_folder):
    folder = marian_folder()
    spm, vocabulary = (folder / "target.spm").read_bytes(), (folder / "vocab.json").read_bytes()
    cases = [
        (
            "target.spm",
            None,
            r"target\.spm is missing: a Marian tokenizer has source\.spm, target\.spm, vocab\.json\.$",
        ),
        ("target.spm", spm[: len(spm) // 2], r"target\.spm is no SentencePiece model that can be read: "),
        ("target.spm", b"", r"target\.spm is no SentencePiece model that can be read: "),
        ("vocab.json", vocabulary[:-5], r"vocab\.json cannot be read: "),
        ("vocab.json", b"[]", r"vocab\.json holds no JSON object\.$"),
        ("vocab.json", b'{"</s>": "0"}', r"vocab\.json is no vocabulary: an id for each piece was expected"),
        (
            "vocab.json",
            b'{"</s>": 0, "<pad>": 1}',
            r"vocab\.json has no entry '<unk>', the unk token of this tokenizer\.$",
        ),
    ]
    for name, content, sentence in cases:
        before = (folder / name).read_bytes()
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
        with pytest.raises(ModelError, match=sentence):
            MarianTokenizer.load(folder)
        (folder / name).write_bytes(before)
    (folder / "vocab.json").unlink()
    (folder / "vocab.json").mkdir()
    with pytest.raises(ModelError, match=r"vocab\.json cannot be read: Is a directory\.$"):
        MarianTokenizer.load(folder)


def test_without_the_package_a_sentence_says_so(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ModelError, match=r"source\.spm needs the package sentencepiece to be read: pip install"):
        MarianTokenizer.load(folder)
