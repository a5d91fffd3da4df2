"""How a model wants to be searched, and what a call changes of it: generation_config.json in words of `SearchSettings`.

Hugging Face's `length_penalty` divides by |Y|^penalty, ours by ((5 + |Y|) / 6)^penalty; models of ours say so in the
file.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict

from trasluz.checkpoints.generation_settings import max_target_tokens
from trasluz.decoding.settings import SearchSettings
from trasluz.errors import RequestError
from trasluz.tasks.option_checks import check_names, number

# Source tokens, padding included, that are translated together.
BATCH_TOKENS = 1024

# Hugging Face knows no limit relative to the source: one that a target of `max_length` always stays within.
_NO_RATIO = 1e6


class SearchOptions(TypedDict, total=False):
    """What a call may change of the model's own `SearchSettings`, and `batch_tokens`."""

    beam: int
    length_penalty: float
    coverage_penalty: float
    nbest: int
    min_length_ratio: float
    max_length_ratio: float
    max_length: int
    no_repeat_ngram: int
    batch_tokens: int


def search_defaults(generation: Mapping[str, Any], longest: int | None) -> SearchSettings:
    """Return the settings of a model; `longest` is the most target tokens its positions allow, None without end."""
    settings = SearchSettings()
    theirs = generation.get("normalization") == "power"
    max_length = _or(max_target_tokens(generation), settings.max_length)
    return SearchSettings(
        beam=_or(generation.get("num_beams"), 1 if theirs else settings.beam),
        length_penalty=float(_or(generation.get("length_penalty"), 1.0 if theirs else settings.length_penalty)),
        normalization="power" if theirs else "gnmt",
        no_repeat_ngram=_or(generation.get("no_repeat_ngram_size"), 0),
        max_length=max_length if longest is None else min(max_length, longest),
        max_length_ratio=_NO_RATIO if theirs else settings.max_length_ratio,
        renormalize=bool(generation.get("renormalize_logits")),
        at_limit="free-end" if theirs and generation.get("forced_eos_token_id") is not None else "end",
    )


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def changed_settings(settings: SearchSettings, options: SearchOptions) -> tuple[SearchSettings, int]:
    """Return a model's settings with what a call changes, and the batch's tokens; RequestError for a wrong option."""
    known = SearchOptions.__annotations__
    check_names(options, known)
    changes = {name: number(name, value, known[name]) for name, value in options.items() if value is not None}
    batch_tokens = changes.pop("batch_tokens", BATCH_TOKENS)
    if batch_tokens < 1:
        raise RequestError(f"`batch_tokens` must be at least 1, but is {batch_tokens}.")
    # Who asks for several translations wants them looked for, too.
    changes.setdefault("beam", max(settings.beam, changes.get("nbest", 1)))
    return replace(settings, **changes), batch_tokens
