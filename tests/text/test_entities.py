"""Tags and spans are two ways to write the same entities, and ill-formed tags mean what they mean to seqeval."""

import random
import warnings

import pytest
import seqeval.scheme
from seqeval.metrics.sequence_labeling import get_entities

from trasluz.errors import DataError
from trasluz.text.entities import (
    SCHEMES,
    Entity,
    convert_tags,
    decode_entities,
    encode_entities,
    entity_decoder,
    recognize_scheme,
)

# Ana Ruiz left Lima, Peru today.
ENTITIES = [Entity("PER", 0, 2), Entity("LOC", 3, 4), Entity("LOC", 4, 5)]
WRITTEN = {
    "iob1": "I-PER I-PER O I-LOC B-LOC O".split(),
    "bio": "B-PER I-PER O B-LOC B-LOC O".split(),
    "bioes": "B-PER E-PER O S-LOC S-LOC O".split(),
}
LABELS = ("PER", "LOC", "ORG-PART", "")


def random_entities(draw: random.Random, length: int) -> list[Entity]:
    entities, position = [], 0
    while position < length:
        end = draw.randint(position + 1, min(length, position + 4))
        if draw.random() < 0.6:
            entities.append(Entity(draw.choice(LABELS), position, end))
        position = end
    return entities


def random_tags(draw: random.Random) -> list[str]:
    """Tags of any scheme or of none: well-formed ones, such with a few others strewn in, and mere noise."""
    length = draw.randint(0, 12)
    noise = [0.0, 0.2, 1.0][draw.randrange(3)]
    tags = encode_entities(random_entities(draw, length), length, draw.choice(SCHEMES))
    every = ["O"] + [f"{prefix}-{label}" if label else prefix for prefix in "BIES" for label in LABELS]
    return [draw.choice(every) if draw.random() < noise else tag for tag in tags]


def of_seqeval(tags: list[str]) -> list[Entity]:
    # It has no empty label, and its ends are inclusive.
    return [Entity("" if label == "_" else label, start, end + 1) for label, start, end in get_entities(tags)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_example_of_the_docstring(scheme: str) -> None:
    assert decode_entities(WRITTEN[scheme]) == ENTITIES
    assert encode_entities(ENTITIES, 6, scheme) == WRITTEN[scheme]
    assert recognize_scheme([WRITTEN[scheme]]) == scheme


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("O I-PER I-LOC", [Entity("PER", 1, 2), Entity("LOC", 2, 3)]),
        ("B-PER I-LOC", [Entity("PER", 0, 1), Entity("LOC", 1, 2)]),
        ("E-PER E-PER I-PER", [Entity("PER", 0, 1), Entity("PER", 1, 2), Entity("PER", 2, 3)]),
        ("S-PER I-PER E-PER O", [Entity("PER", 0, 1), Entity("PER", 1, 3)]),
        ("B-PER S-PER", [Entity("PER", 0, 1), Entity("PER", 1, 2)]),
        ("B-A-B I-A-B", [Entity("A-B", 0, 2)]),
        ("B I O B", [Entity("", 0, 2), Entity("", 3, 4)]),
        ("", []),
    ],
)
def test_what_ill_formed_and_unlabelled_tags_mean(tags: str, entities: list[Entity]) -> None:
    assert decode_entities(tags.split()) == entities == of_seqeval(tags.split())


def test_any_tags_mean_what_they_mean_to_seqeval() -> None:
    draw = random.Random(1)
    ill_formed = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(1000):
            tags = random_tags(draw)
            assert decode_entities(tags) == of_seqeval(tags), tags
            ill_formed += all(convert_tags(tags, scheme) != tags for scheme in SCHEMES)
    assert 300 < ill_formed < 700, "both kinds are among the thousand"


@pytest.mark.parametrize(
    ("scheme", "theirs"),
    [("iob1", seqeval.scheme.IOB1), ("bio", seqeval.scheme.IOB2), ("bioes", seqeval.scheme.IOBES)],
)
def test_what_is_written_is_what_the_strict_reader_of_the_scheme_reads(scheme: str, theirs: type) -> None:
    draw = random.Random(2)
    for _ in range(300):
        length = draw.randint(1, 12)
        entities = [entity for entity in random_entities(draw, length) if entity.label]
        tags = encode_entities(entities, length, scheme)
        (read,) = seqeval.scheme.Entities([tags], scheme=theirs).entities
        assert [Entity(one.tag, one.start, one.end) for one in read] == entities, tags


def test_conversion_loses_nothing() -> None:
    draw = random.Random(3)
    for _ in range(1000):
        length = draw.randint(0, 12)
        entities = random_entities(draw, length)
        first, second = draw.choice(SCHEMES), draw.choice(SCHEMES)
        tags = encode_entities(draw.sample(entities, len(entities)), length, first)
        assert len(tags) == length and decode_entities(tags) == entities
        converted = convert_tags(tags, second)
        assert converted == encode_entities(entities, length, second)
        assert convert_tags(converted, first) == tags
        if entities:
            assert recognize_scheme([["O"], tags]) == first
            assert recognize_scheme([converted, [], tags[:0]]) == second


def test_texts_without_entities_are_bio() -> None:
    assert recognize_scheme([]) == recognize_scheme([["O", "O"], []]) == "bio"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["O", "O X-PER"], r"^the tags, sequence 2, token 2: 'X-PER' is no tag of an entity: write O, or B, I, E or S"),
        (["B-PER", "B-"], r"sequence 2, token 1: 'B-' is no tag"),
        (["o"], r"sequence 1, token 1: 'o' is no tag of an entity.* such as B-PER\.$"),
        # BIO but for one I.
        (
            ["B-PER I-PER", "O I-PER"],
            r"^the tags, sequence 2, token 2: the tag 'I-PER' fits none of IOB1, BIO and BIOES together with the other "
            r"tags\. In BIO, which fits all that stands before, 'B-PER' would be right\.$",
        ),
        # IOB1 but for one B.
        (["I-PER B-PER", "B-LOC"], r"sequence 2, token 1: the tag 'B-LOC' .* In IOB1, .* 'I-LOC' would be right"),
        # An entity of BIOES without its end, and one without its beginning.
        (["S-PER", "O B-PER I-PER O"], r"sequence 2, token 3: the tag 'I-PER' .* In BIOES, .* 'E-PER' would be right"),
        (["S-PER E-PER"], r"sequence 1, token 2: the tag 'E-PER' .* 'S-PER' would be right"),
    ],
)
def test_tags_of_no_scheme_are_named(lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        recognize_scheme([line.split() for line in lines])


def test_the_message_says_whose_tags_they_are() -> None:
    with pytest.raises(DataError, match=r"^train\.conll, sequence 1, token 1: 'PER' is no tag"):
        recognize_scheme([["PER"]], source="train.conll")


def test_what_is_no_tag_is_not_decoded() -> None:
    with pytest.raises(DataError, match=r"^'X-PER' is no tag of an entity"):
        decode_entities(["O", "X-PER"])


def test_bilou_is_read_as_bioes() -> None:
    bilou = "B-PER L-PER O U-LOC U-LOC B-ORG I-ORG L-ORG U".split()
    bioes = "B-PER E-PER O S-LOC S-LOC B-ORG I-ORG E-ORG S".split()
    assert decode_entities(bilou) == decode_entities(bioes) and convert_tags(bilou, "bioes") == bioes


@pytest.mark.parametrize(
    ("labels", "tags", "entities"),
    [
        ("O B-PER I-PER", "B-PER I-PER O", [Entity("PER", 0, 2)]),
        # Many models have names for special tokens among their labels.
        ("O B-PER I-PER [CLS] X", "B-PER X I-PER", [Entity("PER", 0, 1), Entity("PER", 2, 3)]),
        ("O B I", "B I O B", [Entity("", 0, 2), Entity("", 3, 4)]),
        ("NOUN VERB", "NOUN NOUN VERB", [Entity("NOUN", 0, 2), Entity("VERB", 2, 3)]),
        (
            "O PER LOC E-MAIL",
            "PER PER O LOC E-MAIL",
            [Entity("PER", 0, 2), Entity("LOC", 3, 4), Entity("E-MAIL", 4, 5)],
        ),
        ("LABEL_0 LABEL_1", "", []),
    ],
)
def test_labels_say_how_tags_become_entities(labels: str, tags: str, entities: list[Entity]) -> None:
    assert entity_decoder(labels.split())(tags.split()) == entities


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        ([Entity("PER", 1, 1)], r"^the entity PER from token 1 to 1 is no stretch of a text of 3 tokens"),
        ([Entity("PER", -1, 1)], r"its start must be at least 0 and below its end, and its end at most 3\.$"),
        ([Entity("", 2, 4)], r"^the entity without a label from token 2 to 4 is no stretch"),
        (
            [Entity("PER", 1, 3), Entity("LOC", 0, 2)],
            r"^the entity LOC from token 0 to 2 and the entity PER from token 1 to 3 share a token; "
            r"one tag a token can tell only one of them\.$",
        ),
    ],
)
def test_entities_that_no_tags_can_tell(entities: list[Entity], message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode_entities(entities, 3, "bio")
