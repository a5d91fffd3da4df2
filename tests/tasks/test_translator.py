"""A translator gives every text its translation, in order, with what each word looked at."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.checkpoints.hub_models import write_marian
from tests.checkpoints.sentences import pairs
from tests.models.zoo import SMALL_MODELS

import trasluz
from trasluz.checkpoints.model_folder import LoadedModel, save_model
from trasluz.decoding.settings import SearchSettings
from trasluz.errors import ModelError, RequestError
from trasluz.models.registry import build_model
from trasluz.tasks.translator import Translator
from trasluz.text.tokenizer import Tokenizer, train_tokenizer

UNSEEN = pairs(40, seed=99)


def test_both_ways(toy: Translator) -> None:
    english, spanish = (list(side) for side in zip(*UNSEEN, strict=True))
    found = toy(english, to="es")
    assert [translation.text for translation in found] == spanish
    assert [str(translation) for translation in toy(spanish, to="en")] == english
    assert {(translation.from_language, translation.to_language) for translation in found} == {("en", "es")}
    assert toy(english[0], from_="en").text == toy(english[0], to="es").text == spanish[0]


def test_one_text_one_answer(toy: Translator) -> None:
    result = toy("she kept the bread.", to="es")
    assert isinstance(result, trasluz.Translation)
    assert result.text == "ella guardó el pan."
    assert result.source == "she kept the bread."
    assert toy.tokenizer.tokens(result.source_ids)[0] == "<2es>"
    assert toy.tokenizer.tokens(result.source_ids)[-1] == toy.tokenizer.tokens(result.target_ids)[-1] == "</s>"
    assert result.to_dict() == {
        "source": "she kept the bread.",
        "text": "ella guardó el pan.",
        "from": "en",
        "to": "es",
        "log_probability": result.log_probability,
        "score": result.score,
        "alternatives": [],
    }


def test_log_probability_and_score_are_what_the_model_says(toy: Translator) -> None:
    result = toy("nobody in the village sees it!", to="es", length_penalty=0.8)
    batch = toy.batch([result.source], [result.text], to="es")
    assert tuple(batch.source[0].tolist()) == result.source_ids
    with torch.no_grad():
        log_probabilities = toy.model.output_head(toy.model(batch)).log_softmax(-1)[0]
    total = sum(float(log_probabilities[step, token]) for step, token in enumerate(result.target_ids))
    assert result.log_probability == pytest.approx(total, abs=1e-4)
    length = len(result.target_ids)
    assert result.score == pytest.approx(total / ((5 + length) / 6) ** 0.8, abs=1e-4)


def test_alternatives(toy: Translator) -> None:
    result = toy("everybody will paint the bread", to="es", nbest=6, beam=6)
    assert len(result.alternatives) == 5
    scores = [result.score, *(other.score for other in result.alternatives)]
    assert scores == sorted(scores, reverse=True)
    assert len({result.target_ids, *(other.target_ids for other in result.alternatives)}) == 6
    assert result.to_dict()["alternatives"][0] == {
        "text": result.alternatives[0].text,
        "log_probability": result.alternatives[0].log_probability,
        "score": result.alternatives[0].score,
    }
    assert result.alternatives[0].attention.target_tokens == toy.tokenizer.tokens(result.alternatives[0].target_ids)
    # A wide n-best widens the beam by itself.
    assert len(toy("she", to="es", nbest=9).alternatives) == 8


def test_nothing_gives_nothing(toy: Translator) -> None:
    for text in ("", "   ", "\t \u3000"):
        result = toy(text, to="es")
        assert (result.text, result.log_probability, result.score, result.alternatives) == ("", 0.0, 0.0, ())
        assert result.attention.source_tokens == ["<2es>", "</s>"]
    assert toy([], to="es") == []
    mixed = toy(["", "she sees it.", " "], to="es")
    assert [translation.text for translation in mixed] == ["", "ella ve lo.", ""]


def odd_texts() -> list[str]:
    return [
        "?!... -- ...",
        "🙂🙃👩‍👩‍👧 🇪🇸",
        "مرحبا بالعالم",
        "光透过纸。",
        "<2en> <pad> </s> <unk>",
        "the\x00bread\x07",
        "a" * 30,
        "e\u0301\u0301",
        "\ud800 alone",
    ]


def test_any_text_is_taken(toy: Translator) -> None:
    for result in toy(odd_texts(), to="es"):
        assert isinstance(result.text, str)
        assert "<2" not in result.text and "<pad>" not in result.text
        result.text.encode()


def test_neither_company_nor_budget_changes_tokens(toy: Translator) -> None:
    texts = [english for english, _ in UNSEEN] + odd_texts()
    together = toy(texts, to="es")
    shuffled = texts[:]
    random.Random(4).shuffle(shuffled)
    streamed = dict(zip(shuffled, toy.stream(iter(shuffled), to="es", batch_tokens=70), strict=True))
    for text, one in zip(texts, together, strict=True):
        for other in (toy(text, to="es"), streamed[text]):
            assert one.target_ids == other.target_ids
            assert one.score == pytest.approx(other.score, abs=1e-4)


def test_a_stream_reads_only_a_little_ahead(toy: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trasluz.tasks.translator.TOGETHER", 3)
    read = []

    def texts() -> Any:
        for number in range(10):
            read.append(number)
            yield UNSEEN[number][0]

    stream = toy.stream(texts(), to="es", beam=1)
    assert next(stream).text == UNSEEN[0][1]
    assert read == [0, 1, 2]
    assert [translation.text for translation in stream] == [spanish for _, spanish in UNSEEN[1:10]]


def test_search_options_are_followed(toy: Translator) -> None:
    text = "our neighbour's cat is looking for a letter without words."
    plain = toy(text, to="es")
    assert toy(text, to="es", max_length=4).target_ids[-1] == toy.config.eos_id
    assert len(toy(text, to="es", max_length=4).target_ids) == 4
    assert len(toy(text, to="es", min_length_ratio=2).target_ids) >= 2 * len(plain.source_ids)
    assert len(toy("she", to="es", min_length_ratio=0.1, max_length_ratio=0.5).target_ids) <= 12
    repeated = toy(text, to="es", min_length_ratio=3, no_repeat_ngram=1).target_ids[:-1]
    assert len(set(repeated)) == len(repeated)
    covered = toy(text, to="es", coverage_penalty=0.2)
    assert covered.score < plain.score
    assert toy(text, to="es", beam=1).target_ids == plain.target_ids
    assert toy(text, to="es", beam=None).target_ids == plain.target_ids  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beems": 4}, r"there is no option 'beems'\. Did you mean beam\?"),
        ({"temperature": 4}, r"there is no option 'temperature'\. There are beam, length_penalty"),
        ({"beam": "4"}, r"`beam` must be a whole number, but is '4'"),
        ({"nbest": 1.5}, r"`nbest` must be a whole number, but is 1\.5"),
        ({"length_penalty": True}, r"`length_penalty` must be a number, but is True"),
        ({"beam": 0}, r"`beam` must be a number from 1 up, but is 0"),
        ({"batch_tokens": 0}, r"`batch_tokens` must be at least 1, but is 0"),
        ({"nbest": 5, "beam": 3}, r"`nbest` must not exceed `beam` \(3\), but is 5"),
    ],
)
def test_options_that_cannot_be(toy: Translator, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        toy("she", to="es", **options)
    with pytest.raises(RequestError, match=message):
        toy.stream(["she"], to="es", **options)


def test_too_long_a_text(toy: Translator) -> None:
    long = "bread " * 100
    with pytest.raises(RequestError, match=r"^the text has 402 tokens, but toy takes at most 60: cut it into sentence"):
        toy(long, to="es")
    with pytest.raises(RequestError, match=r"^text 2 has 402 tokens"):
        toy(["she", long], to="es")
    with pytest.raises(RequestError, match=r"^text 602 has 402 tokens"):
        list(toy.stream([*["she"] * 601, long], to="es", beam=1))
    with pytest.raises(RequestError, match=r"^the text has 1,000,003 tokens"):
        toy("x" * 1_000_000, to="es")
    with pytest.raises(RequestError, match=r"^the target text has 401 tokens"):
        toy.attention_maps("she", long, to="es")


def test_attention_shows_which_word_was_looked_at(toy: Translator) -> None:
    attention = toy("she kept seven blue boats.", to="es").attention
    assert attention.weights.dtype == np.float32
    assert attention.weights.shape == (len(attention.target_tokens), len(attention.source_tokens))
    np.testing.assert_allclose(attention.weights.sum(1), 1.0, atol=1e-5)
    assert (attention.kind, attention.layer, attention.head, attention.model) == ("cross", 0, "mean", "toy")
    words = attention.words()
    assert words.source_tokens == ["<2es>", "she", "kept", "seven", "blue", "boats", ".", "</s>"]
    assert words.target_tokens == ["ella", "guardó", "siete", "barcos", "azules", ".", "</s>"]
    looked = {
        target: words.source_tokens[int(row.argmax())]
        for target, row in zip(words.target_tokens, words.weights, strict=True)
    }
    # Objects are fixed phrases in the toy: their first word says all, so later ones need not look.
    assert (looked["ella"], looked["guardó"], looked["</s>"]) == ("she", "kept", "</s>")
    assert looked["siete"] in ("seven", "blue", "boats")


def test_attention_is_the_mean_of_the_heads_and_computed_once(toy: Translator) -> None:
    result = toy("she kept the bread.", to="es")
    assert result.attention is result.attention
    heads = toy.attention_maps("she kept the bread.", to="es", kinds=["cross"])
    assert [one.head for one in heads] == [0, 1]
    np.testing.assert_allclose(
        result.attention.weights, np.mean([one.weights for one in heads], axis=0, dtype=np.float64), atol=1e-7
    )


def test_attention_maps(toy: Translator) -> None:
    source, target = "she kept it!", "ella guardó el pan!"
    maps = toy.attention_maps(source, target, to="es")
    assert [(one.kind, one.layer, one.head) for one in maps] == [
        (kind, 0, head) for kind in ("encoder", "decoder", "cross") for head in (0, 1)
    ]
    by_kind = {one.kind: one for one in maps if one.head == 1}
    source_tokens = ["<2es>", *toy.tokenizer.tokens(toy.tokenizer.encode(source)), "</s>"]
    target_tokens = toy.tokenizer.tokens(toy.tokenizer.encode(target))
    assert by_kind["encoder"].source_tokens == by_kind["encoder"].target_tokens == source_tokens
    assert by_kind["cross"].source_tokens == source_tokens
    assert by_kind["cross"].target_tokens == by_kind["decoder"].target_tokens == [*target_tokens, "</s>"]
    assert by_kind["decoder"].source_tokens == ["<s>", *target_tokens]
    assert np.triu(by_kind["decoder"].weights, k=1).max() == 0.0
    for one in maps:
        np.testing.assert_allclose(one.weights.sum(1), 1.0, atol=1e-5)
        assert one.words().merged
    some = toy.attention_maps(source, target, to="es", kinds=["cross"], layers=[0], heads=[1])
    assert [(one.kind, one.layer, one.head) for one in some] == [("cross", 0, 1)]
    np.testing.assert_array_equal(some[0].weights, by_kind["cross"].weights)
    with pytest.raises(RequestError, match="there is no layer 3"):
        toy.attention_maps(source, target, to="es", layers=[3])
    with pytest.raises(RequestError, match=r"there is no kind 'cros'; it is one of encoder, decoder, cross\. Did you"):
        toy.attention_maps(source, target, to="es", kinds=["cros"])


def test_a_batch_is_what_the_model_takes(toy: Translator) -> None:
    batch = toy.batch(["she", "she kept it!"], to="es")
    assert batch.source.shape[0] == 2
    assert batch.target_input.tolist() == [[toy.config.start_id]] * 2
    with trasluz.record_attention(toy.model, layers=[0], heads=[1]) as record:
        toy.model(batch)
    assert record.encoder[0].weights.shape == (2, 1, batch.source.shape[1], batch.source.shape[1])
    with pytest.raises(RequestError, match="there are 2 texts, but 1 target texts: give one for each"):
        toy.batch(["a", "b"], ["c"], to="es")


def test_saved_and_loaded_it_is_the_same(toy: Translator, tmp_path: Path) -> None:
    text = "a tired sailor has forgotten what the wind said."
    before = toy(text, to="es")
    toy.save(tmp_path / "copy")
    after = trasluz.load(tmp_path / "copy", device="cpu")(text, to="es")
    assert (after.target_ids, after.score) == (before.target_ids, before.score)
    toy.save(tmp_path / "half", dtype="fp16")
    assert (tmp_path / "half" / "model.safetensors").stat().st_size < 0.6 * (
        tmp_path / "copy" / "model.safetensors"
    ).stat().st_size
    assert trasluz.load(tmp_path / "half", device="cpu")(text, to="es").text == before.text


def test_bf16_is_close(toy_folder: Path) -> None:
    rough = trasluz.load(toy_folder, device="cpu", dtype="bf16")
    assert {parameter.dtype for parameter in rough.model.parameters()} == {torch.bfloat16}
    result = rough("she kept the bread.", to="es")
    assert result.text == "ella guardó el pan."
    assert result.attention.weights.dtype == np.float32


def test_int8_is_close_and_each_sentence_by_itself(toy_folder: Path) -> None:
    rounded = trasluz.load(toy_folder, device="cpu", dtype="int8")
    texts = ["she kept the bread.", "a tired sailor has forgotten what the wind said.", "she kept the bread."]
    together = rounded(texts, to="es")
    assert together[0].text == "ella guardó el pan."
    assert together[0].attention.weights.shape == together[2].attention.weights.shape
    for text, result in zip(texts, together, strict=True):
        assert rounded(text, to="es").target_ids == result.target_ids
    with pytest.raises(RequestError, match="was loaded as int8, which cannot be saved; load it as fp32"):
        rounded.save(toy_folder / "copy")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer([text for pair in pairs(60, seed=2) for text in pair], "bpe", 280)


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_every_kind_of_model(name: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = build_model(
        SMALL_MODELS[name], source_vocab_size=tokenizer.vocab_size, target_vocab_size=tokenizer.vocab_size
    )
    save_model(tmp_path, model, tokenizer, tokenizer, languages=("en", "es"))
    translator = trasluz.load(tmp_path, device="cpu")
    results = translator([text for text, _ in UNSEEN[:3]], max_length=20, nbest=2)
    assert all(len(result.target_ids) <= 20 and len(result.alternatives) == 1 for result in results)
    if name.startswith("rnn-encdec"):
        assert translator.attention_place is None
        with pytest.raises(RequestError, match="this model has no attention to look at"):
            _ = results[0].attention
        with pytest.raises(RequestError, match="this model has no attention to look at"):
            translator.attention_maps("she", "ella")
        with pytest.raises(RequestError, match=r"`coverage_penalty` is 0\.1, but this model has no attention"):
            translator("she", coverage_penalty=0.1)
    else:
        attention = results[0].attention
        np.testing.assert_allclose(attention.weights.sum(1), 1.0, atol=1e-5)
        assert attention.weights.shape == (len(results[0].target_ids), len(results[0].source_ids))
    if name == "transformer-pre":
        # Trained positions end; a target must not run past them.
        assert (translator.longest_source, translator.settings.max_length) == (40, 40)


def test_a_default_attention_that_the_model_lacks(toy: Translator) -> None:
    loaded = vars(toy)["_loaded"]
    for place in ((1, "mean"), (0, 2)):
        wrong = LoadedModel(**{**vars(loaded), "attention_default": place})
        message = (
            rf"config\.json of toy shows attention layer {place[0]}, head {place[1]}, but the model has 1 layers of 2"
        )
        with pytest.raises(ModelError, match=message):
            _ = Translator(wrong).attention_place


def test_a_marian_model(tmp_path: Path) -> None:
    write_marian(tmp_path / "m", encoder_layers=1, decoder_layers=3)
    translator = trasluz.load(tmp_path / "m", device="cpu")
    assert translator.attention_place == (1, "mean")
    result = translator("everybody kept it.", nbest=2)
    assert (result.from_language, result.to_language) == (None, None)
    assert result.attention.layer == 1
    assert result.attention.source_tokens[-1] == "</s>"
    assert len(result.attention.words().source_tokens) <= len(result.attention.source_tokens)
    decoder = translator.attention_maps("everybody", "todo el mundo", kinds=["decoder"], layers=[0], heads=[0])[0]
    assert decoder.source_tokens[0] == "<pad>"
    with pytest.raises(RequestError, match="`to` is 'es', but m does not say which language it translates to: leave"):
        translator("everybody", to="es")


def test_settings_are_the_models_own(toy: Translator) -> None:
    assert toy.settings == SearchSettings(max_length=60)
    assert repr(toy) == "Translator(toy: en to es, es to en)"


# ---- glossary and markup ------------------------------------------------------------------------------------------


def test_a_glossary_puts_its_words_into_the_translation(toy: Translator) -> None:
    text = "she kept the bread."
    result = toy(text, to="es", glossary={"the bread": "la carta"})
    assert "la carta" in result.text
    assert result.text != toy(text, to="es").text
    several = toy(["everybody", text, ""], to="es", glossary={"bread": "pan", "the bread": "la carta"})
    assert several[1].text == result.text
    assert several[0].text == toy("everybody", to="es").text
    assert several[2].text == ""
    assert [one.text for one in toy.stream([text], to="es", glossary={"the bread": "la carta"})] == [result.text]


def test_markup_comes_back_around_its_words(toy: Translator) -> None:
    text = "she kept <b>seven blue boats</b> &amp; sees <i>it</i>"
    result = toy(text, to="es", markup=True)
    assert result.source == text
    for part in ("<b>", "</b>", "<i>", "</i>", "siete"):
        assert result.text.count(part) == 1
    assert toy("<b>she kept the bread.</b>", to="es", markup=True).text == "<b>ella guardó el pan.</b>"
    assert toy("<b></b>", to="es", markup=True).text == "<b></b>"
    # Without the option, markup is text like any other.
    assert toy(text, to="es").source == text


def test_markup_needs_attention(toy_folder: Path) -> None:
    tokenizer = Tokenizer.load(toy_folder)
    sizes = {"source_vocab_size": tokenizer.vocab_size, "target_vocab_size": tokenizer.vocab_size}
    model = build_model(SMALL_MODELS["rnn-encdec"], **sizes)
    blind = Translator(LoadedModel(model, model.config, tokenizer, tokenizer, name="blind"))
    with pytest.raises(RequestError, match="blind cannot carry markup over: it has no attention"):
        blind("<b>x</b>", markup=True)


def test_lengths_are_those_that_the_model_reads(toy: Translator) -> None:
    texts = ["", "she kept the bread.", "she <b>kept</b> the bread."]
    plain, marked = toy.lengths(texts, to="es"), toy.lengths(texts, to="es", markup=True)
    assert plain == [len(one.source_ids) for one in toy(texts, to="es")]
    assert plain[0] == 2 and plain[2] > plain[1] == marked[2] == marked[1]
    assert toy.lengths(["word " * 100], to="es")[0] > toy.longest_source


def test_coverage_and_a_glossary_are_refused_before_the_first_text(toy: Translator) -> None:
    with pytest.raises(RequestError, match=r"`coverage_penalty` is 0\.2, and a glossary asks for phrases"):
        toy([], to="es", glossary={"bread": "luz"}, coverage_penalty=0.2)
