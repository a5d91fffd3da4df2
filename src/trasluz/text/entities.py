"""Entities of a text as spans of tokens, and as one tag a token: IOB1, BIO and BIOES; BILOU is read as well.

    tokens   Ana     Ruiz    left  Lima    Peru    today
    IOB1     I-PER   I-PER   O     I-LOC   B-LOC   O        B only between two neighbours of one label
    BIO      B-PER   I-PER   O     B-LOC   B-LOC   O        B begins, I goes on
    BIOES    B-PER   E-PER   O     S-LOC   S-LOC   O        E ends, S stands alone
    BILOU    B-PER   L-PER   O     U-LOC   U-LOC   O        the same, by the names of last and unit
    spans    PER 0 to 2, LOC 3 to 4, LOC 4 to 5

IOB1 is that of Ramshaw and Marcus (1995); BIO is also called IOB2 (Tjong Kim Sang and Veenstra 1999), BIOES also IOBES.
A tag without a label (`B`, not `B-PER`) is one of the empty label. Tags that a model predicts need not be well-formed:
they are read as conlleval reads them, the program of the shared task of CoNLL-2003.

Labels may also be of another kind, as parts of speech are, or PER and LOC alone: there, neighbours of one label are one
entity (`entity_decoder`).
"""

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple, get_args

from trasluz.errors import DataError

Scheme = Literal["iob1", "bio", "bioes"]
SCHEMES: tuple[str, ...] = get_args(Scheme)

OUTSIDE = "O"

NO_TAG = "write O, or B, I, E or S with a hyphen and a label, such as B-PER"
"""What would be right in place of what is no tag of an entity."""

_TAG = re.compile(r"(?P<prefix>[BIESLU])(?:-(?P<label>.+))?", re.DOTALL)
# BILOU's names for the ends of BIOES.
_OF_BIOES = {"L": "E", "U": "S"}


@dataclass(frozen=True, slots=True)
class Entity:
    """A labelled stretch of tokens, from `start` to just before `end`, counted from 0."""

    label: str
    start: int
    end: int


def is_entity_tag(tag: str) -> bool:
    """Tell whether a tag is one of the schemes'."""
    return tag == OUTSIDE or _TAG.fullmatch(tag) is not None


def is_entity_scheme(labels: Iterable[str]) -> bool:
    """Tell whether the labels of a model are tags of entities; some have others beside them, such as [CLS]."""
    found = list(labels)
    return all(map(is_entity_tag, found)) or any(label.startswith(("B-", "I-")) for label in found)


def entity_decoder(labels: Iterable[str]) -> Callable[[Sequence[str]], list[Entity]]:
    """Return what finds the entities in tags that are among these labels.

    Where the labels are tags of entities, it is `decode_entities`, to which others are outside; else each run of
    neighbours of one label but O is an entity.
    """
    found = list(labels)
    if not is_entity_scheme(found):
        return _runs
    others = [label for label in found if not is_entity_tag(label)]
    return lambda tags: decode_entities([OUTSIDE if tag in others else tag for tag in tags])


def _runs(tags: Sequence[str]) -> list[Entity]:
    places = (list(run) for _, run in groupby(range(len(tags)), lambda place: tags[place]))
    return [Entity(tags[run[0]], run[0], run[-1] + 1) for run in places if tags[run[0]] != OUTSIDE]


def decode_entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities that the tags of one text spell, in order, whichever scheme they are in.

    I and E go on with an entity where B or I of the same label stands before them; every other tag but O begins one.
    Well-formed tags of the three schemes mean what they should under this one rule, and ill-formed ones what they mean
    to conlleval. Raises DataError on what is no tag of an entity at all.
    """
    entities: list[Entity] = []
    start = 0
    before, label_before = "O", ""
    # The last one ends what is still open.
    for position, tag in enumerate((*tags, OUTSIDE)):
        prefix, label = _split(tag)
        if not (prefix in "IE" and before in "BI" and label == label_before):
            if before != "O":
                entities.append(Entity(label_before, start, position))
            start = position
        before, label_before = prefix, label
    return entities


def encode_entities(entities: Iterable[Entity], length: int, scheme: Scheme) -> list[str]:
    """Return the tags of a text of `length` tokens that has these entities.

    Raises DataError where an entity is empty or not within the text, and where two share a token.
    """
    tags = ["O"] * length
    last: Entity | None = None
    for entity in sorted(entities, key=lambda entity: (entity.start, entity.end)):
        if not 0 <= entity.start < entity.end <= length:
            raise DataError(
                f"{_words(entity)} is no stretch of a text of {length} tokens: "
                f"its start must be at least 0 and below its end, and its end at most {length}."
            )
        if last and entity.start < last.end:
            raise DataError(
                f"{_words(last)} and {_words(entity)} share a token; one tag a token can tell only one of them."
            )
        touches = last is not None and last.end == entity.start and last.label == entity.label
        for position, prefix in enumerate(_prefixes(entity.end - entity.start, touches, scheme), entity.start):
            tags[position] = f"{prefix}-{entity.label}" if entity.label else prefix
        last = entity
    return tags


def convert_tags(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """Return the tags of the same entities in another scheme; well-formed tags come back from there unchanged.

    Ill-formed ones become the well-formed tags of the entities that `decode_entities` finds.
    """
    return encode_entities(decode_entities(tags), len(tags), scheme)


def recognize_scheme(sequences: Collection[Sequence[str]], source: str = "the tags") -> Scheme:
    """Return the one scheme in which the tags of all texts are well-formed; "bio" where every tag is O.

    Raises DataError that names the first tag which fits no scheme; `source` is what it calls the whole, such as a file.
    """
    prefixes = {_split_at(tag, place, source)[0] for place, tag in _places(sequences)}
    # Every entity of BIOES has E or S, and none of the others. A first entity begins with B in BIO, with I in IOB1.
    candidates: tuple[Scheme, ...] = ("bioes",) if prefixes & {"E", "S"} else ("bio", "iob1")
    faults = []
    for scheme in candidates:
        fault = _first_fault(sequences, scheme)
        if fault is None:
            return scheme
        faults.append(fault)
    # The scheme that explains most is the one that was meant.
    last = max(faults, key=lambda fault: fault.place)
    raise DataError(
        f"{_name(last.place, source)}: the tag {last.tag!r} fits none of IOB1, BIO and BIOES together with the other "
        f"tags. In {last.scheme.upper()}, which fits all that stands before, {last.right!r} would be right."
    )


@functools.lru_cache(maxsize=4096)
def _split(tag: str) -> tuple[str, str]:
    """Return the prefix and the label of a tag, the prefix by its name in BIOES."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    found = _TAG.fullmatch(tag)
    if not found:
        raise DataError(f"{tag!r} is no tag of an entity: {NO_TAG}.")
    prefix = found["prefix"]
    return _OF_BIOES.get(prefix, prefix), found["label"] or ""


def _prefixes(count: int, touches: bool, scheme: Scheme) -> str:
    """Return a letter a token for an entity of `count` tokens; `touches`: right behind another of its label."""
    if scheme == "iob1":
        return ("B" if touches else "I") + "I" * (count - 1)
    if scheme == "bio":
        return "B" + "I" * (count - 1)
    return "S" if count == 1 else "B" + "I" * (count - 2) + "E"


class _Fault(NamedTuple):
    # Number of the sequence and of the token, from 1.
    place: tuple[int, int]
    scheme: Scheme
    tag: str
    # What the scheme would have there.
    right: str


def _first_fault(sequences: Collection[Sequence[str]], scheme: Scheme) -> _Fault | None:
    right = (convert_tags(tags, scheme) for tags in sequences)
    for (place, tag), (_, wanted) in zip(_places(sequences), _places(right), strict=True):
        if tag != wanted:
            return _Fault(place, scheme, tag, wanted)
    return None


def _places(sequences: Iterable[Sequence[str]]) -> Iterator[tuple[tuple[int, int], str]]:
    for number, tags in enumerate(sequences, 1):
        for position, tag in enumerate(tags, 1):
            yield (number, position), tag


def _split_at(tag: str, place: tuple[int, int], source: str) -> tuple[str, str]:
    try:
        return _split(tag)
    except DataError as error:
        raise DataError(f"{_name(place, source)}: {error}") from None


def _name(place: tuple[int, int], source: str) -> str:
    return f"{source}, sequence {place[0]}, token {place[1]}"


def _words(entity: Entity) -> str:
    return f"the entity {entity.label or 'without a label'} from token {entity.start} to {entity.end}"
