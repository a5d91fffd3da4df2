"""Tokens as people see them: one visible line each, measured in terminal cells, whatever characters they hold."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from rich.cells import cell_len

_ZERO_WIDTH_JOINER = "\u200d"
# Joiners shape letters and build emoji, tags build flags: the only format characters that belong to a word.
_SHAPING = {"\u200c", _ZERO_WIDTH_JOINER, *map(chr, range(0xE0020, 0xE0080))}
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_REGIONAL_LETTERS = range(0x1F1E6, 0x1F200)
_BYTE_PIECE = re.compile(r"(?:<0x[0-9A-F]{2}>)+")


def shown(token: str) -> str:
    """Return a token as one line that is never empty: controls by their symbol, blanks at its ends as ␣.

    Characters that would turn the reading direction of what stands beside them are left out.
    """
    text = "".join(map(_shown_character, token))
    if text.strip(" ") == "":
        return "␣" * len(text) if text else "∅"
    start = len(text) - len(text.lstrip(" "))
    end = len(text) - len(text.rstrip(" "))
    return "␣" * start + text.strip(" ") + "␣" * end


def _shown_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cc":
        code = ord(character)
        return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\ufffd"
    if category == "Cs":
        return "\ufffd"
    if category in ("Zl", "Zp"):
        return "␤"
    if category == "Zs":
        return " "
    if category == "Cf" and character not in _SHAPING:
        return ""
    return character


def word_of(pieces: Sequence[str]) -> str:
    """Return the word that pieces spell: word marks (▁, ##, @@, </w>) go, pieces of bytes are read as UTF-8."""
    last = len(pieces) - 1
    text = ""
    for index, piece in enumerate(pieces):
        if index > 0 and len(piece) > 2:
            piece = piece.removeprefix("##")
        if index < last and len(piece) > 2:
            piece = piece.removesuffix("@@")
        if len(piece) > 4:
            piece = piece.removesuffix("</w>")
        text += piece
    text = _BYTE_PIECE.sub(_bytes_as_text, text)
    return text.replace("▁", " ").strip() or text


def _bytes_as_text(found: re.Match[str]) -> str:
    return bytes.fromhex(re.sub("[<>]|0x", "", found.group())).decode("utf-8", errors="replace")


def clusters(text: str) -> Iterator[str]:
    """Split text where a reader would: a letter keeps its accents, an emoji its joined parts and its colour."""
    cluster = ""
    for character in text:
        if cluster and not _continues(cluster, character):
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


def _continues(cluster: str, character: str) -> bool:
    if cluster[-1] == _ZERO_WIDTH_JOINER or character in _SHAPING:
        return True
    if ord(character) in _SKIN_TONES or unicodedata.category(character) in ("Mn", "Mc", "Me"):
        return True
    return len(cluster) == 1 and ord(cluster) in _REGIONAL_LETTERS and ord(character) in _REGIONAL_LETTERS


def cut(text: str, cells: int, more: str = "…") -> str:
    """Return text in at most `cells` terminal cells; what is cut ends in `more`, one cell wide."""
    if cell_len(text) <= cells:
        return text
    kept = ""
    used = 1
    for cluster in clusters(text):
        used += cell_len(cluster)
        if used > cells:
            break
        kept += cluster
    return kept + more


def is_right_to_left(text: str) -> bool:
    """Whether a reader begins this text at the right: its first letter with a direction decides."""
    for character in text:
        direction = unicodedata.bidirectional(character)
        if direction in ("L", "R", "AL"):
            return direction != "L"
    return False
