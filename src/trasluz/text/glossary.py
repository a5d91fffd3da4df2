"""A glossary: terms of the source with the words that must stand for them in the target.

A term is found as whole words, whatever its case; of two that overlap, the one that begins first, and then the longer.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from trasluz.errors import RequestError
from trasluz.text.readers import read_pairs

# From here on scripts follow that write no blanks between words (Thai, Han, ...): there, a term may stand anywhere.
_UNSPACED = 0x0E00


class Glossary:
    """Terms and their translations, ready to be looked for."""

    def __init__(self, terms: Mapping[str, str]) -> None:
        """Take terms as {"light": "luz"}; RequestError where one is empty on either side."""
        unlike: dict[str, tuple[str, str]] = {}
        for term, target in terms.items():
            if not term.strip() or not target.strip():
                raise RequestError(f"the glossary maps {term!r} to {target!r}; neither side may be empty.")
            term = " ".join(term.split())
            unlike[term.lower()] = (term, target.strip())
        # Of alternatives the first that fits is taken: the longest term.
        self._terms = sorted(unlike.values(), key=lambda pair: -len(pair[0]))
        # Which group has matched tells the term, however its case is folded.
        pattern = "|".join(f"({_as_words(term)})" for term, _ in self._terms)
        self._pattern = re.compile(pattern, re.IGNORECASE) if terms else None

    def __len__(self) -> int:
        return len(self._terms)

    @classmethod
    def read(cls, path: str | Path, languages: Sequence[str]) -> "Glossary":
        """Read a file of pairs: two columns, or columns named after the languages, which serve both directions.

        Raises DataError where it is no such file.
        """
        pairs = read_pairs(str(path), languages)
        return cls({pair.source: pair.target for pair in pairs})

    @property
    def fingerprint(self) -> str:
        """Return a digest that is equal for glossaries of the same terms."""
        return hashlib.sha256(json.dumps(sorted(self._terms)).encode()).hexdigest()

    def targets_in(self, text: str) -> list[str]:
        """Return what must stand in the translation of a text, in the order of the terms, once for each occurrence.

        Where the text capitalises a term that the glossary does not, the translation is capitalised too.
        """
        if self._pattern is None:
            return []
        found = []
        for match in self._pattern.finditer(text):
            assert match.lastindex is not None
            term, target = self._terms[match.lastindex - 1]
            raised = match.group()[0].isupper() and not term[0].isupper()
            found.append(target[0].upper() + target[1:] if raised else target)
        return found


def _as_words(term: str) -> str:
    words = r"\s+".join(map(re.escape, term.split(" ")))
    before = r"(?<!\w)" if _is_spaced_letter(term[0]) else ""
    after = r"(?!\w)" if _is_spaced_letter(term[-1]) else ""
    return f"{before}{words}{after}"


def _is_spaced_letter(character: str) -> bool:
    return character.isalnum() and ord(character) < _UNSPACED
