"""CTranslate2 translates as we do: random models of odd sizes id by id, the bundled one text by text."""

import dataclasses
import errno
import json
import sys
from pathlib import Path
from typing import Any

import ctranslate2
import pytest
import torch
from tests.checkpoints.exports import TO_ENGLISH, TO_SPANISH, program_of, random_model, random_sources
from tests.checkpoints.hub_models import write_marian
from tests.models.zoo import SMALL_MODELS

import trasluz
from trasluz.checkpoints import export_folder
from trasluz.checkpoints.ctranslate2 import write_ctranslate2
from trasluz.checkpoints.model_folder import LoadedModel, load_model
from trasluz.decoding.search import search
from trasluz.decoding.settings import DecodingTokens, Hypothesis, SearchSettings
from trasluz.errors import ModelError, RequestError, WriteError
from trasluz.tasks.loading import bundled_models, read_model
from trasluz.tasks.translator import Translator
from trasluz.text.batching import pad_sequences

LONGEST = 30

_SMALL = {"preset": "transformer-tiny", "model_dim": 24, "num_heads": 2, "feed_forward_dim": 40, "num_layers": 2}
SHAPES: dict[str, dict[str, Any]] = {
    "post": {"preset": _SMALL},
    "post-bias": {"preset": {**_SMALL, "output_bias": True, "activation": "gelu", "num_encoder_layers": 1}},
    "odd-width": {"preset": {**_SMALL, "model_dim": 21, "num_heads": 3, "feed_forward_dim": 17, "output_bias": True}},
    "pre": {
        "preset": {
            **_SMALL,
            "norm": "pre",
            "positions": "trainable",
            "max_positions": 50,
            "tied_embeddings": "target",
            "scale_embeddings": False,
            "activation": "swish",
            "output_bias": True,
            "num_decoder_layers": 3,
        },
        "separate": True,
    },
    "untied": {
        "preset": {**_SMALL, "num_decoder_layers": 1, "tied_embeddings": "none", "output_bias": True},
        "separate": True,
    },
    "spare-rows": {"preset": {**_SMALL, "norm": "pre", "output_bias": True}, "spare_rows": 5},
}


TEXTS = {"es": TO_SPANISH, "en": TO_ENGLISH}


@pytest.fixture(params=list(SHAPES))
def small(request: pytest.FixtureRequest) -> LoadedModel:
    return random_model(**SHAPES[request.param], read_gain=4.0)


@pytest.fixture(scope="module")
def pocket() -> LoadedModel:
    if "pocket-en-es" not in bundled_models():
        pytest.skip("the bundled model is not in this tree")
    return read_model("pocket-en-es")


@pytest.fixture(scope="module")
def pocket_folder(pocket: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "pocket"
    write_ctranslate2(folder, pocket)
    return folder


def engine(folder: Path) -> Any:
    return ctranslate2.Translator(str(folder), compute_type="float32", inter_threads=1, intra_threads=1)


def theirs(folder: Path, sources: list[list[int]], **options: Any) -> list[tuple[list[int], float]]:
    """Return the ids, without the end, and the score of the engine's best translation of each source."""
    vocabulary = [
        json.loads(path.read_text(encoding="utf-8"))
        for side in ("source", "target")
        for path in (*folder.glob(f"{side}_vocabulary.json"), *folder.glob("shared_vocabulary.json"))
    ]
    source, target = vocabulary[0], vocabulary[-1]
    results = engine(folder).translate_batch(
        [[source[index] for index in ids] for ids in sources],
        max_decoding_length=LONGEST,
        min_decoding_length=0,
        # Random models repeat themselves; those that may not have more to decide.
        no_repeat_ngram_size=2,
        return_scores=True,
        **options,
    )
    return [([target.index(token) for token in one.hypotheses[0]], one.scores[0]) for one in results]


def ours(loaded: LoadedModel, sources: list[list[int]], **settings: Any) -> list[Hypothesis]:
    config, model = loaded.config, loaded.model
    # One place more than the engine has, for the end that is forced here and left out there.
    limits = {"max_length": LONGEST + 1, "max_length_ratio": 99.0, "no_repeat_ngram": 2}
    told = SearchSettings(**limits, renormalize=True, normalization="power", **settings)
    source, lengths = pad_sequences(sources, pad_id=config.pad_id, last_id=config.eos_id)
    tokens = DecodingTokens(config.start_id, config.eos_id)
    return [found[0] for found in search(model, source, lengths, told, tokens)]  # type: ignore[type-var]


def test_greedy_writes_the_same(small: LoadedModel, tmp_path: Path) -> None:
    write_ctranslate2(tmp_path / "out", small)
    sources = random_sources(small, 40)
    found = theirs(tmp_path / "out", sources, beam_size=1)
    wanted = ours(small, sources, beam=1, length_penalty=1.0)
    assert [ids for ids, _ in found] == [list(one.ids[:-1]) for one in wanted]
    assert len({one.ids for one in wanted}) > 20
    for (ids, score), one in zip(found, wanted, strict=True):
        # The engine counts no end where the longest length cut it off.
        if len(ids) < LONGEST:
            assert score == pytest.approx(one.score, abs=1e-4)


def test_beam_4_finds_the_same(small: LoadedModel, tmp_path: Path) -> None:
    for found, wanted in by_beams(small, tmp_path / "out", length_penalty=0.0, patience=2):
        assert found == (list(wanted.ids[:-1]), pytest.approx(wanted.score, abs=1e-4))


@pytest.mark.parametrize("length_penalty", [0.6, 1.0])
def test_a_length_penalty_is_a_power_of_the_length(tmp_path: Path, length_penalty: float) -> None:
    small = random_model(**SHAPES["pre"], read_gain=4.0)
    pairs = by_beams(small, tmp_path / "out", length_penalty=length_penalty, patience=3)
    same = [(score, one.score) for (ids, score), one in pairs if ids == list(one.ids[:-1])]
    # The two searches stop by other rules, so that now and then one of them sees a better translation.
    assert len(same) > 0.8 * len(pairs)
    for theirs, ours in same:
        assert theirs == pytest.approx(ours, abs=1e-4)


def by_beams(
    small: LoadedModel, folder: Path, *, length_penalty: float, patience: float
) -> list[tuple[tuple[list[int], float], Hypothesis]]:
    """Return what the engine and we find of each source with a beam of 4, where no end had to be forced."""
    if small.model.output_head.bias is None:
        pytest.skip("without a bias for the end, a random model writes until it is cut off")
    write_ctranslate2(folder, small)
    sources = random_sources(small, 40)
    # With its usual patience of 1 the engine ends a search at its fourth translation; ours, where none can be better.
    found = theirs(folder, sources, beam_size=4, length_penalty=length_penalty, patience=patience)
    wanted = ours(small, sources, beam=4, length_penalty=length_penalty)
    pairs = [(one, other) for one, other in zip(found, wanted, strict=True) if len(other.ids) <= LONGEST > len(one[0])]
    assert len(pairs) > 20
    return pairs


def test_a_marian_folder_of_another_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_marian(tmp_path / "marian", share_encoder_decoder_embeddings=False)
    write_ctranslate2(tmp_path / "out", load_model(tmp_path / "marian"))
    texts = ["the old miller sees it", "she kept the bread.", "nobody in the village never liked it!"]
    translate = program_of(tmp_path / "out", monkeypatch, beam_size="1")["translate"]
    assert translate(texts) == [one.text for one in trasluz.load(tmp_path / "marian")(texts, beam=1)]


def test_the_program_reads_long_texts_whole_and_repeats_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = {"num_beams": 1, "max_length": 20, "no_repeat_ngram_size": 2, "normalization": "power"}
    small = random_model({**SHAPES["pre"]["preset"], "max_positions": 1500}, read_gain=8.0, generation=generation)
    write_ctranslate2(tmp_path / "out", small)
    sentence = "the old miller sees it"
    # The engine reads 1,024 tokens of a text where nobody says how many.
    texts = [sentence, "nobody in the village never liked it!", f"{'the ' * 1024}{'miller ' * 300}"]
    translate = program_of(tmp_path / "out", monkeypatch)["translate"]
    wanted = [one.text for one in Translator(small)(texts)]
    assert translate(texts) == wanted
    assert len(set(wanted)) == 3
    with pytest.raises(RuntimeError, match="No position encodings are defined for positions >= 1500"):
        translate(["the " * 1500])


@pytest.mark.parametrize("normalization", ["gnmt", "power"])
def test_the_readme_says_that_no_limit_goes_by_the_source(tmp_path: Path, normalization: str) -> None:
    generation = {"num_beams": 1, "max_length": 20, "normalization": normalization}
    write_ctranslate2(tmp_path / "out", random_model(SHAPES["pre"]["preset"], read_gain=8.0, generation=generation))
    words = " ".join((tmp_path / "out" / "README.md").read_text(encoding="utf-8").split())
    assert ("at 3 times the tokens of the source and 10 more, a limit that CTranslate2 has not" in words) == (
        normalization == "gnmt"
    )


@pytest.mark.parametrize("to", TEXTS)
def test_the_bundled_model_writes_the_same(pocket_folder: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    wanted = [one.text for one in trasluz.load("pocket-en-es")(TEXTS[to], to=to, beam=1)]
    translate = program_of(pocket_folder, monkeypatch, beam_size="1")["translate"]
    assert translate(TEXTS[to], tag=f"<2{to}>") == wanted


def test_the_program_of_the_readme_runs_as_it_is(pocket_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = program_of(pocket_folder, monkeypatch)["translate"](["The bread is still warm. <2en>"])
    assert "pan" in text


@pytest.mark.parametrize("head", [2, "mean"])
def test_the_engine_shows_the_attention_that_we_show(pocket: LoadedModel, tmp_path: Path, head: int | str) -> None:
    told = dataclasses.replace(pocket, attention_default=(1, head))
    write_ctranslate2(tmp_path / "out", told)
    translator = trasluz.tasks.translator.Translator(told)
    wanted = translator(TO_SPANISH[0], to="es", beam=1)
    source = translator.tokenizer.tokens(wanted.source_ids[:-1])
    (result,) = engine(tmp_path / "out").translate_batch([source], beam_size=1, return_attention=True)
    # The engine leaves out the end on both sides.
    shown, weights = torch.tensor(result.attention[0]), torch.from_numpy(wanted.attention.weights)[:-1, :-1]
    torch.testing.assert_close(shown, weights, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("dtype", "share"), [("fp16", 0.5), ("bf16", 0.5), ("int8", 0.33)])
def test_smaller_weights(pocket: LoadedModel, pocket_folder: Path, tmp_path: Path, dtype: str, share: float) -> None:
    before = pocket.model.source_embedding.weight.clone()
    write_ctranslate2(tmp_path / "out", pocket, dtype)
    assert torch.equal(pocket.model.source_embedding.weight, before)
    whole, small = ((folder / "model.bin").stat().st_size for folder in (pocket_folder, tmp_path / "out"))
    assert small < (share + 0.02) * whole
    translator = trasluz.load("pocket-en-es")
    direction = translator.directions.choose("es", None)
    sources = [translator.tokenizer.tokens(ids[:-1]) for ids in translator._source_ids(TO_SPANISH, direction)]
    results = engine(tmp_path / "out").translate_batch(sources, beam_size=1)
    texts = [translator.tokenizer.decode(map(translator.tokenizer.id_of, one.hypotheses[0])) for one in results]
    wanted = [one.text for one in translator(TO_SPANISH, to="es", beam=1)]
    assert sum(text == other for text, other in zip(texts, wanted, strict=True)) >= 8


# ---- what cannot be -------------------------------------------------------------------------------------------


def test_recurrent_models_are_refused(tmp_path: Path) -> None:
    recurrent = random_model(SMALL_MODELS["rnnsearch"])
    message = r"small is no Transformer but of the class RnnSearch, and .*; onnx takes recurrent models, too\."
    with pytest.raises(ModelError, match=message):
        write_ctranslate2(tmp_path / "out", recurrent)
    assert not (tmp_path / "out").exists()


def test_an_encoder_without_layers_is_refused(tmp_path: Path) -> None:
    shallow = random_model({**_SMALL, "num_encoder_layers": 0})
    with pytest.raises(ModelError, match=r"small has no layer in its encoder, but CTranslate2 asks for one; use onnx"):
        write_ctranslate2(tmp_path / "out", shallow)


def test_forbidden_sequences_are_refused_as_the_translator_refuses_them(tmp_path: Path) -> None:
    small = random_model(SHAPES["post"]["preset"])
    small.generation = {**small.generation, "bad_words_ids": [[1], [3, 4]]}
    message = r"bad_words_ids holds \[3, 4\]; only lists of one token are known"
    with pytest.raises(ModelError, match=message):
        Translator(small)
    with pytest.raises(ModelError, match=message):
        write_ctranslate2(tmp_path / "out", small)
    assert not (tmp_path / "out").exists()


def test_two_names_of_the_end_are_refused(tmp_path: Path) -> None:
    small = random_model(SHAPES["post"]["preset"])

    class Other:
        def tokens(self, ids: list[int]) -> list[str]:
            return ["<end>" for _ in ids]

    small.target_tokenizer = Other()
    message = r"a source of small ends with '</s>' and a target with '<end>', but CTranslate2 knows one end for both"
    with pytest.raises(ModelError, match=message):
        write_ctranslate2(tmp_path / "out", small)


@pytest.mark.parametrize("place", [(2, 0), (0, 2), (5, "mean")])
def test_attention_that_is_not_there_is_refused(tmp_path: Path, place: tuple[int, int | str]) -> None:
    small = random_model(SHAPES["post"]["preset"], attention_default=place)
    message = rf"shows attention layer {place[0]}, head {place[1]}, but the model has 2 layers of 2 heads\."
    with pytest.raises(ModelError, match=message):
        write_ctranslate2(tmp_path / "out", small)


def test_numbers_too_large_are_refused(tmp_path: Path) -> None:
    small = random_model(SHAPES["post"]["preset"])
    with torch.no_grad():
        small.model.get_parameter("encoder.1.feed_forward.expand.bias")[3] = 7e4
    message = r"encoder\.1\.feed_forward\.expand\.bias holds numbers too large for fp16; store the weights as bf16 or"
    with pytest.raises(ModelError, match=message):
        write_ctranslate2(tmp_path / "out", small, "fp16")
    write_ctranslate2(tmp_path / "out", small, "bf16")


def test_unknown_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"weights cannot be stored as 'int3'; say fp32, fp16, bf16, int8\."):
        write_ctranslate2(tmp_path / "out", random_model(SHAPES["post"]["preset"]), "int3")


def test_what_stands_there_stays(tmp_path: Path) -> None:
    small = random_model(SHAPES["post"]["preset"])
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RequestError, match=r"file is a file, but a folder is to be written: choose another name\."):
        write_ctranslate2(tmp_path / "file", small)
    with pytest.raises(RequestError, match=r"holds files already: choose a new folder, or empty this one\."):
        write_ctranslate2(tmp_path, small)
    (tmp_path / "empty").mkdir()
    write_ctranslate2(tmp_path / "empty", small)
    assert (tmp_path / "empty" / "model.bin").is_file()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export_folder, "save_tokenizers", fail)
    with pytest.raises(WriteError, match=r"cannot write .*out: No space left on device"):
        write_ctranslate2(tmp_path / "out", random_model(SHAPES["post"]["preset"]))
    assert list(tmp_path.iterdir()) == []


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2.specs", None)
    with pytest.raises(RequestError, match=r"which is not installed: pip install 'trasluz\[ctranslate2\]'\."):
        write_ctranslate2(tmp_path / "out", random_model(SHAPES["post"]["preset"]))
