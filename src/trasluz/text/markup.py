"""Inline markup around a translation: taken out of the source, put back around the words that its words became.

    <b>The light</b> comes.   ->   The light comes.   with <b> around characters 0 to 9
    La luz viene.             ->   <b>La luz</b> viene.

Which target word goes with which source word is told by attention. A pair of tags goes around the longest stretch of
target words, none of them a sibling's, that begins and ends with words of its own; so tags stay properly nested. A tag
that stands alone goes before the first word that comes from behind it.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

_TAG = re.compile(r"<!--.*?-->|<(?P<close>/?)(?P<name>[A-Za-z][\w:.-]*)(?:\s[^<>]*?)?(?P<alone>/?)>", re.DOTALL)

# Elements of HTML that have no end.
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())

Span = tuple[int, int]
"""Where something begins and ends, in characters or in words."""


@dataclass(frozen=True)
class Tag:
    """An element around characters `begin` to `end` of the plain text; one without an end tag stands at `begin`."""

    opening: str
    closing: str
    begin: int
    end: int

    @property
    def is_alone(self) -> bool:
        """Whether it surrounds nothing."""
        return self.begin == self.end


def parse_markup(text: str) -> tuple[str, list[Tag]]:
    """Return the plain text, entities resolved and blanks folded, and its tags, outer ones first.

    What only looks like markup ("a < b") is text; a start or end tag without its partner stands alone.
    """
    plain = ""
    tags: list[Tag] = []
    # Start tags whose end is still to come: name, tag, place in the plain text, place among the tags.
    begun: list[tuple[str, str, int, int]] = []
    position = 0
    for match in _TAG.finditer(text):
        plain = _joined(plain, text[position : match.start()])
        position = match.end()
        name, written = (match["name"] or "").lower(), match.group()
        if match["close"]:
            partner = next((place for place in range(len(begun) - 1, -1, -1) if begun[place][0] == name), None)
            if partner is None:
                tags.append(Tag(written, "", len(plain), len(plain)))
            else:
                _, opening, begin, place = begun[partner]
                tags[place] = Tag(opening, written, begin, len(plain))
                del begun[partner:]
            continue
        if name and not match["alone"] and name not in _VOID:
            begun.append((name, written, len(plain), len(tags)))
        tags.append(Tag(written, "", len(plain), len(plain)))
    plain = _joined(plain, text[position:])
    end = len(plain.rstrip())
    cut = [Tag(tag.opening, tag.closing, min(tag.begin, end), min(tag.end, end)) for tag in tags]
    return plain[:end], cut


def place_markup(
    text: str, words: Sequence[Span], source_words: Sequence[Span], aligned: Sequence[int | None], tags: Sequence[Tag]
) -> str:
    """Return a translation with the tags of its source.

    `words` and `source_words` are the places of the words in both plain texts; `aligned` says for each target word
    which source word it comes from, None where it comes from none.
    """
    # What stands before and behind each character place: ends of elements first, the inner ones before the outer.
    starts: dict[int, list[str]] = {}
    ends: dict[int, list[str]] = {}
    spans = [_words_within(source_words, tag) for tag in tags]
    placed: list[Span | None] = []
    for number, tag in enumerate(tags):
        parents = [other for other in range(number) if _encloses(tags[other], tag)]
        allowed = placed[parents[-1]] if parents else (0, len(words))
        if tag.is_alone or allowed is None:
            placed.append(None)
            starts.setdefault(_place_alone(tag, words, source_words, aligned, len(text)), []).append(
                tag.opening + tag.closing
            )
            continue
        siblings = {
            word
            for other in range(len(tags))
            if other != number and not _encloses(tags[other], tag) and not _encloses(tag, tags[other])
            for word in spans[other]
        }
        stretch = _longest_stretch(aligned, allowed, spans[number], siblings)
        placed.append(stretch)
        if stretch is None:
            place = words[allowed[0]][0] if allowed[0] < len(words) else len(text)
            starts.setdefault(place, []).append(tag.opening + tag.closing)
        else:
            starts.setdefault(words[stretch[0]][0], []).append(tag.opening)
            ends.setdefault(words[stretch[1] - 1][1], []).insert(0, tag.closing)
    written = ""
    for place in range(len(text) + 1):
        written += "".join(ends.get(place, [])) + "".join(starts.get(place, []))
        if place < len(text):
            written += html.escape(text[place], quote=False)
    return written


def find_words(text: str, words: Sequence[str]) -> list[Span]:
    """Return where words stand in a text, in order; one that is not there gets the empty place where it should be."""
    places: list[Span] = []
    position = 0
    for word in words:
        begin = text.find(word, position)
        if begin < 0:
            places.append((position, position))
        else:
            position = begin + len(word)
            places.append((begin, position))
    return places


def _joined(plain: str, piece: str) -> str:
    folded = re.sub(r"\s+", " ", html.unescape(piece))
    return plain + (folded.lstrip() if not plain or plain.endswith(" ") else folded)


def _encloses(outer: Tag, inner: Tag) -> bool:
    # Of two around the same words, the first opened is the outer one: `tags` is in that order.
    return not outer.is_alone and outer.begin <= inner.begin and inner.end <= outer.end and outer is not inner


def _words_within(words: Sequence[Span], tag: Tag) -> frozenset[int]:
    return frozenset(number for number, (begin, end) in enumerate(words) if tag.begin <= begin and end <= tag.end)


def _place_alone(
    tag: Tag, words: Sequence[Span], source_words: Sequence[Span], aligned: Sequence[int | None], last: int
) -> int:
    behind = {number for number, (begin, _) in enumerate(source_words) if begin >= tag.begin}
    first = next((place for place, word in zip(words, aligned, strict=True) if word in behind), None)
    return last if first is None else first[0]


def _longest_stretch(
    aligned: Sequence[int | None], allowed: Span, own: frozenset[int], siblings: set[int]
) -> Span | None:
    """Return the target words from the first to the last of the tag's own, within the stretch that has most of them."""
    best: Span | None = None
    most = 0
    mine: list[int] = []
    for target in range(allowed[0], allowed[1] + 1):
        source = aligned[target] if target < allowed[1] else None
        if target == allowed[1] or (source in siblings and source not in own):
            if len(mine) > most:
                best, most = (mine[0], mine[-1] + 1), len(mine)
            mine = []
        elif source in own:
            mine.append(target)
    return best
