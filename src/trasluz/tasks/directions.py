"""From which language to which: what a model can do, what was asked for, and the tag that tells the model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trasluz.checkpoints.model_folder import LoadedModel, language_tag
from trasluz.errors import ModelError, RequestError, nearest

_SHOWN = 8


@dataclass(frozen=True)
class Direction:
    """One way to translate, and the token that begins the source for it; None where a model does not say or need it."""

    from_language: str | None
    to_language: str | None
    tag_id: int | None = None


def directions_of(loaded: LoadedModel) -> "Directions":
    """Return what a model translates.

    Raises ModelError where it needs language tags that its tokenizer lacks.
    """
    languages = loaded.languages
    codes: Sequence[str] = getattr(loaded.source_tokenizer, "language_codes", ())
    if codes:
        source = languages[0] if languages else None
        tagged = [(source, code.removeprefix(">>").removesuffix("<<"), code) for code in codes]
    elif loaded.both_directions:
        first, second = languages
        tagged = [(first, second, language_tag(second)), (second, first, language_tag(first))]
    elif len(languages) == 2:
        return Directions(loaded.name, (Direction(*languages),))
    else:
        return Directions(loaded.name, (Direction(None, None),))
    found = []
    for from_language, to_language, tag in tagged:
        tag_id = loaded.source_tokenizer.id_of(tag)
        if tag_id is None:
            raise ModelError(f"{loaded.name} translates to {to_language}, but its tokenizer has no {tag}.")
        found.append(Direction(from_language, to_language, tag_id))
    return Directions(loaded.name, tuple(found))


@dataclass(frozen=True)
class Directions:
    """What a model translates."""

    name: str
    all: tuple[Direction, ...]

    def choose(self, to: str | None, from_: str | None) -> Direction:
        """Return the one direction that fits; RequestError, naming those there are, where none or several do."""
        fitting = [d for d in self.all if to in (None, d.to_language) and from_ in (None, d.from_language)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise RequestError(f"{self.name} translates {self._ways()}: say which, with `to`.")
        self._refuse("to", to, [d.to_language for d in self.all])
        self._refuse("from_", from_, [d.from_language for d in self.all])
        raise RequestError(f"{self.name} translates {self._ways()}, not {from_} to {to}.")

    def _refuse(self, option: str, language: str | None, there_are: Iterable[str | None]) -> None:
        known = sorted({name for name in there_are if name is not None})
        if language is None or language in known:
            return
        side = {"to": "to", "from_": "from"}[option]
        if not known:
            raise RequestError(
                f"`{option}` is {language!r}, but {self.name} does not say which language it translates {side}: "
                f"leave `{option}` out."
            )
        close = nearest(language, known)
        hint = f" Did you mean {close!r}?" if close else ""
        raise RequestError(
            f"`{option}` is {language!r}, but {self.name} translates {side} {_listed(known)} only.{hint}"
        )

    def _ways(self) -> str:
        return _listed([f"{d.from_language or '?'} to {d.to_language}" for d in self.all])


def _listed(names: Sequence[str]) -> str:
    if len(names) > _SHOWN:
        return f"{', '.join(names[:_SHOWN])} and {len(names) - _SHOWN} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
