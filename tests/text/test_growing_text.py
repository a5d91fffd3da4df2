"""Text that grows gives out whole characters only, and nothing of a stop string."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trasluz.errors import RequestError
from trasluz.text.growing_text import GrowingText


def grown(pieces: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], GrowingText]:
    text = GrowingText(stop)
    return [*map(text.add, pieces), text.finish()], text


def test_half_a_character_waits_for_its_other_half() -> None:
    given_out, text = grown([b"a", b"\xc3", b"\xb1o ", b"\xf0\x9f", b"\x91\xa9", b"\xe6\x97"])
    assert given_out == ["a", "", "ño ", "", "👩", "", ""]
    assert text.text == "año 👩"
    # What can never become a character shows as one that was lost.
    assert grown([b"\x97", b"b", b"\xe6", b"c"])[0] == ["\ufffd", "b", "", "\ufffdc", ""]


def test_nothing_of_a_stop_string_is_given_out() -> None:
    given_out, text = grown([b"one\n", b"\n", b"two"], ("\n\n", "xyz"))
    assert given_out == ["one", "", "", ""] and text.stopped
    # What only began like one is given out when that is known.
    assert grown([b"a\n", b"b x", b"yx", b"yz", b"w"], ("\n\n", "xyz"))[0] == ["a", "\nb ", "xy", "", "", ""]
    assert grown([b"a x", b"y"], ("xyz",))[0] == ["a ", "", "xy"]
    # The first of several counts, and what stands in the same piece before it.
    assert grown([b"a.b!c"], ("!", "."))[0] == ["a", ""]
    assert grown([b"\xc2", b"\xbf", b"s\xc3", b"\xad"], ("¿sí",))[0] == ["", "", "", "", ""]


@settings(max_examples=100)
@given(st.text("abñ日 ", max_size=30), st.lists(st.text("abñ日 ", min_size=1, max_size=4), max_size=3), st.data())
def test_the_pieces_are_the_text_before_the_first_stop_string(text: str, stop: list[str], data: st.DataObject) -> None:
    whole = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=9)))
    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    given_out, grew = grown(pieces, tuple(stop))
    # The first to be complete, and of those that end together the longest.
    ends = [(text.find(string) + len(string), text.find(string)) for string in stop if string in text]
    assert "".join(given_out) == grew.text == text[: min(ends, default=(0, len(text)))[1]]
    assert grew.stopped == bool(ends)


def test_a_stop_string_within_another_ends_the_text_first() -> None:
    for pieces in ([b" aa"], [b" a", b"a"], [b" ", b"a", b"a"]):
        assert "".join(grown(pieces, ("a", " aa"))[0]) == " "


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(RequestError, match="`stop` holds an empty text, which stands everywhere"):
        GrowingText([""])
