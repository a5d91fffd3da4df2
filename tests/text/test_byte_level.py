import pytest
from tokenizers import pre_tokenizers

from trasluz.text.byte_level import readable_piece, readable_words


def spelt(text):
    """The text as a byte-level vocabulary writes it."""
    return "".join(piece for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text))


def test_pieces_are_readable():
    assert readable_piece("Ġlight") == "▁light"
    assert readable_piece(spelt(" ñandú 日\n")) == "▁ñandú▁日\n"
    # Two of the three bytes of 日, before and after something whole.
    assert readable_piece(spelt(" a日")[:-1]) == "▁a<0xE6><0x97>"
    assert readable_piece(spelt("日b")[1:]) == "<0x97><0xA5>b"
    # A token that was added is written as it is.
    assert readable_piece("日本") == "日本"


def test_every_byte_has_its_character():
    every = "".join(chr(code) for code in range(0x800))
    assert readable_piece(spelt(every)) == every.replace(" ", "▁")


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (
            ["the", "Ġlam", "ps", ",", "Ġ", "(", "a"],
            [("the", [0]), ("lamps", [1, 2]), (",", [3]), ("(", [4, 5]), ("a", [6])],
        ),
        ([*spelt("日"), *spelt(" ▁"), "x"], [("日", [0, 1, 2]), ("▁", [3, 4, 5, 6]), ("x", [7])]),
        # A piece over the end of a word belongs to the word it begins in.
        (["a,b", "c"], [("a,", [0]), ("bc", [1])]),
        ([spelt("日")[0], spelt("日")[1:] + "b,"], [("日", [0]), ("b,", [1])]),
        ([spelt("日")[1:], "a"], [("\ufffd\ufffd", [0]), ("a", [1])]),
        ([""], [("", [0])]),
        (["", "a", "", "b"], [("ab", [0, 1, 2, 3])]),
        ([], []),
    ],
)
def test_words_are_put_together_from_pieces(pieces, words):
    assert readable_words(pieces, [False] * len(pieces)) == words


def test_special_tokens_are_words_of_their_own():
    pieces = ["<s>", "Ġa", "</s>", "</s>", "Ġb", "<pad>"]
    found = readable_words(pieces, [True, False, True, True, False, True])
    assert found == [("<s>", [0]), ("a", [1]), ("</s>", [2]), ("</s>", [3]), ("b", [4]), ("<pad>", [5])]
