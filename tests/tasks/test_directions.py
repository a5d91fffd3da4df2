"""Which language to which: what fits is chosen, what does not is told with what there is."""

from dataclasses import replace

import pytest
from torch import nn

from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.errors import ModelError, RequestError
from trasluz.tasks.directions import Direction, Directions, directions_of


class Names:
    """A tokenizer as far as directions need one."""

    def __init__(self, *names: str, codes: tuple[str, ...] = ()) -> None:
        self.names = names
        self.language_codes = codes

    def id_of(self, token: str) -> int | None:
        return self.names.index(token) if token in self.names else None


def loaded(tokenizer: Names, languages: tuple[str, ...] = (), both: bool = False) -> LoadedModel:
    return LoadedModel(nn.Module(), None, tokenizer, tokenizer, languages=languages, both_directions=both, name="m")


FORTH, BACK = Direction("en", "es", 2), Direction("es", "en", 1)
BOTH = Directions("m", (FORTH, BACK))
ONE = Directions("m", (Direction("en", "es"),))
UNKNOWN = Directions("m", (Direction(None, None),))
MANY = Directions("m", tuple(Direction(None, f"l{number}", number) for number in range(12)))


def test_what_a_model_translates() -> None:
    assert directions_of(loaded(Names("x", "<2en>", "<2es>"), ("en", "es"), True)) == BOTH
    assert directions_of(loaded(Names(), ("en", "es"))) == ONE
    assert directions_of(loaded(Names())) == UNKNOWN
    codes = (">>fra<<", ">>ron<<")
    several = directions_of(loaded(Names(*codes, codes=codes)))
    assert several.all == (Direction(None, "fra", 0), Direction(None, "ron", 1))
    with_source = replace(loaded(Names(*codes, codes=codes)), languages=("en", "roa"))
    assert directions_of(with_source).choose("ron", "en") == Direction("en", "ron", 1)


def test_a_tag_that_the_tokenizer_lacks() -> None:
    with pytest.raises(ModelError, match="m translates to es, but its tokenizer has no <2es>"):
        directions_of(loaded(Names("<2en>"), ("en", "es"), True))


@pytest.mark.parametrize(
    ("directions", "to", "from_", "expected"),
    [
        (BOTH, "es", None, FORTH),
        (BOTH, None, "es", BACK),
        (BOTH, "en", "es", BACK),
        (ONE, None, None, ONE.all[0]),
        (ONE, "es", "en", ONE.all[0]),
        (UNKNOWN, None, None, UNKNOWN.all[0]),
        (MANY, "l7", None, MANY.all[7]),
    ],
)
def test_what_fits_is_chosen(directions: Directions, to: str | None, from_: str | None, expected: Direction) -> None:
    assert directions.choose(to, from_) == expected


@pytest.mark.parametrize(
    ("directions", "to", "from_", "message"),
    [
        (BOTH, None, None, "m translates en to es and es to en: say which, with `to`."),
        (BOTH, "fr", None, "`to` is 'fr', but m translates to en and es only."),
        (BOTH, "ess", None, "`to` is 'ess', but m translates to en and es only. Did you mean 'es'?"),
        (BOTH, None, "de", "`from_` is 'de', but m translates from en and es only."),
        (BOTH, "es", "es", "m translates en to es and es to en, not es to es."),
        (ONE, "en", None, "`to` is 'en', but m translates to es only."),
        (
            UNKNOWN,
            "es",
            None,
            "`to` is 'es', but m does not say which language it translates to: leave `to` out.",
        ),
        (
            UNKNOWN,
            None,
            "en",
            "`from_` is 'en', but m does not say which language it translates from: leave `from_` out.",
        ),
        (
            MANY,
            None,
            None,
            "m translates ? to l0, ? to l1, ? to l2, ? to l3, ? to l4, ? to l5, ? to l6, ? to l7 and 4 more: "
            "say which, with `to`.",
        ),
    ],
)
def test_what_does_not_is_told(directions: Directions, to: str | None, from_: str | None, message: str) -> None:
    with pytest.raises(RequestError) as error:
        directions.choose(to, from_)
    assert str(error.value) == message
