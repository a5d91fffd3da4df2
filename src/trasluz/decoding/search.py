"""The one door to the searches: greedy for a beam of 1, beam search otherwise, another where phrases are required."""

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from trasluz.decoding.beam_search import beam_search
from trasluz.decoding.coverage import Coverage
from trasluz.decoding.greedy import greedy_search
from trasluz.decoding.phrase_search import Phrase, phrase_search
from trasluz.decoding.settings import DecodingTokens, Hypothesis, SearchSettings
from trasluz.errors import RequestError
from trasluz.layers.attention import Attention, tapped
from trasluz.models.stepper import StateT, Stepper


def search(
    stepper: Stepper[StateT],
    source: Int[Tensor, "sources source"],
    source_lengths: Int[Tensor, " sources"],
    settings: SearchSettings,
    tokens: DecodingTokens,
    alignment: Attention | None = None,
    phrases: Sequence[Phrase] = (),
    batch_tokens: int | None = None,
) -> list[list[Hypothesis]]:
    """Return up to `nbest` hypotheses a source, best first.

    At most `batch_tokens` tokens of sources, padding included, are worked on at once: the longest first, and others as
    soon as some are done; without, all at once. `alignment` is the attention that a coverage penalty watches;
    RequestError if one is asked for without it. `phrases`, for a single source, must all stand in its target; they do
    not go together with a coverage penalty.
    """
    check_coverage(settings, has_attention=alignment is not None, has_phrases=bool(phrases))
    if phrases:
        return [phrase_search(stepper, source, source_lengths, settings, tokens, phrases)]
    if settings.coverage_penalty:
        assert alignment is not None
        coverage = Coverage(settings.beam, source.device)
        with tapped(alignment, coverage.add):
            return beam_search(stepper, source, source_lengths, settings, tokens, coverage, batch_tokens=batch_tokens)
    if settings.beam == 1:
        return greedy_search(stepper, source, source_lengths, settings, tokens, batch_tokens)
    return beam_search(stepper, source, source_lengths, settings, tokens, batch_tokens=batch_tokens)


def check_coverage(settings: SearchSettings, *, has_attention: bool, has_phrases: bool) -> None:
    """Raise RequestError for a coverage penalty that has nothing to go by, or beside phrases."""
    if settings.coverage_penalty and has_phrases:
        raise RequestError(
            f"`coverage_penalty` is {settings.coverage_penalty}, and a glossary asks for phrases: have one or the "
            "other."
        )
    if settings.coverage_penalty and not has_attention:
        raise RequestError(
            f"`coverage_penalty` is {settings.coverage_penalty}, but this model has no attention over its source to "
            "measure coverage by; use 0."
        )
