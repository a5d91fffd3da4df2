"""Required phrases stand in every target, and the best such target is found where the beam is wide enough."""

import pytest
import torch
from tests.decoding.toys import TOKENS, ToyDecoder, all_targets
from tests.models.zoo import SMALL_MODELS, random_sentences, small_model

from trasluz.decoding.phrase_search import Phrase, Progress, phrase_search
from trasluz.decoding.search import search
from trasluz.decoding.settings import SearchSettings
from trasluz.errors import RequestError
from trasluz.text.batching import pad_sequences


def holds(text: tuple[int, ...], phrase: Phrase) -> bool:
    return any(text[place : place + len(phrase)] == phrase for place in range(len(text)))


@pytest.mark.parametrize("phrases", [[(3,)], [(3, 4)], [(5,), (3,)], [(4, 4)]], ids=str)
def test_a_wide_beam_finds_the_best_target_with_the_phrases(phrases: list[Phrase]) -> None:
    decoder = ToyDecoder(num_sources=2, vocab_size=6, longest=4, seed=3)
    settings = SearchSettings(beam=150, nbest=3, max_length=4, length_penalty=1.0)
    for place in range(2):
        source, lengths = torch.tensor([[place, 9, 9]]), torch.tensor([3])
        found = phrase_search(decoder, source, lengths, settings, TOKENS, phrases)
        every = all_targets(decoder, place, settings, 3)
        wanted = [one for one in every if all(holds(one.ids, phrase) for phrase in phrases)]
        assert [one.ids for one in found] == [one.ids for one in wanted[:3]]
        assert found[0].score == pytest.approx(wanted[0].score, abs=1e-4)


@pytest.mark.parametrize("name", SMALL_MODELS)
@pytest.mark.parametrize("beam", [1, 4])
def test_every_model_writes_what_is_required(name: str, beam: int) -> None:
    model = small_model(name)
    phrases: list[Phrase] = [(7, 7, 11), (19,)]
    source, lengths = pad_sequences(random_sentences([8]), pad_id=0, last_id=2)
    settings = SearchSettings(beam=beam, nbest=beam)
    (found,) = search(model, source, lengths, settings, TOKENS, phrases=phrases)
    assert found
    for one in found:
        assert all(holds(one.ids, phrase) for phrase in phrases)
        assert one.ids[-1] == TOKENS.eos_id
        assert one.score == pytest.approx(settings.normalized(one.log_probability, len(one.ids)))
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_what_the_model_would_say_anyway_is_said_so() -> None:
    model = small_model("transformer-post")
    source, lengths = pad_sequences(random_sentences([6]), pad_id=0, last_id=2)
    settings = SearchSettings(beam=4)
    ((free,),) = search(model, source, lengths, settings, TOKENS)
    bound = phrase_search(model, source, lengths, settings, TOKENS, [free.ids[1:3]])
    assert bound[0].score >= free.score - 1e-6


def test_an_unlikely_phrase_is_written_where_it_costs_least_and_the_target_ends_after_it() -> None:
    # Token 3 is likely, the end follows it gladly; 4 is required, very unlikely, and best said second.
    decoder = ToyDecoder(num_sources=1, vocab_size=6, longest=6, seed=0)
    for table in decoder.tables:
        table[:] = torch.tensor([-99.0, -99.0, 5.0, 6.0, -20.0, -8.0])
    decoder.tables[1][:, :, 4] = -15.0
    settings = SearchSettings(beam=2, max_length=6, length_penalty=0.0)
    found = phrase_search(decoder, torch.tensor([[0]]), torch.tensor([1]), settings, TOKENS, [(4,)])
    assert found[0].ids == (3, 4, 2)


def test_where_there_is_no_room_the_longest_length_ends_the_target() -> None:
    decoder = ToyDecoder(num_sources=1, vocab_size=6, longest=3, seed=1)
    settings = SearchSettings(beam=2, max_length=3)
    found = phrase_search(decoder, torch.tensor([[0]]), torch.tensor([1]), settings, TOKENS, [(3, 3, 3, 3)])
    assert len(found[0].ids) == 3


def test_where_there_is_room_for_one_phrase_of_two_it_is_written_however_unlikely() -> None:
    decoder = ToyDecoder(num_sources=1, vocab_size=7, longest=4, seed=0)
    for table in decoder.tables:
        table[:] = torch.tensor([-99.0, -99.0, 0.0, 9.0, 0.0, -5.0, -5.0])
    settings = SearchSettings(beam=4, nbest=4, max_length=4)
    source, lengths = torch.tensor([[0]]), torch.tensor([1])
    found = phrase_search(decoder, source, lengths, settings, TOKENS, [(4, 4), (5, 6)])
    assert found and all(holds(one.ids, (4, 4)) or holds(one.ids, (5, 6)) for one in found)


def test_progress_through_phrases() -> None:
    progress = Progress(((3, 4), (3,), (5,)))
    assert progress.wanted() == {3, 5}
    begun = progress.after(3)
    assert (begun.begun, begun.num_tokens, begun.wanted(), begun.complete) == ((3, 4), 1, {4}, False)
    # Broken off, the phrase is missing again; the token that broke it may begin another.
    broken = begun.after(5)
    assert broken.num_tokens == 1 and set(broken.missing) == {(3, 4), (3,)}
    through = broken
    for token in (3, 4, 3):
        through = through.after(token)
    assert through.complete and through.num_tokens == 4
    assert through.after(9) == through


def test_phrases_and_coverage_are_refused_together() -> None:
    model = small_model("rnnsearch")
    source, lengths = pad_sequences(random_sentences([4]), pad_id=0, last_id=2)
    with pytest.raises(RequestError, match=r"`coverage_penalty` is 0\.2, and a glossary asks for phrases: have one"):
        search(model, source, lengths, SearchSettings(coverage_penalty=0.2), TOKENS, phrases=[(5,)])
