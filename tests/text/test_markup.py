"""Tags leave the source and come back around the words that theirs became, always properly nested."""

import html.parser
import random

import pytest

from trasluz.text.markup import Tag, find_words, parse_markup, place_markup


@pytest.mark.parametrize(
    ("text", "plain", "tags"),
    [
        ("no tags", "no tags", []),
        ("<b>The light</b> comes.", "The light comes.", [Tag("<b>", "</b>", 0, 9)]),
        ("a <i>b <b>c</b></i>", "a b c", [Tag("<i>", "</i>", 2, 5), Tag("<b>", "</b>", 4, 5)]),
        ("one<br/>two<BR>three", "onetwothree", [Tag("<br/>", "", 3, 3), Tag("<BR>", "", 6, 6)]),
        ('<a href="x?a=1&amp;b=2">here</a>', "here", [Tag('<a href="x?a=1&amp;b=2">', "</a>", 0, 4)]),
        ("a &lt; b &amp;  c", "a < b & c", []),
        ("a < b > c", "a < b > c", []),
        ("</b>only an end", "only an end", [Tag("</b>", "", 0, 0)]),
        ("<b>only a start", "only a start", [Tag("<b>", "", 0, 0)]),
        ("<b><i>crossed</b></i>", "crossed", [Tag("<b>", "</b>", 0, 7), Tag("<i>", "", 0, 0), Tag("</i>", "", 7, 7)]),
        ("  x <b> y </b> ", "x y", [Tag("<b>", "</b>", 2, 3)]),
        ("x<!-- <b> -->y", "xy", [Tag("<!-- <b> -->", "", 1, 1)]),
        ("<g id='1'></g>x", "x", [Tag("<g id='1'>", "</g>", 0, 0)]),
    ],
)
def test_parsing(text: str, plain: str, tags: list[Tag]) -> None:
    assert parse_markup(text) == (plain, tags)


def place(source: str, target: str, aligned: list[int | None]) -> str:
    plain, tags = parse_markup(source)
    return place_markup(target, find_words(target, target.split()), find_words(plain, plain.split()), aligned, tags)


@pytest.mark.parametrize(
    ("source", "target", "aligned", "wanted"),
    [
        ("the <b>red</b> house", "la casa roja", [0, 2, 1], "la casa <b>roja</b>"),
        ("<b>the red</b> house", "la casa roja", [0, 2, 1], "<b>la casa roja</b>"),
        ("<b>red</b> <i>house</i>", "casa roja", [1, 0], "<i>casa</i> <b>roja</b>"),
        ("a <i>very <b>old</b> book</i>", "un libro muy viejo", [0, 3, 1, 2], "un <i>libro muy <b>viejo</b></i>"),
        ("one <br/>two", "uno dos", [0, 1], "uno <br/>dos"),
        ("one two<br/>", "uno dos", [0, 1], "uno dos<br/>"),
        ("<b>gone</b> stays", "queda", [1], "<b></b>queda"),
        ("a &lt; b", "a < b", [0, 1, 2], "a &lt; b"),
        # A word of the sibling in between splits the stretch; the part with more of the tag's words has it.
        ("<b>p q r</b> <i>s</i>", "P S Q R", [0, 3, 1, 2], "P <i>S</i> <b>Q R</b>"),
        ("<b>word</b>", "", [], "<b></b>"),
    ],
)
def test_placing(source: str, target: str, aligned: list[int | None], wanted: str) -> None:
    assert place(source, target, aligned) == wanted


class Nesting(html.parser.HTMLParser):
    """Fails on an end tag that does not belong to the innermost start tag."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_any_alignment_of_any_tree_stays_nested() -> None:
    draw = random.Random(4)
    names = iter(f"t{number}" for number in range(100_000))

    def tree(words: list[str], depth: int) -> str:
        if depth == 0 or len(words) < 2 or draw.random() < 0.2:
            return " ".join(words)
        middle = draw.randrange(1, len(words))
        parts = [tree(part, depth - 1) for part in (words[:middle], words[middle:])]
        return " ".join(wrapped(part) for part in parts)

    def wrapped(part: str) -> str:
        name = next(names)
        return f"<{name}>{part}</{name}>" if draw.random() < 0.7 else part

    for _ in range(300):
        count = draw.randint(1, 8)
        source = wrapped(tree([f"s{number}" for number in range(count)], 3))
        target = " ".join(f"w{number}" for number in range(draw.randint(1, 9)))
        aligned = [draw.choice([None, *range(count)]) for _ in target.split()]
        found = place(source, target, aligned)
        parser = Nesting()
        parser.feed(found)
        assert parser.open == []
        written = Nesting()
        written.feed(source)
        assert sorted(parser.seen) == sorted(written.seen), "every tag comes back once"
        assert parse_markup(found)[0] == target


def test_words_are_found_in_order() -> None:
    assert find_words("a ba a.", ["a", "ba", "</s>", "a", "."]) == [(0, 1), (2, 4), (4, 4), (5, 6), (6, 7)]
