"""Sentences of our own to learn vocabularies from, and Marian folders made of them."""

import json

import pytest

NOUNS = [("lamp", "lámpara"), ("window", "ventana"), ("table", "mesa"), ("road", "carretera"), ("letter", "carta")]
VERBS = [("opens", "abre"), ("paints", "pinta"), ("finds", "encuentra"), ("cleans", "limpia"), ("draws", "dibuja")]
ENDS = [
    ("today.", "hoy."),
    ("twice, again!", "dos veces, ¡otra vez!"),
    ("(slowly)", "(despacio)"),
    ("at 10:45...", "a las 10:45..."),
]


@pytest.fixture(scope="session")
def english():
    return [f"The neighbour {v} the {n} {e}" for n, _ in NOUNS for v, _ in VERBS for e, _ in ENDS] + [
        "Don't stop, it's 3.5 €."
    ] * 3


@pytest.fixture(scope="session")
def spanish():
    return [f"La vecina {v} la {n} {e}" for _, n in NOUNS for _, v in VERBS for _, e in ENDS] + [
        "¿Cómo estás? Así, así."
    ] * 3


@pytest.fixture(scope="session")
def marian_folder(tmp_path_factory, english, spanish):
    """Return a function that makes a Marian folder: one vocabulary for both sides, or one each."""
    sentencepiece = pytest.importorskip("sentencepiece")

    def make(separate=False):
        folder = tmp_path_factory.mktemp("marian")
        pieces = {}
        for side, texts in (("source", english), ("target", spanish)):
            with (folder / f"{side}.spm").open("wb") as file:
                sentencepiece.SentencePieceTrainer.train(
                    sentence_iterator=iter(texts),
                    model_writer=file,
                    vocab_size=90,
                    hard_vocab_limit=False,
                    num_threads=1,
                    minloglevel=2,
                )
            model = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm"))
            # The last pieces are left out of the vocabulary: real folders have such gaps too.
            pieces[side] = [model.id_to_piece(index) for index in range(3, model.vocab_size() - 4)]

        def numbered(*sides):
            learnt = list(dict.fromkeys(piece for side in sides for piece in pieces[side]))
            # The padding id is one for both sides: the last one of a common vocabulary, as in Marian's models.
            names = ["</s>", "<unk>", ">>es<<", *(["<pad>", *learnt] if separate else [*learnt, "<pad>"])]
            return {name: index for index, name in enumerate(names)}

        first = numbered("source") if separate else numbered("source", "target")
        (folder / "vocab.json").write_text(json.dumps(first))
        config = {
            "tokenizer_class": "MarianTokenizer",
            "source_lang": "eng",
            "target_lang": "spa",
            "separate_vocabs": separate,
        }
        if separate:
            (folder / "target_vocab.json").write_text(json.dumps(numbered("target")))
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        return folder

    return make
