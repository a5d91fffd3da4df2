"""How text becomes words and pieces: normalisation, splitting before the sub-word model, and the exact way back.

    "Hi,  the\\tend"  --normalise-->  "Hi, the end"  --mark blanks-->  "▁Hi,▁the▁end"  --split-->  ▁Hi  ,  ▁the  ▁end

The blank before a word travels as the mark ▁ (U+2581) at its front, as in SentencePiece (Kudo
and Richardson 2018). A ▁ that stands in the text itself is written as an escape of two characters, so that nothing is
lost on the way back.
"""

import re
from typing import Literal, get_args

from tokenizers import Regex, decoders, normalizers, pre_tokenizers

Normalization = Literal["nfc", "nfkc", "lowercase"]
NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)

SPECIAL_NAMES = ("<pad>", "<s>", "</s>", "<unk>")
MARK = "▁"
# One private-use character stands for itself as ESCAPE + "0" and for a literal mark as ESCAPE + "1": reversible.
ESCAPE = "\U000f2581"
ESCAPED_ESCAPE = ESCAPE + "0"
ESCAPED_MARK = ESCAPE + "1"

# A run of white space and control characters that is not already one plain blank.
_UNTIDY_BLANKS = r"[\s\p{Cc}]*[[\s\p{Cc}]&&[^ ]][\s\p{Cc}]*| {2,}"

# Zero-width joiner and non-joiner stand inside words of Indic and Arabic scripts, and inside emoji.
_LETTERS = r"[\p{L}\p{M}\u200c\u200d]"
_APOSTROPHE = r"['’]"
_PUNCTUATION = r"[\p{P}\p{S}&&[^▁]]"
# Scripts that write no blanks between words.
UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"

# What a sub-word model may join: letters of one word (in stretches of 100, so that no input is slow), the same
# punctuation mark repeated; digits stay single, so that every number can be copied.
_PIECES = rf"▁?(?:{_LETTERS}{{1,100}}(?:{_APOSTROPHE}{_LETTERS}{{1,100}})*|\p{{N}}|({_PUNCTUATION})\1{{0,99}}|.)"
# What a vocabulary of whole words holds: the same, with unspaced scripts character by character.
_WHOLE_WORDS = rf"▁?{UNSPACED}\p{{M}}*|{_PIECES}"
# What people see as one word: numbers whole, flags and emoji sequences whole.
_SHOWN_WORDS = (
    rf"▁?(?:{UNSPACED}\p{{M}}*"
    rf"|(?:{_LETTERS}|\p{{N}})+(?:(?:{_APOSTROPHE}|(?<=\p{{N}})[.,:](?=\p{{N}}))(?:{_LETTERS}|\p{{N}})+)*"
    "|\U000f2581[01]"
    "|[\U0001f1e6-\U0001f1ff]{2}"
    r"|\p{So}(?:[\u200d\p{M}\p{Sk}]+[\p{So}&&[^▁]]?)+"
    rf"|({_PUNCTUATION})\1*"
    r"|.)"
)

_BYTE_PIECE = re.compile("<0x[0-9A-F]{2}>")
_SURROGATES = re.compile("[\ud800-\udfff]")

_shown_words = pre_tokenizers.Split(Regex(_SHOWN_WORDS), "isolated")


def build_normalizer(normalization: str) -> normalizers.Normalizer:
    """Return the stated normalisation, followed by the escape of literal marks.

    "nfc": Unicode NFC; every run of white space and control characters becomes one blank; no blank at either end.
    "nfkc": the same over NFKC. "lowercase": the same after lower-casing.
    """
    first: dict[str, list[normalizers.Normalizer]] = {
        "nfc": [normalizers.NFC()],
        "nfkc": [normalizers.NFKC()],
        "lowercase": [normalizers.Lowercase(), normalizers.NFC()],
    }
    return normalizers.Sequence(
        [
            *first[normalization],
            normalizers.Replace(Regex(_UNTIDY_BLANKS), " "),
            normalizers.Strip(),
            normalizers.Replace(ESCAPE, ESCAPED_ESCAPE),
            normalizers.Replace(MARK, ESCAPED_MARK),
        ]
    )


def build_splitter(kind: str) -> pre_tokenizers.PreTokenizer:
    """Return the cut of marked text into the stretches that the model of this kind sees one at a time."""
    if kind == "character":
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(MARK, "never", False), pre_tokenizers.Split(Regex("."), "isolated")]
        )
    pattern = _WHOLE_WORDS if kind == "word" else _PIECES
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(MARK, "always", False), pre_tokenizers.Split(Regex(pattern), "isolated")]
    )


def build_decoder(kind: str) -> decoders.Decoder:
    """Return the way back from pieces to normalised text."""
    first_blank = [] if kind == "character" else [decoders.Strip(" ", 1, 0)]
    return decoders.Sequence(
        [
            decoders.Replace(MARK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            *first_blank,
            decoders.Replace(ESCAPED_MARK, MARK),
            decoders.Replace(ESCAPED_ESCAPE, ESCAPE),
        ]
    )


def readable(text: str) -> str:
    """Return text that UTF-8 can hold: half a surrogate pair becomes U+FFFD."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


def unescape(text: str) -> str:
    """Give back literal marks that the normaliser has escaped."""
    return text.replace(ESCAPED_MARK, MARK).replace(ESCAPED_ESCAPE, ESCAPE)


def byte_piece(value: int) -> str:
    """Return the name of the piece that stands for one byte."""
    return f"<0x{value:02X}>"


def piece_bytes(piece: str) -> bytes:
    """Return the UTF-8 bytes that a piece stands for, its mark kept."""
    if _BYTE_PIECE.fullmatch(piece):
        return bytes([int(piece[3:5], 16)])
    return piece.encode("utf-8", "surrogatepass")


def group_pieces(pieces: list[str]) -> list[tuple[str, list[int]]]:
    """Return each shown word of a stretch of pieces with the positions of the pieces that make it.

    A piece that reaches over the end of a word belongs to the word it begins in; bytes are put together first.
    """
    stretches = [piece_bytes(piece) for piece in pieces]
    # surrogateescape keeps one character for each invalid byte, so that bytes and characters can be counted together.
    text = b"".join(stretches).decode("utf-8", "surrogateescape")
    readable = "".join("\ufffd" if "\udc80" <= character <= "\udcff" else character for character in text)
    word_of_byte: list[int] = []
    words = _shown_words.pre_tokenize_str(readable)
    for number, (_, (begin, end)) in enumerate(words):
        word_of_byte += [number] * len(text[begin:end].encode("utf-8", "surrogateescape"))
    if not words:
        return [("", list(range(len(pieces))))]
    groups: dict[int, list[int]] = {}
    start = 0
    for position, stretch in enumerate(stretches):
        # A vocabulary of another house may have an empty piece, which at the end belongs to the last word.
        groups.setdefault(word_of_byte[min(start, len(word_of_byte) - 1)], []).append(position)
        start += len(stretch)
    starts = sorted(groups)
    ends = [*starts[1:], len(words)]
    return [
        (unescape("".join(word for word, _ in words[begin:end]).removeprefix(MARK).replace(MARK, " ")), groups[begin])
        for begin, end in zip(starts, ends, strict=True)
    ]


def words_of_pieces(pieces: list[str], is_special: list[bool]) -> list[tuple[str, list[int]]]:
    """Return each shown word of a sequence with the positions of its pieces; a special token is a word of its own."""
    found: list[tuple[str, list[int]]] = []
    start = 0
    for position in range(len(pieces) + 1):
        if position < len(pieces) and not is_special[position]:
            continue
        if position > start:
            grouped = group_pieces(pieces[start:position])
            found += [(text, [start + member for member in members]) for text, members in grouped]
        if position < len(pieces):
            found.append((pieces[position], [position]))
        start = position + 1
    return found
