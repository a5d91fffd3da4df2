"""Continuing texts, on random models: what the `transformers` library generates, piece by piece and to the end."""

import json
import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.checkpoints.hub_gpts import ODD_SIZES, write_gpt
from tests.checkpoints.hub_llamas import ODD_SIZES as LLAMA_SIZES
from tests.checkpoints.hub_llamas import write_llama
from tests.checkpoints.sentences import pairs
from transformers import AutoModelForCausalLM
from transformers.utils import logging

import trasluz
from trasluz.errors import ModelError, RequestError, TrasluzWarning
from trasluz.tasks.generation import Generation
from trasluz.tasks.generation_defaults import generation_defaults
from trasluz.tasks.generator import Generator
from trasluz.tasks.option_checks import one_prompt, prompts_of
from trasluz.text.batching import CausalBatch

PROMPTS = [text for pair in pairs(6, seed=4) for text in pair]
SEARCHED = [text for pair in pairs(50, seed=4) for text in pair]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generators") / "gpt"
    write_gpt(folder, **ODD_SIZES["eights"])
    return folder


@pytest.fixture(scope="module")
def generate(folder: Path) -> Generator:
    generator: Generator = trasluz.load(folder, device="cpu")
    return generator


def write_random(folder: Path, name: str) -> None:
    """Write a folder of a random model that can read 80 tokens."""
    if name.startswith("llama-"):
        write_llama(folder, seed=7, max_position_embeddings=80, **LLAMA_SIZES[name.removeprefix("llama-")])
    else:
        write_gpt(folder, seed=7, n_positions=80, **ODD_SIZES[name])


@pytest.mark.parametrize("name", ["eights", "odd", "llama-eights", "llama-odd"])
@pytest.mark.parametrize("beam", [1, 4])
def test_searches_find_what_the_library_finds(tmp_path: Path, name: str, beam: int) -> None:
    write_random(tmp_path, name)
    # The end is a token that stands in some texts.
    endless = trasluz.load(tmp_path)(PROMPTS, beam=beam, max_tokens=9)
    counts = Counter(token for one in endless for token in set(one.ids))
    end = min(counts, key=lambda token: (abs(counts[token] - 9), token))
    for file in (tmp_path / "config.json", tmp_path / "generation_config.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": end}))
    generate = trasluz.load(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    found = generate(SEARCHED, beam=beam, max_tokens=9)
    ended = 0
    for one in found:
        theirs = model.generate(
            torch.tensor([one.prompt_ids]),
            num_beams=beam,
            do_sample=False,
            max_new_tokens=9,
            pad_token_id=329,
            output_scores=True,
            return_dict_in_generate=True,
        )
        if beam > 1:
            # Where the texts differ, this is what makes it a tie.
            assert one.score == pytest.approx(float(theirs.sequences_scores[0]), abs=1e-4)
        assert one.ids == tuple(theirs.sequences[0, len(one.prompt_ids) :].tolist())
        ended += one.reason == "end"
        assert one.reason == ("end" if one.ids[-1] == end else "length")
    assert 0 < ended < len(found) and len({one.ids for one in found}) > 3
    if beam > 1:
        several = generate(PROMPTS[0], beam=beam, samples=3, max_tokens=9)
        assert several.ids == found[0].ids and several.score >= several.alternatives[0].score
        assert len(several.to_dict()["alternatives"]) == 2


def test_the_likeliest_token_each_time_is_a_beam_of_one(generate: Generator) -> None:
    searched = generate(PROMPTS, beam=1, max_tokens=12)
    drawn = generate(PROMPTS, temperature=0, max_tokens=12)
    assert [one.ids for one in searched] == [one.ids for one in drawn]
    # Penalties, too.
    penalties: dict[str, Any] = {"repetition_penalty": 1.2, "frequency_penalty": 0.5}
    penalized = generate(PROMPTS, beam=1, max_tokens=12, **penalties)
    assert [one.ids for one in penalized] == [
        one.ids for one in generate(PROMPTS, temperature=0, max_tokens=12, **penalties)
    ]
    assert [one.ids for one in penalized] != [one.ids for one in searched]


def test_pieces_are_the_text(generate: Generator) -> None:
    for seed, prompt in enumerate(PROMPTS[:5]):
        options: dict[str, Any] = {"temperature": 1.2, "seed": seed, "max_tokens": 14}
        whole = generate(prompt, **options)
        pieces = list(generate.stream(prompt, **options))
        assert "".join(pieces) == whole.text and "" not in pieces
        # Bytes at the very end that are no whole character are left out.
        assert generate.tokenizer.decode(whole.ids) in (whole.text, f"{whole.text}\ufffd")
        # Nothing from a stop string on; the same tokens as far as they go.
        stop = whole.text[3:5]
        stopped = generate(prompt, stop=stop, **options)
        assert stopped.text == whole.text[: whole.text.find(stop)] and stopped.reason == "stop"
        assert stopped.ids == whole.ids[: len(stopped.ids)]
        assert "".join(generate.stream(prompt, stop=["never ever", stop], **options)) == stopped.text
    assert list(generate.stream("a", beam=1, max_tokens=9)) == list(generate.stream("a", temperature=0, max_tokens=9))


def test_samples_and_seeds(generate: Generator) -> None:
    options: dict[str, Any] = {"samples": 3, "max_tokens": 8, "seed": 5}
    together = generate(PROMPTS, **options)
    for prompt, several in zip(PROMPTS, together, strict=True):
        texts = [several, *several.alternatives]
        assert len({one.ids for one in texts}) == 3 and {one.prompt for one in texts} == {prompt}
    alone = generate(PROMPTS[3], **options)
    assert [one.ids for one in (alone, *alone.alternatives)] == [
        one.ids for one in (together[3], *together[3].alternatives)
    ]
    assert generate(PROMPTS[3], max_tokens=8, seed=5).ids == alone.ids != generate(PROMPTS[3], max_tokens=8, seed=6).ids
    small = generate(PROMPTS, batch_tokens=1, **options)
    assert [one.ids for one in small] == [one.ids for one in together]
    # Without a seed, torch's own random numbers say.
    torch.manual_seed(1)
    first = generate(PROMPTS[0], max_tokens=8)
    assert generate(PROMPTS[0], max_tokens=8).ids != first.ids
    torch.manual_seed(1)
    assert generate(PROMPTS[0], max_tokens=8).ids == first.ids


def test_log_probabilities_are_the_models_own(generate: Generator) -> None:
    found = generate(PROMPTS[0], max_tokens=6, seed=3, temperature=2.0, repetition_penalty=1.5)
    assert found.log_probability == pytest.approx(log_probability(generate, found), abs=1e-4)


def log_probability(generate: Generator, found: Generation) -> float:
    ids = torch.tensor([[*found.prompt_ids, *found.ids]])
    model: Any = generate.model
    batch = CausalBatch(ids[:, :-1], ids[:, 1:], torch.tensor([ids.shape[1] - 1]))
    with torch.no_grad():
        steps = model.output_head(model(batch))[0].log_softmax(-1).gather(1, batch.targets.T)
    return float(steps[len(found.prompt_ids) - 1 :].sum())


def test_an_empty_prompt_begins_a_text(generate: Generator, folder: Path, tmp_path: Path) -> None:
    found = generate("", max_tokens=5, seed=1)
    assert found.prompt_ids == (329,) and len(found.ids) <= 5
    write_gpt(tmp_path, eos_token_id=None)
    endless = trasluz.load(tmp_path)
    assert endless("a", max_tokens=4, beam=2).reason == "length"
    with pytest.raises(RequestError, match=r"the prompt is empty, and .* has no token that a text begins with"):
        endless("")


def test_what_is_too_long_is_refused_or_slides(generate: Generator) -> None:
    long = " ".join(PROMPTS)
    with pytest.raises(RequestError, match=r"prompt 2 has \d+ tokens, but gpt reads at most 48: shorten it, or let it"):
        generate(["a", long])
    found = generate(long, slide=True, max_tokens=30, temperature=0)
    assert len(found.prompt_ids) > 48 and len(found.ids) == 30
    with pytest.raises(RequestError, match=r"the text has \d+ tokens, but gpt reads at most 48: shorten it\."):
        found.attention  # noqa: B018
    # Without sliding, the window's end is the text's.
    full = generate("a", max_tokens=60, temperature=0)
    assert len(full.ids) == 48
    # The last token was never read.
    assert full.attention.weights.shape == (48, 48)
    assert len(generate("a", max_tokens=60, temperature=0, slide=True).ids) == 60
    assert "".join(generate.stream(long, slide=True, max_tokens=30, temperature=0)) == found.text


def test_what_every_token_looks_at(generate: Generator) -> None:
    found = generate("the old miller", max_tokens=4, seed=2)
    shown = found.attention
    size = len(found.prompt_ids) + len(found.ids)
    assert (shown.kind, shown.layer, shown.head) == ("decoder", 0, "mean") and shown.weights.shape == (size, size)
    np.testing.assert_allclose(shown.weights.sum(1), 1.0, atol=1e-5)
    assert np.triu(shown.weights, 1).max() == 0
    (one,) = generate.attention_maps("the old miller", layers=[1], heads=[2])
    assert (one.layer, one.head, one.source_tokens) == (1, 2, one.target_tokens)
    assert one.words().source_tokens == ["the", "old", "miller"]
    assert len(generate.attention_maps("the old miller")) == 6
    with pytest.raises(RequestError, match="the text is empty: there is nothing to look at"):
        generate.attention_maps("")
    with pytest.raises(RequestError, match="there is no layer 7; this model's attention layers are 0 to 1"):
        generate.attention_maps("a", layers=[7])


def test_batches_are_shifted_once(generate: Generator) -> None:
    batch = generate.batch(["the old miller", "a"])
    ids = generate.tokenizer.encode("the old miller")
    assert batch.inputs[0].tolist() == ids and batch.targets[0].tolist() == [*ids[1:], 329]
    assert batch.lengths.tolist() == [len(ids), 1] and batch.num_target_tokens == len(ids) + 1
    assert batch.padding_share == pytest.approx((len(ids) - 1) / (2 * len(ids)))


def test_saved_and_loaded_it_says_the_same(generate: Generator, tmp_path: Path) -> None:
    generate.save(tmp_path / "copy")
    again = trasluz.load(tmp_path / "copy", task="generate")
    assert again("the", max_tokens=8, seed=4).ids == generate("the", max_tokens=8, seed=4).ids
    assert repr(again) == "Generator(copy)"
    small = trasluz.load(tmp_path / "copy", dtype="int8")
    assert small("the", max_tokens=8, seed=4).text
    with pytest.raises(RequestError, match="was loaded as int8, which cannot be saved"):
        small.save(tmp_path / "more")


def test_the_folders_own_settings_are_followed(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "own")
    path = tmp_path / "own" / "generation_config.json"

    def loaded(**settings: Any) -> Any:
        path.write_text(json.dumps({"eos_token_id": 329, **settings}))
        return trasluz.load(tmp_path / "own")

    plain = trasluz.load(folder)
    assert len(loaded(max_new_tokens=3)("a", seed=1).ids) <= 3
    cold = loaded(do_sample=True, temperature=0.01, top_k=3)("a", seed=1, max_tokens=9)
    assert cold.ids == plain("a", seed=1, max_tokens=9, temperature=0.01, top_k=3).ids
    assert loaded(num_beams=3)("a", max_tokens=9).ids == plain("a", beam=3, max_tokens=9).ids
    assert loaded(num_beams=3)("a", seed=1, temperature=1.0, max_tokens=9).ids == plain("a", seed=1, max_tokens=9).ids
    # Greedy, with the penalty, until somebody asks to draw.
    greedy = loaded(do_sample=False, temperature=0.9)
    assert greedy("a", max_tokens=9).ids == plain("a", max_tokens=9, temperature=0).ids
    assert greedy("a", max_tokens=9, seed=1, top_k=20).ids == plain("a", max_tokens=9, seed=1, top_k=20).ids
    penalty = 1.5
    rare = loaded(do_sample=False, repetition_penalty=penalty)
    found = rare("a", max_tokens=20)
    assert found.ids == plain("a", max_tokens=20, temperature=0, repetition_penalty=penalty).ids
    assert found.ids != plain("a", max_tokens=20, temperature=0).ids
    assert rare("a", max_tokens=20, beam=1).ids == found.ids
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "own").eval()
    theirs = model.generate(torch.tensor([found.prompt_ids]), max_new_tokens=20, pad_token_id=329)
    assert found.ids == tuple(theirs[0, len(found.prompt_ids) :].tolist())
    drawn = loaded(repetition_penalty=penalty)("a", max_tokens=20, seed=1)
    assert drawn.ids == plain("a", max_tokens=20, seed=1, repetition_penalty=penalty).ids
    with pytest.warns(TrasluzWarning, match="repetition_penalty is not followed by a beam over 1"):
        assert rare("a", max_tokens=9, beam=2).ids == plain("a", max_tokens=9, beam=2).ids


def test_any_of_the_folders_ends_and_stop_strings_ends_a_text(folder: Path, tmp_path: Path) -> None:
    endless = trasluz.load(folder)("a", max_tokens=9, temperature=0)
    shutil.copytree(folder, tmp_path / "own")
    path = tmp_path / "own" / "generation_config.json"
    end = endless.ids[4]
    path.write_text(json.dumps({"eos_token_id": [329, end]}))
    generate = trasluz.load(tmp_path / "own")
    for options in ({"temperature": 0}, {"beam": 3}):
        found = generate("a", max_tokens=9, **options)
        assert (found.reason, found.ids[-1]) == ("end", end) and end not in found.ids[:-1]
    first = endless.ids.index(end) + 1
    assert generate("a", max_tokens=9, temperature=0).ids == endless.ids[:first]
    # What is streamed ends as well; written again, the list is kept.
    assert "".join(generate.stream("a", max_tokens=9, beam=1)) == generate("a", max_tokens=9, beam=1).text
    generate.save(tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "generation_config.json").read_text())["eos_token_id"] == [329, end]
    path.write_text(json.dumps({"eos_token_id": 329, "stop_strings": endless.text[3:5]}))
    generate = trasluz.load(tmp_path / "own")
    assert generate("a", max_tokens=9, temperature=0).reason == "stop"
    assert generate("a", max_tokens=9, temperature=0, stop=[]).ids == endless.ids


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_sample": True, "top_k": -1}, "top_k must be a number from 0 up, but is -1"),
        ({"do_sample": True, "temperature": "hot"}, "temperature must be a number, but is 'hot'"),
        ({"do_sample": "no"}, "do_sample must be true or false, but is 'no'"),
        ({"max_new_tokens": "x"}, "max_new_tokens must be a whole number from 1 up, but is 'x'"),
        ({"max_length": "x"}, "max_length must be a whole number from 1 up, but is 'x'"),
        ({"num_beams": 2.5}, "num_beams must be a whole number from 1 up, but is 2.5"),
        ({"length_penalty": "x"}, "length_penalty must be a number, but is 'x'"),
        ({"repetition_penalty": 0}, r"repetition_penalty must be above 0 \(1: none\), but is 0"),
        ({"stop_strings": [""]}, "stop_strings holds ''; texts of one character at least were expected"),
        ({"eos_token_id": [1, "a"]}, "eos_token_id holds 'a', but each must be a token's id"),
    ],
)
def test_the_folders_own_settings_are_checked_on_loading(
    folder: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    shutil.copytree(folder, tmp_path / "own")
    (tmp_path / "own" / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=rf"^generation_config\.json: {message}\.$"):
        trasluz.load(tmp_path / "own")


def test_what_is_not_followed_is_remarked_on() -> None:
    generation = {"no_repeat_ngram_size": 2, "max_length": 20, "min_length": 0, "typical_p": 1.0, "suppress_tokens": []}
    with pytest.warns(TrasluzWarning, match=r"json: no_repeat_ngram_size, max_length are not followed\.$"):
        generation_defaults(generation, 48)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrasluzWarning)
        generation_defaults({"max_length": 48, "normalization": "power"}, 48)


@pytest.mark.parametrize("beam", [3, 4])
def test_a_beam_ends_where_a_stop_string_is_complete(generate: Generator, beam: int) -> None:
    ended = 0
    for prompt in PROMPTS[:4]:
        stop = generate(prompt, beam=beam, max_tokens=12).text[2:4]
        best = generate(prompt, beam=beam, samples=beam, max_tokens=12, stop=stop)
        texts = [best, *best.alternatives]
        assert len({one.text for one in texts}) == len(texts)
        assert [one.score for one in texts] == sorted((one.score for one in texts), reverse=True)
        for one in texts:
            ended += one.reason == "stop"
            assert stop not in generate.tokenizer.decode(one.ids[:-1]) and stop not in one.text
            assert (stop in generate.tokenizer.decode(one.ids)) == (one.reason == "stop")
            assert one.score == pytest.approx(one.log_probability / len(one.ids))
            assert one.log_probability == pytest.approx(log_probability(generate, one), abs=1e-4)
    assert ended >= 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 1}, "there is no option 'temprature'. Did you mean temperature?"),
        ({"qqq": 1}, "there is no option 'qqq'. There are max_tokens, temperature"),
        ({"max_tokens": 0}, "`max_tokens` must be a whole number from 1 up, but is 0"),
        ({"beam": True}, "`beam` must be a whole number from 1 up, but is True"),
        ({"temperature": "hot"}, "`temperature` must be a number, but is 'hot'"),
        ({"top_k": 2.5}, "`top_k` must be a whole number, but is 2.5"),
        ({"top_p": 0}, "`top_p` must be above 0"),
        ({"beam": 2, "top_k": 5}, "`top_k` is for texts that are drawn, and `beam` searches the likeliest"),
        ({"beam": 2, "samples": 3}, r"`samples` must not exceed `beam` \(2\), but is 3"),
        ({"beam": 2, "slide": True}, "`slide` does not go together with a `beam` of 2"),
        ({"stop": ["a", ""]}, "`stop` holds ''; texts of one character at least were expected"),
        ({"stop": 5}, "`stop` must be a text or a list of texts, but is 5"),
        ({"top_k": float("inf")}, "`top_k` must be a whole number, but is inf"),
        ({"top_k": float("nan")}, "`top_k` must be a whole number, but is nan"),
        ({"temperature": 10**400}, "`temperature` must be a number, but is 1000"),
        ({"beam": 2, "repetition_penalty": 1.2}, "`repetition_penalty` does not go together with a `beam` of 2"),
        ({"frequency_penalty": 1e40}, r"`frequency_penalty` must not be larger than 3.4e\+38, but is 1e\+40"),
        ({"seed": -1}, "`seed` must be a whole number from 0 up, but is -1"),
    ],
)
def test_refusals(generate: Generator, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        generate("a", **options)


def test_a_prompt_is_a_text() -> None:
    # By what the generator calls: under test, the kinds of its own arguments are checked before.
    assert prompts_of("a") == ["a"] and prompts_of(("a", "b")) == ["a", "b"] and one_prompt("a") == "a"
    for prompt in (5, [5], {"a": 1}):
        with pytest.raises(RequestError, match=r"the prompt must be a text or a list of texts, but is .*[5a]"):
            prompts_of(prompt)
    with pytest.raises(RequestError, match=r"must be a text, one that is gone on with piece by piece, but is \['a'\]"):
        one_prompt(["a"])


@pytest.mark.parametrize("temperature", [1e-38, 1e-300])
def test_the_smallest_temperatures_are_greedy(generate: Generator, temperature: float) -> None:
    found = generate(PROMPTS[:3], max_tokens=9, seed=1, temperature=temperature)
    assert [one.ids for one in found] == [one.ids for one in generate(PROMPTS[:3], max_tokens=9, temperature=0)]


def test_only_one_text_comes_in_pieces(generate: Generator) -> None:
    with pytest.raises(RequestError, match="`samples` is 2, but only one text can be given out piece by piece"):
        generate.stream("a", samples=2)
    with pytest.raises(RequestError, match="`beam` is 3, but only one text"):
        generate.stream("a", beam=3)
