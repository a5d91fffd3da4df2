"""How a text is to be continued: what a call asks for, over what the model's generation_config.json says.

Where neither asks for a beam, tokens are drawn; `temperature=0` or `beam=1` takes the likeliest one each time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import torch

from trasluz.decoding.sampling import SamplingSettings
from trasluz.errors import RequestError, nearest

MAX_TOKENS = 256
# Tokens in a batch, prompts and texts together, where nobody says how many.
BATCH_TOKENS = 4096

_DRAWING = {
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
    "frequency_penalty": float,
}
_COUNTS = ("max_tokens", "beam", "samples", "batch_tokens")


class GenerationOptions(TypedDict, total=False):
    """What a call may ask for; None is the model's own choice.

    `max_tokens` counts those of the text alone. `stop` are strings before which the text ends; what a beam finds is cut
    there. `samples` are texts drawn, or the best of a `beam`. The same `seed` draws the same text. `slide` lets prompt
    and text be longer than the model's window, which then sees their last part only.
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


def chosen_settings(generation: Mapping[str, Any], options: GenerationOptions) -> GenerationSettings:
    """Return what a model is to do for a call; RequestError for an option that cannot be, or not beside another."""
    known = GenerationOptions.__annotations__
    for name in options:
        if name not in known:
            close = nearest(name, known)
            hint = f" Did you mean {close}?" if close else f" There are {', '.join(known)}."
            raise RequestError(f"there is no option {name!r}.{hint}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    counts = {name: _count(name, given[name]) for name in _COUNTS if name in given}
    drawing = {name: _number(name, given[name], kind) for name, kind in _DRAWING.items() if name in given}
    beam = counts.get("beam")
    if beam is not None and drawing:
        name = next(iter(drawing))
        raise RequestError(
            f"`{name}` is for texts that are drawn, and `beam` searches the likeliest: give one of them."
        )
    drawn = bool(generation.get("do_sample"))
    if beam is None and not drawing and not drawn and generation.get("num_beams", 1) > 1:
        beam = int(generation["num_beams"])
    theirs = {name: generation[name] for name in _DRAWING if drawn and generation.get(name) is not None}
    samples = counts.get("samples", 1)
    if beam is not None and samples > beam:
        raise RequestError(f"`samples` must not exceed `beam` ({beam}), but is {samples}.")
    slide = bool(given.get("slide", False))
    if slide and beam is not None and beam > 1:
        raise RequestError(f"`slide` does not go together with a `beam` of {beam}: draw, or take a beam of 1.")
    return GenerationSettings(
        drawing=replace(SamplingSettings(**theirs), **drawing) if beam is None else SamplingSettings(temperature=0.0),
        max_tokens=counts.get("max_tokens", generation.get("max_new_tokens") or MAX_TOKENS),
        beam=beam,
        samples=samples,
        stop=_stop(given.get("stop", ())),
        seed=_seed(given.get("seed")),
        slide=slide,
        batch_tokens=counts.get("batch_tokens", BATCH_TOKENS),
    )


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RequestError(f"`{name}` must be a whole number from 1 up, but is {value!r}.")
    return value


def _number(name: str, value: Any, kind: type) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool) and (kind is float or value == int(value)):
        return kind(value)
    raise RequestError(f"`{name}` must be a {'number' if kind is float else 'whole number'}, but is {value!r}.")


def _stop(given: Any) -> tuple[str, ...]:
    strings = (given,) if isinstance(given, str) else tuple(given)
    for string in strings:
        if not isinstance(string, str) or not string:
            raise RequestError(f"`stop` holds {string!r}; texts of one character at least were expected.")
    return strings


def _seed(given: Any) -> int:
    """Return the seed that was given, or one of torch's own random numbers."""
    if given is None:
        return int(torch.randint(1 << 62, ()))
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise RequestError(f"`seed` must be a whole number from 0 up, but is {given!r}.")
    return given
