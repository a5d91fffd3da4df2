"""How a model wants to continue texts: its generation_config.json in our words, checked once.

    do_sample true     tokens are drawn, by the file's temperature and the like
    do_sample false    the likeliest token each time
    not said           tokens are drawn from the model's distribution as it is

Without do_sample, or where it is false, `num_beams` over 1 is a beam. Penalties hold however a token is chosen.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trasluz.checkpoints.generation_settings import UNFOLLOWED
from trasluz.decoding.sampling import SamplingSettings
from trasluz.errors import ModelError, RequestError, TrasluzWarning
from trasluz.tasks.option_checks import count, number, stop_strings

MAX_TOKENS = 256

CHOICES = {"temperature": float, "top_k": int, "top_p": float, "min_p": float}
"""What shapes a draw, and its kind of number."""
PENALTIES = {"repetition_penalty": float, "frequency_penalty": float}
"""What holds for greedy search, too."""


@dataclass(frozen=True)
class GenerationDefaults:
    """What is done where a call asks for nothing else; `beam` None: tokens are drawn, as `drawing` says.

    `ends` are the tokens of which each ends a text; empty: as config.json says.
    """

    drawing: SamplingSettings
    max_tokens: int
    beam: int | None
    length_penalty: float
    stop: tuple[str, ...]
    ends: tuple[int, ...]


def generation_defaults(generation: Mapping[str, Any], longest: int) -> GenerationDefaults:
    """Return what a generation_config.json asks for; ModelError for a value that cannot be.

    What is not followed is remarked on; a `max_length` that no text of a window of `longest` tokens reaches asks for
    nothing.
    """
    try:
        defaults = _read(generation)
        shortens = "max_length" in generation and count("max_length", generation["max_length"]) < longest
    except RequestError as error:
        # Not as options: nobody has typed them.
        raise ModelError(f"generation_config.json: {str(error).replace('`', '')}") from None
    ignored = [name for name, neutral in UNFOLLOWED.items() if generation.get(name, neutral) not in (neutral, [])]
    if shortens and "max_new_tokens" not in generation:
        ignored.append("max_length")
    if ignored:
        warnings.warn(
            f"generation_config.json: {', '.join(ignored)} {'is' if len(ignored) == 1 else 'are'} not followed.",
            TrasluzWarning,
            stacklevel=2,
        )
    return defaults


def _read(generation: Mapping[str, Any]) -> GenerationDefaults:
    drawn = generation.get("do_sample")
    if not isinstance(drawn, bool | None):
        raise RequestError(f"do_sample must be true or false, but is {drawn!r}.")
    beam = count("num_beams", generation.get("num_beams", 1))
    followed = (PENALTIES | CHOICES) if drawn else PENALTIES
    drawing = {name: number(name, generation[name], kind) for name, kind in followed.items() if name in generation}
    if drawn is False:
        drawing["temperature"] = 0.0
    return GenerationDefaults(
        drawing=SamplingSettings(**drawing),
        max_tokens=count("max_new_tokens", generation.get("max_new_tokens", MAX_TOKENS)),
        beam=beam if beam > 1 and not drawn else None,
        length_penalty=number("length_penalty", generation.get("length_penalty", 1.0), float),
        stop=stop_strings("stop_strings", generation.get("stop_strings", ())),
        ends=tuple(_token("eos_token_id", index) for index in generation.get("eos_token_id", ())),
    )


def _token(name: str, index: Any) -> int:
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        raise RequestError(f"{name} holds {index!r}, but each must be a token's id.")
    return index
