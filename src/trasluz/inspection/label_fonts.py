"""Fonts for the labels of a picture: DejaVu Sans, which matplotlib brings, and what is installed for other scripts.

A character that no font can show becomes a hollow box, so that a picture is drawn without complaint anywhere.
"""

import functools
import unicodedata
from collections.abc import Iterable, Iterator

from matplotlib import font_manager, ft2font

from trasluz.inspection.labels import clusters, is_right_to_left

BASE_FAMILY = "DejaVu Sans"
_BOX = "□"
# Widely installed fonts of wide coverage, tried in this order; all others called Noto Sans come after.
_PREFERRED = (
    "Noto Sans CJK",
    "Noto Emoji",
    "Noto Sans Symbols2",
    "Noto Sans Symbols",
    "Hiragino Sans",
    "PingFang",
    "Apple SD Gothic Neo",
    "Apple Symbols",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Nirmala UI",
    "Segoe UI Emoji",
    "Segoe UI Symbol",
    "Arial Unicode MS",
    "WenQuanYi",
    "Droid Sans Fallback",
    "FreeSans",
)


class LabelFonts:
    """The font families that together show some texts, and those texts without what none of them shows."""

    def __init__(self, texts: Iterable[str]) -> None:
        needed = {ord(character) for text in texts for character in text}
        self.families = [BASE_FAMILY]
        self._shown = set(_coverage(font_manager.findfont(BASE_FAMILY)))
        missing = {code for code in needed - self._shown if _needs_glyph(chr(code))}
        for family, path in _installed() if missing else ():
            found = missing & _coverage(path)
            if found:
                self.families.append(family)
                self._shown |= found
                missing -= found
            if not missing:
                break

    def drawable(self, text: str) -> str:
        """Return text with a hollow box for each letter that no font shows."""
        parts = []
        for cluster in clusters(text):
            if all(ord(character) in self._shown or not _needs_glyph(character) for character in cluster):
                parts.append("".join(character for character in cluster if ord(character) in self._shown))
            else:
                parts.append(_BOX)
        if is_right_to_left(text) and not hasattr(ft2font, "__libraqm_version__"):
            # Without its shaping library matplotlib sets letters from left to right as they come.
            parts.reverse()
        return "".join(parts) or _BOX


def _needs_glyph(character: str) -> bool:
    """Whether leaving a character out would change the word: joiners and variation selectors only shape others."""
    return unicodedata.category(character) != "Cf" and not 0xFE00 <= ord(character) <= 0xFE0F


def _installed() -> Iterator[tuple[str, str]]:
    entries: dict[str, str] = {}
    for entry in font_manager.fontManager.ttflist:
        if entry.style == "normal" and entry.weight in (400, "normal", "regular", "book"):
            entries.setdefault(entry.name, entry.fname)
    for wanted in (*_PREFERRED, "Noto Sans"):
        for name in sorted(entries):
            if name.startswith(wanted):
                yield name, entries[name]
                # One face of a family of many (Noto Sans CJK JP, KR, SC ...) covers what the others cover.
                if wanted != "Noto Sans":
                    break


@functools.cache
def _coverage(path: str) -> frozenset[int]:
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()
