"""What sampling makes of a distribution, against loops that spell the formulas out; and who draws what."""

import math
from typing import Any

import pytest
import torch
from tests.decoding.toys import TOKENS, ToyDecoder
from tests.models.test_gpt import random_texts, small_gpt
from tests.models.zoo import random_sentences, small_model

from trasluz.decoding.sampling import Drawn, Sampling, SamplingSettings, drawn, filtered, generator_of, penalized
from trasluz.decoding.search import search
from trasluz.decoding.settings import NO_END, DecodingTokens, SearchSettings
from trasluz.errors import ModelError, RequestError

OF_GPT = DecodingTokens(start_id=0, eos_id=NO_END)


def run(sampling: Sampling[Any]) -> dict[int, list[Drawn]]:
    found: dict[int, list[Drawn]] = {}
    while not sampling.is_over:
        for one in sampling.step():
            found.setdefault(one.row, []).append(one)
    return found


def ids_of(found: dict[int, list[Drawn]]) -> dict[int, list[int]]:
    return {row: [one.token for one in texts] for row, texts in found.items()}


def test_penalties_are_their_formulas() -> None:
    logits = torch.randn(3, 7)
    history = torch.tensor([[0, 1, 2, 2, 5], [6, 6, 6, 6, 6], [1, 2, 3, 4, 4]])
    settings = SamplingSettings(repetition_penalty=1.7, frequency_penalty=0.4)
    found = penalized(logits, history, 2, settings)
    for row in range(3):
        for token in range(7):
            wanted = float(logits[row, token])
            if token in history[row].tolist():
                wanted = wanted / 1.7 if wanted >= 0 else wanted * 1.7
            wanted -= 0.4 * history[row, 2:].tolist().count(token)
            assert float(found[row, token]) == pytest.approx(wanted, abs=1e-6)
    assert torch.equal(penalized(logits, history, 2, SamplingSettings()), logits)


@pytest.mark.parametrize(
    "changes", [{"repetition_penalty": 1e-40}, {"repetition_penalty": 3e38}, {"frequency_penalty": 3e38}, {
        "frequency_penalty": -3e38, "repetition_penalty": 1e-300,
    }], ids=str)  # fmt: skip
def test_penalties_of_any_size_leave_probabilities(changes: dict[str, float]) -> None:
    logits = torch.tensor([[3.0, -2.0, 0.0], [1.0, 1.0, -1.0]])
    history = torch.tensor([[0, 1, 1, 2], [0, 0, 0, 0]])
    settings = SamplingSettings(**changes)  # type: ignore[arg-type]
    probabilities = filtered(penalized(logits, history, 1, settings), settings).softmax(-1)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2, dtype=torch.float64))
    # In the second row a tiny repetition penalty makes the first token certain, the others impossible.
    likelier = changes.get("frequency_penalty", 0) < 0 or changes.get("repetition_penalty", 1) < 1
    assert float(probabilities[1, 0]) == pytest.approx(1.0 if likelier else 0.0, abs=0.3)


def test_top_k_leaves_exactly_k() -> None:
    found = filtered(torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]]), SamplingSettings(top_k=2))
    assert found.isfinite().sum() == 2 and set(found[found.isfinite()].tolist()) == {2.0}


def kept_by_hand(logits: list[float], settings: SamplingSettings) -> set[int]:
    """Return the tokens that may be drawn, one rule after the other."""
    scaled = [logit / settings.temperature for logit in logits]
    order = sorted(range(len(scaled)), key=lambda token: -scaled[token])
    if settings.top_k:
        order = order[: settings.top_k]
    total = sum(math.exp(scaled[token]) for token in order)
    kept, mass = [], 0.0
    for token in order:
        if mass >= settings.top_p and kept:
            break
        kept.append(token)
        mass += math.exp(scaled[token]) / total
    return {token for token in kept if math.exp(scaled[token] - scaled[kept[0]]) >= settings.min_p}


@pytest.mark.parametrize("changes", [
    {}, {"temperature": 0.3}, {"top_k": 1}, {"top_k": 4}, {"top_k": 99}, {"top_p": 0.01}, {"top_p": 0.6},
    {"top_p": 0.97}, {"min_p": 0.2}, {"min_p": 1.0},
    {"temperature": 1.8, "top_k": 8, "top_p": 0.8, "min_p": 0.05},
], ids=str)  # fmt: skip
def test_only_the_tokens_of_the_formulas_are_left(changes: dict[str, Any]) -> None:
    logits = torch.randn(20, 13) * 2
    settings = SamplingSettings(**changes)
    found = filtered(logits, settings)
    for row in range(20):
        kept = kept_by_hand(logits[row].tolist(), settings)
        assert {int(token) for token in (found[row] > -math.inf).nonzero()} == kept
        for token in kept:
            assert float(found[row, token]) == pytest.approx(float(logits[row, token]) / settings.temperature, rel=1e-6)


def test_a_token_is_drawn_as_often_as_it_is_likely() -> None:
    logits = torch.tensor([[0.5, 0.0, 0.2, 0.3]]).log()
    points = torch.tensor([0.0, 0.49, 0.51, 0.69, 0.71, 0.999999], dtype=torch.float64)
    assert drawn(logits.expand(6, -1), points).tolist() == [0, 0, 2, 2, 3, 3]
    numbers = torch.rand(4000, generator=generator_of(1, 0), dtype=torch.float64)
    counts = torch.bincount(drawn(logits.expand(4000, -1), numbers), minlength=4) / 4000
    torch.testing.assert_close(counts, torch.tensor([0.5, 0.0, 0.2, 0.3]), rtol=0, atol=0.03)


def test_log_probabilities_are_the_models_own() -> None:
    decoder = ToyDecoder(num_sources=1, vocab_size=6, longest=4, seed=1)
    settings = SamplingSettings(temperature=0.5, top_k=3, repetition_penalty=1.3)
    source = torch.tensor([[0]])
    found = run(Sampling(decoder, source, settings, DecodingTokens(1, 2), [generator_of(3, n) for n in range(5)], 4))
    assert len(found) == 5
    for texts in found.values():
        code = 0
        for place, one in enumerate(texts):
            wanted = decoder.tables[place][0, code].log_softmax(-1)[one.token]
            assert one.log_probability == pytest.approx(float(wanted), abs=1e-5)
            code = code * 6 + one.token
        assert len(texts) == 4 or texts[-1].token == 2


@pytest.mark.parametrize("name", ["transformer-post", "rnnsearch"])
def test_nothing_drawn_is_greedy_search(name: str) -> None:
    model = small_model(name)
    source = torch.tensor([[*sentence, 2] for sentence in random_sentences([6, 6, 6])])
    lengths = torch.full((3,), 7)
    greedy = search(model, source, lengths, SearchSettings(beam=1, max_length=12, at_limit="open"), TOKENS)
    sampling = Sampling(model, source, SamplingSettings(temperature=0.0), TOKENS, [generator_of(1, 0)] * 3, 12)
    found = run(sampling)
    for row, (best,) in enumerate(greedy):
        assert tuple(ids_of(found)[row]) == best.ids
        assert sum(one.log_probability for one in found[row]) == pytest.approx(best.log_probability, abs=1e-4)


def test_what_a_row_draws_depends_on_no_other() -> None:
    model = small_gpt("eights")
    prompts = torch.tensor(random_texts(5, 5, 5))
    settings = SamplingSettings(temperature=1.5)

    def sample(source: torch.Tensor, samples: int, stopped: tuple[int, ...] = ()) -> dict[int, list[int]]:
        generators = [generator_of(9, sample, ids) for ids in source.tolist() for sample in range(samples)]
        sampling = Sampling(model, source, settings, OF_GPT, generators, 12)
        sampling.stop(stopped)
        return ids_of(run(sampling))

    together = sample(prompts, 3)
    assert len({tuple(ids) for ids in together.values()}) == 9
    for place in range(3):
        alone = sample(prompts[place : place + 1], 3)
        assert list(alone.values()) == [together[place * 3 + member] for member in range(3)]
        assert sample(prompts[place : place + 1], 1)[0] == together[place * 3]
    # Some rows leave, one source with all of its rows.
    some = sample(prompts, 3, (0, 3, 4, 5, 8))
    assert some == {row: together[row] for row in (1, 2, 6, 7)}


def test_nothing_is_kept_for_gradients() -> None:
    sampling = Sampling(
        small_gpt("odd"), torch.tensor([[1, 2, 3]]), SamplingSettings(), OF_GPT, [generator_of(1, 0)], 4
    )
    assert sampling._state.caches[0].key.is_inference()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_nothing_is_drawn_from_scores_that_are_no_numbers(temperature: float) -> None:
    decoder = ToyDecoder(num_sources=1, vocab_size=6, longest=1, seed=1)
    decoder.tables[0][..., 4] = math.nan
    settings = SamplingSettings(temperature=temperature)
    texts = Sampling(decoder, torch.tensor([[0]]), settings, TOKENS, [generator_of(0, 0)], 1)
    with pytest.raises(ModelError, match=r"scores for the next token are no numbers"):
        texts.step()


def test_an_end_stops_its_row_only() -> None:
    model = small_gpt("odd")
    prompts = torch.tensor(random_texts(4, 4))
    tokens = DecodingTokens(start_id=0, eos_id=3)
    generators = [generator_of(5, sample) for _ in range(2) for sample in range(4)]
    found = ids_of(run(Sampling(model, prompts, SamplingSettings(temperature=2.0), tokens, generators, 20)))
    lengths = {len(ids) for ids in found.values()}
    assert len(found) == 8 and len(lengths) > 1
    for ids in found.values():
        assert 3 not in ids[:-1] and (len(ids) == 20 or ids[-1] == 3)


@pytest.mark.parametrize("prompt_length", [3, 9, 30])
def test_a_text_over_the_window_is_read_anew_from_its_last_half(prompt_length: int) -> None:
    model = small_gpt("odd")
    prompts = torch.tensor(random_texts(prompt_length, prompt_length))
    settings = SamplingSettings(temperature=0.0)
    sampling = Sampling(model, prompts, settings, OF_GPT, [generator_of(1, 0)] * 4, 16, window=10)
    found = ids_of(run(sampling))
    for row, prompt in enumerate(prompts.repeat_interleave(2, dim=0).tolist()):
        text, read = list(prompt), list(prompt)
        for token in found[row]:
            if len(read) > 10:
                read = text[-5:]
            likeliest = int(logits_behind(model, read).argmax())
            assert token == likeliest
            text.append(token)
            read.append(token)
        assert len(found[row]) == 16


def logits_behind(model: Any, ids: list[int]) -> torch.Tensor:
    state = model.start(torch.tensor([ids]), torch.tensor([len(ids)]), 1, 1)
    logits: torch.Tensor = model.step(torch.tensor([0]), state)[0][0]
    return logits


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -1.0}, "`temperature` must be a number from 0 up, but is -1.0"),
        ({"temperature": math.nan}, "`temperature` must be a number from 0 up, but is nan"),
        ({"top_k": -1}, "`top_k` must be a number from 0 up, but is -1"),
        ({"top_p": 0.0}, r"`top_p` must be above 0 and at most 1 \(1: all tokens\), but is 0.0"),
        ({"top_p": 1.5}, "`top_p` must be above 0 and at most 1"),
        ({"min_p": 2.0}, r"`min_p` must be from 0 \(all tokens\) to 1, but is 2.0"),
        ({"repetition_penalty": 0.0}, r"`repetition_penalty` must be above 0 \(1: none\), but is 0"),
        ({"frequency_penalty": -1e39}, r"`frequency_penalty` must not be larger than 3.4e\+38, but is -1e\+39"),
        ({"frequency_penalty": math.inf}, "`frequency_penalty` must be a number, but is inf"),
    ],
)
def test_settings_refuse_what_cannot_work(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        SamplingSettings(**wrong)  # type: ignore[arg-type]
