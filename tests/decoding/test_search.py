"""Searches against exhaustive search, against each other, and alone against in a batch."""

import dataclasses
import math
import weakref

import pytest
import torch
from tests.decoding.coverage_by_hand import penalty_by_hand
from tests.decoding.toys import TOKENS, ToyDecoder, ToyState, all_targets
from tests.models.zoo import SMALL_MODELS, random_sentences, small_model

from trasluz.decoding.beam_search import beam_search
from trasluz.decoding.search import search
from trasluz.decoding.settings import Hypothesis, SearchSettings
from trasluz.errors import ModelError, RequestError
from trasluz.inspection.recorder import record_attention
from trasluz.text.batching import pad_sequences

FOUND = list[list[Hypothesis]]
every_model = pytest.mark.parametrize("name", SMALL_MODELS)
looking = pytest.mark.parametrize("name", ["transformer-post", "rnnsearch", "gnmt", "luong"])


def texts(found: FOUND) -> list[list[tuple[int, ...]]]:
    return [[hypothesis.ids for hypothesis in best] for best in found]


@pytest.mark.parametrize("settings", [
    SearchSettings(beam=200, nbest=5, max_length=4, length_penalty=0.0),
    SearchSettings(beam=200, nbest=5, max_length=4, length_penalty=1.0),
    SearchSettings(beam=200, nbest=5, max_length=4, length_penalty=2.0, normalization="power"),
    SearchSettings(beam=200, nbest=5, max_length=4, min_length_ratio=1.0),
    SearchSettings(beam=200, nbest=5, max_length=4, no_repeat_ngram=1),
    SearchSettings(beam=200, nbest=5, max_length=4, no_repeat_ngram=2),
], ids=["sum", "gnmt", "power", "not-short", "no-token-twice", "no-pair-twice"])  # fmt: skip
def test_a_beam_as_wide_as_the_space_finds_the_best_targets(settings: SearchSettings) -> None:
    decoder = ToyDecoder(num_sources=3, vocab_size=6, longest=4, seed=1)
    source, lengths = torch.tensor([[0, 9, 9], [1, 9, 9], [2, 9, 9]]), torch.tensor([3, 2, 3])
    found = search(decoder, source, lengths, settings, TOKENS)
    for place in range(3):
        expected = all_targets(decoder, place, settings, int(lengths[place]))[:5]
        assert [best.ids for best in found[place]] == [best.ids for best in expected]
        for ours, theirs in zip(found[place], expected, strict=True):
            assert ours.score == pytest.approx(theirs.score, abs=1e-4)
            assert ours.log_probability == pytest.approx(theirs.log_probability, abs=1e-4)


def test_a_search_does_not_stop_when_its_first_hypothesis_ends() -> None:
    # The likeliest first token is the end, yet the best target by score is the next one.
    decoder = ToyDecoder(num_sources=1, vocab_size=4, longest=2, seed=0)
    decoder.tables[0][:] = torch.tensor([1e-9, 1e-9, 0.50, 0.49]).log()
    decoder.tables[1][:] = torch.tensor([-99.0, -99.0, 9.0, -9.0])
    settings = SearchSettings(beam=2, max_length=2, length_penalty=1.0)
    ((best,),) = search(decoder, torch.tensor([[0]]), torch.tensor([1]), settings, TOKENS)
    assert best.ids == (3, 2)


class Forgetful(ToyDecoder):
    """Looks, before each step, whether anybody still holds the logits of the last."""

    last: "weakref.ref[torch.Tensor] | None" = None
    steps = 0

    def step(self, ids: torch.Tensor, state: ToyState) -> tuple[torch.Tensor, ToyState]:
        assert self.last is None or self.last() is None
        logits, state = super().step(ids, state)
        self.last, self.steps = weakref.ref(logits), self.steps + 1
        return logits, state


@pytest.mark.parametrize("beam", [1, 2])
def test_logits_go_before_the_next_come(beam: int) -> None:
    decoder = Forgetful(num_sources=2, vocab_size=6, longest=4, seed=1)
    settings = SearchSettings(beam=beam, max_length=4, min_length_ratio=4.0, max_length_ratio=4.0)
    search(decoder, torch.tensor([[0], [1]]), torch.tensor([1, 1]), settings, TOKENS)
    assert decoder.steps == 4


@every_model
@pytest.mark.parametrize("beam", [1, 4])
def test_alone_as_in_a_batch(name: str, beam: int) -> None:
    model = small_model(name)
    sentences = random_sentences([2, 9, 5, 7, 1])
    settings = SearchSettings(beam=beam, nbest=beam, max_length_ratio=2.0)
    source, lengths = pad_sequences(sentences, pad_id=0, last_id=2)
    together = search(model, source, lengths, settings, TOKENS)
    for place, sentence in enumerate(sentences):
        (alone,) = search(model, *pad_sequences([sentence], pad_id=0, last_id=2), settings, TOKENS)
        assert [best.ids for best in alone] == [best.ids for best in together[place]]
        for one, other in zip(alone, together[place], strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)


@every_model
@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("compiled", [True, False])
def test_sources_that_take_the_places_of_others(
    name: str, beam: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr("trasluz.layers.kernels.kernels_for", lambda _: None)
        monkeypatch.setattr("trasluz.layers.kernels.attention_step.kernels_for", lambda _: None)
    model = small_model(name)
    joined = []
    start = model.start
    monkeypatch.setattr(
        model,
        "start",
        lambda source, *more: joined.append(len(source)) or start(source, *more),  # type: ignore[func-returns-value]
    )
    sentences = random_sentences([2, 9, 5, 7, 1, 9, 3, 8, 4, 1])
    source, lengths = pad_sequences(sentences, pad_id=0, last_id=2)
    settings = SearchSettings(
        beam=beam, nbest=beam, min_length_ratio=0.5, max_length_ratio=2.0, no_repeat_ngram=2, max_length=12
    )
    found = search(model, source, lengths, settings, TOKENS, batch_tokens=30)
    # Three of the longest at first, then others in their places.
    assert joined[0] == 3 and len(joined) >= 3 and sum(joined) == len(sentences)
    for place, sentence in enumerate(sentences):
        (alone,) = search(model, *pad_sequences([sentence], pad_id=0, last_id=2), settings, TOKENS)
        assert [best.ids for best in found[place]] == [best.ids for best in alone]
        for one, other in zip(found[place], alone, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)


@looking
def test_coverage_of_sources_that_come_later(name: str) -> None:
    model = small_model(name)
    source, lengths = pad_sequences(random_sentences([7, 4, 6, 2, 5, 3]), pad_id=0, last_id=2)
    settings = SearchSettings(beam=3, nbest=3, coverage_penalty=0.3, max_length=12)
    attention = model.attentions()["cross"][-1]
    at_once = search(model, source, lengths, settings, TOKENS, attention)
    in_turns = search(model, source, lengths, settings, TOKENS, attention, batch_tokens=16)
    assert texts(in_turns) == texts(at_once)
    for one, other in zip(in_turns, at_once, strict=True):
        assert [best.score for best in one] == pytest.approx([best.score for best in other], abs=1e-4)


def test_there_is_work_for_whole_steps() -> None:
    # Sixteen sources whose targets are of quite different lengths, four of them at a time.
    model = small_model("transformer-post")
    source, lengths = pad_sequences(random_sentences([9, 1] * 8), pad_id=0, last_id=2)
    settings = SearchSettings(beam=1, min_length_ratio=2.0, max_length_ratio=2.0, max_length=18)
    rows: list[int] = []
    step = model.step

    def counted(ids: torch.Tensor, state: object) -> object:
        rows.append(len(ids))
        return step(ids, state)

    model.step = counted  # type: ignore[assignment]
    found = search(model, source, lengths, settings, TOKENS, batch_tokens=40)
    written = sum(len(best.ids) for (best,) in found)
    assert sum(rows) == written
    # Whoever is done makes room for others, so that steps are full but for the last few.
    assert len(rows) <= written / 4 + 18


@every_model
def test_a_beam_of_one_is_greedy(name: str) -> None:
    model = small_model(name)
    source, lengths = pad_sequences(random_sentences([2, 9, 5]), pad_id=0, last_id=2)
    settings = SearchSettings(beam=1)
    assert texts(search(model, source, lengths, settings, TOKENS)) == texts(
        beam_search(model, source, lengths, settings, TOKENS)
    )


@every_model
def test_log_probability_is_the_models(name: str) -> None:
    model = small_model(name)
    source, lengths = pad_sequences(random_sentences([4, 6]), pad_id=0, last_id=2)
    for place, all_best in enumerate(search(model, source, lengths, SearchSettings(beam=3, nbest=3), TOKENS)):
        assert all_best == sorted(all_best, key=lambda hypothesis: -hypothesis.score)
        best = all_best[0]
        state = model.start(source[place : place + 1], lengths[place : place + 1], 1, len(best.ids))
        total, previous = 0.0, 1
        for token in best.ids:
            logits, state = model.step(torch.tensor([previous]), state)
            total += float(logits.detach()[0].log_softmax(-1)[token])
            previous = token
        assert best.log_probability == pytest.approx(total, abs=1e-4)


def test_lengths_stay_within_their_limits() -> None:
    model = small_model("transformer-post")
    source, lengths = pad_sequences(random_sentences([4, 9, 2]), pad_id=0, last_id=2)
    for beam in (1, 3):
        settings = SearchSettings(beam=beam, min_length_ratio=2.0, max_length_ratio=2.0, max_length=17)
        for (best,), length in zip(search(model, source, lengths, settings, TOKENS), lengths.tolist(), strict=True):
            assert min(2 * length, 17) <= len(best.ids) <= min(2 * length + 10, 17)
            assert best.ids[-1] == 2


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_stands_twice(size: int, beam: int) -> None:
    model = small_model("transformer-post")
    source, lengths = pad_sequences(random_sentences([9, 9, 9, 9]), pad_id=0, last_id=2)
    settings = SearchSettings(beam=beam, no_repeat_ngram=size, min_length_ratio=1.5)
    repeats_somewhere = False
    for constrained in (True, False):
        used = settings if constrained else dataclasses.replace(settings, no_repeat_ngram=0)
        for (best,) in search(model, source, lengths, used, TOKENS):
            ngrams = [best.ids[i : i + size] for i in range(len(best.ids) - size + 1)]
            if constrained:
                assert len(ngrams) == len(set(ngrams))
            repeats_somewhere |= len(ngrams) > len(set(ngrams))
    assert repeats_somewhere  # the constraint had something to forbid


@looking
def test_coverage_is_the_papers_formula(name: str) -> None:
    model = small_model(name)
    source, lengths = pad_sequences(random_sentences([4, 7]), pad_id=0, last_id=2)
    settings = SearchSettings(beam=3, nbest=3, coverage_penalty=0.3, length_penalty=1.0)
    attention = model.attentions()["cross"][-1]
    found = search(model, source, lengths, settings, TOKENS, attention)
    assert attention.tap is None
    for place, best in enumerate(found):
        for hypothesis in best:
            expected = settings.normalized(hypothesis.log_probability, len(hypothesis.ids))
            expected += 0.3 * penalty_by_hand(model, source[place], int(lengths[place]), hypothesis.ids)
            assert hypothesis.score == pytest.approx(expected, abs=1e-4)


@looking
def test_a_recorder_sees_what_coverage_watches(name: str) -> None:
    model = small_model(name)
    source, lengths = pad_sequences(random_sentences([4, 7]), pad_id=0, last_id=2)
    settings = SearchSettings(beam=3, coverage_penalty=0.3)
    last = len(model.attentions()["cross"]) - 1
    alone = search(model, source, lengths, settings, TOKENS, model.attentions()["cross"][last])
    with record_attention(model, layers=[last]) as record:
        found = search(model, source, lengths, settings, TOKENS, model.attentions()["cross"][last])
    assert texts(found) == texts(alone)
    # One call a step, of the longest hypothesis at least.
    assert len(record.cross[last].parts) >= max(len(best.ids) for (best,) in found) > 1


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize(("beam", "phrases"), [(1, []), (3, []), (3, [(3,)])], ids=["greedy", "beam", "phrases"])
def test_scores_that_are_no_numbers_are_the_models_fault(
    wrong: float, beam: int, phrases: list[tuple[int, ...]]
) -> None:
    decoder = ToyDecoder(num_sources=1, vocab_size=6, longest=3, seed=1)
    # From the second token on.
    decoder.tables[1][..., 4] = wrong
    settings = SearchSettings(beam=beam, max_length=3, min_length_ratio=3.0)
    with pytest.raises(ModelError, match=r"the model's scores for the next token are no numbers \(NaN or infinite\)"):
        search(decoder, torch.tensor([[0]]), torch.tensor([1]), settings, TOKENS, phrases=phrases)


def test_coverage_needs_attention() -> None:
    model = small_model("rnn-encdec")
    source, lengths = pad_sequences(random_sentences([4]), pad_id=0, last_id=2)
    with pytest.raises(RequestError, match=r"`coverage_penalty` is 0.2, but this model has no attention"):
        search(model, source, lengths, SearchSettings(coverage_penalty=0.2), TOKENS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beam": 0}, "`beam` must be a number from 1 up, but is 0"),
        ({"nbest": 5}, r"`nbest` must not exceed `beam` \(4\), but is 5"),
        ({"max_length_ratio": 0.5, "min_length_ratio": 0.7}, r"`max_length_ratio` \(0.5\) must not be below"),
        ({"no_repeat_ngram": -1}, "`no_repeat_ngram` must be a number from 0 up, but is -1"),
        ({"length_penalty": float("nan")}, "`length_penalty` must be a number"),
    ],
)
def test_settings_refuse_what_cannot_work(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        SearchSettings(**wrong)  # type: ignore[arg-type]


def test_gnmt_length_penalty() -> None:
    assert SearchSettings(length_penalty=0.6).normalized(-6.0, 7) == pytest.approx(-6.0 / (12**0.6 / 6**0.6))
