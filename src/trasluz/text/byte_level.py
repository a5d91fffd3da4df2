"""The pieces of a byte-level vocabulary (GPT-2, RoBERTa), made readable.

Such a vocabulary writes each of the 256 bytes as a visible character: the blank as Ġ, é as Ã©. Here its pieces are put
into the words of `segmentation`: a blank is the mark ▁, and a byte that is no whole character is <0xNN>.

    Ġlight  ->  ▁light          Ġâ  ->  ▁<0xE2>          Ã±  ->  ñ
"""

import itertools
import unicodedata

from trasluz.text.segmentation import ESCAPE, ESCAPED_ESCAPE, ESCAPED_MARK, MARK, byte_piece, words_of_pieces


def _bytes_of_characters() -> dict[str, int]:
    """Return the byte behind each visible character: bytes that are visible stand for themselves."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(0x100) if value not in set(visible)]
    return {chr(value): value for value in visible} | {chr(0x100 + index): value for index, value in enumerate(others)}


_BYTES = _bytes_of_characters()

_NONE, _LETTER, _SIGN, _BLANK = range(4)
_KINDS = {"L": _LETTER, "M": _LETTER, "N": _LETTER, "P": _SIGN, "S": _SIGN, "Z": _BLANK}


def readable_piece(piece: str) -> str:
    """Return a piece as shown to people."""
    return "".join(_stretches(piece_bytes(piece).decode("utf-8", "surrogateescape").replace(" ", MARK)))


def readable_words(pieces: list[str], is_special: list[bool]) -> list[tuple[str, list[int]]]:
    """Return each word that the pieces spell with the positions of its pieces; a special token is a word of its own.

    A piece that reaches over the end of a word belongs to the word it begins in, and one that only continues a
    character to that character's word.
    """
    stretches: list[str] = []
    owners: list[int] = []
    for special, run in itertools.groupby(range(len(pieces)), is_special.__getitem__):
        positions = list(run)
        found = [(position, pieces[position]) for position in positions] if special else _spelt(pieces, positions)
        owners += [owner for owner, _ in found]
        stretches += [stretch for _, stretch in found]
    words: list[tuple[str, list[int]]] = []
    last = -1
    for text, members in words_of_pieces(stretches, [is_special[owner] for owner in owners]):
        own = [owner for owner in dict.fromkeys(owners[member] for member in members) if owner > last]
        if own:
            words.append((text, own))
            last = own[-1]
        else:
            # The whole word lies inside a piece that began in the word before.
            before, positions = words[-1]
            words[-1] = before + text, positions
    # A piece that begins no character stands where the word before it does.
    begins = [0, *(own[0] for _, own in words[1:]), len(pieces)]
    return [(text, list(range(*span))) for (text, _), span in zip(words, itertools.pairwise(begins), strict=False)]


def _spelt(pieces: list[str], positions: list[int]) -> list[tuple[int, str]]:
    """Return the text of pieces in stretches, each with the position of the piece in which it begins."""
    parts = [piece_bytes(pieces[position]) for position in positions]
    owner_of_byte = [position for position, part in zip(positions, parts, strict=True) for _ in part]
    # Characters are put together first, so that one that is spread over pieces is seen whole.
    text = b"".join(parts).decode("utf-8", "surrogateescape")
    begins = itertools.accumulate((len(letter.encode("utf-8", "surrogateescape")) for letter in text), initial=0)
    owned = zip(text, begins, strict=False)
    found: list[tuple[int, str]] = []
    for owner, group in itertools.groupby(owned, lambda letter: owner_of_byte[letter[1]]):
        letters = "".join(letter for letter, _ in group).replace(ESCAPE, ESCAPED_ESCAPE).replace(MARK, ESCAPED_MARK)
        found += [(owner, stretch) for stretch in _stretches(letters.replace(" ", MARK))]
    return found or [(positions[0], "")]


def edge_kinds(piece: str) -> tuple[int, int]:
    """Return numbers for what a piece's first and its last character are: 1 of a word, 2 a sign, 3 a line end.

    0: of none of these, as a byte that is no whole character, what joins its neighbours, and the plain blank, which
    goes with what follows.
    """
    text = piece_bytes(piece).decode("utf-8", "surrogateescape")
    return (_kind(text[0]), _kind(text[-1])) if text else (_NONE, _NONE)


def _kind(character: str) -> int:
    if character == " ":
        return _NONE
    category = unicodedata.category(character)
    return _BLANK if category == "Cc" else _KINDS.get(category[0], _NONE)


def piece_bytes(piece: str) -> bytes:
    """Return the bytes that a piece stands for."""
    if all(character in _BYTES for character in piece):
        return bytes(_BYTES[character] for character in piece)
    # A token that was added to the vocabulary is written as it is.
    return piece.encode("utf-8", "surrogatepass")


def _stretches(text: str) -> list[str]:
    """Return a text cut around each byte that is no whole character, with such bytes by their names."""
    found: list[str] = []
    for is_byte, group in itertools.groupby(text, lambda character: "\udc80" <= character <= "\udcff"):
        characters = "".join(group)
        found += [byte_piece(ord(character) - 0xDC00) for character in characters] if is_byte else [characters]
    return found
