"""How a text is to be continued: what a call asks for, over what the model's generation_config.json says.

Where neither asks for a beam, tokens are drawn; `temperature=0` or `beam=1` takes the likeliest one each time.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import torch

from trasluz.decoding.sampling import SamplingSettings
from trasluz.errors import RequestError, TrasluzWarning
from trasluz.tasks.generation_defaults import CHOICES, PENALTIES, GenerationDefaults
from trasluz.tasks.option_checks import check_names, count, number, stop_strings

# Tokens in a batch, prompts and texts together, where nobody says how many.
BATCH_TOKENS = 4096

_COUNTS = ("max_tokens", "beam", "samples", "batch_tokens")


class GenerationOptions(TypedDict, total=False):
    """What a call may ask for; None is the model's own choice.

    `max_tokens` counts those of the text alone. `stop` are strings before which the text ends. `samples` are texts
    drawn, or the best of a `beam`, which finds fewer where several of its hypotheses are one text up to a stop string.
    The same `seed` draws the same text. `slide` lets prompt and text be longer than the model's window, which then sees
    their last part only.
    """

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    stop: str | Sequence[str] | None
    beam: int | None
    samples: int | None
    seed: int | None
    slide: bool | None
    batch_tokens: int | None


@dataclass(frozen=True)
class GenerationSettings:
    """What is done for a call; `beam` None: tokens are drawn."""

    drawing: SamplingSettings
    max_tokens: int
    beam: int | None
    samples: int
    stop: tuple[str, ...]
    seed: int
    slide: bool
    batch_tokens: int


def chosen_settings(defaults: GenerationDefaults, options: GenerationOptions) -> GenerationSettings:
    """Return what a model is to do for a call; RequestError for an option that cannot be, or not beside another."""
    check_names(options, GenerationOptions.__annotations__)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    counts = {name: count(name, given[name]) for name in _COUNTS if name in given}
    choices, penalties = (
        {name: number(name, given[name], kind) for name, kind in kinds.items() if name in given}
        for kinds in (CHOICES, PENALTIES)
    )
    beam = counts.get("beam")
    if beam is not None and choices:
        name = next(iter(choices))
        raise RequestError(
            f"`{name}` is for texts that are drawn, and `beam` searches the likeliest: give one of them."
        )
    if beam is not None and beam > 1 and penalties:
        raise RequestError(
            f"`{next(iter(penalties))}` does not go together with a `beam` of {beam}: draw, or take a beam of 1."
        )
    if beam is None and not choices and not penalties:
        beam = defaults.beam
    samples = counts.get("samples", 1)
    if beam is not None and samples > beam:
        raise RequestError(f"`samples` must not exceed `beam` ({beam}), but is {samples}.")
    slide = bool(given.get("slide", False))
    if slide and beam is not None and beam > 1:
        raise RequestError(f"`slide` does not go together with a `beam` of {beam}: draw, or take a beam of 1.")
    if beam is not None and beam > 1 and defaults.drawing.repetition_penalty != 1.0:
        warnings.warn(
            "generation_config.json: repetition_penalty is not followed by a beam over 1.", TrasluzWarning, stacklevel=2
        )
    temperature = 0.0 if beam is not None else defaults.drawing.temperature
    if choices:
        # Who asks for the K likeliest means to draw, though the model by itself would not.
        temperature = temperature or 1.0
    return GenerationSettings(
        drawing=replace(defaults.drawing, **{"temperature": temperature, **choices, **penalties}),
        max_tokens=counts.get("max_tokens", defaults.max_tokens),
        beam=beam,
        samples=samples,
        stop=stop_strings("stop", given.get("stop", defaults.stop)),
        seed=_seed(given.get("seed")),
        slide=slide,
        batch_tokens=counts.get("batch_tokens", BATCH_TOKENS),
    )


def _seed(given: Any) -> int:
    """Return the seed that was given, or one of torch's own random numbers."""
    if given is None:
        return int(torch.randint(1 << 62, ()))
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise RequestError(f"`seed` must be a whole number from 0 up, but is {given!r}.")
    return given
