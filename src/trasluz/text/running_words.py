"""Words of running text as files of tagged words have them (Tjong Kim Sang and De Meulder 2003), signs apart.

    Dr. J.-P. O'Neill-Smith's U.S. visit,  ->  Dr . J.-P. O'Neill-Smith 's U.S. visit ,

A tokenizer of an encoder cuts at every sign, and byte-level ones between letters and digits, too. Scripts that write no
blanks between words stay as the tokenizer cuts them.
"""

from bisect import bisect_right
from collections.abc import Sequence

from tokenizers import Regex, pre_tokenizers

from trasluz.text.segmentation import UNSPACED, readable

_LETTER = rf"[[\p{{L}}\p{{M}}\u200c\u200d]&&[^{UNSPACED}]]"
_SIGN_OF_WORD = rf"[[\p{{L}}\p{{M}}\p{{N}}\u200c\u200d]&&[^{UNSPACED}]]"
# The s of "Ana's" is a word of its own.
_POSSESSIVE = rf"['’][sS](?!{_SIGN_OF_WORD})"
# Between two parts of a word. With a capital behind a small letter, a new word begins: l'Italia, "in Lima.Then".
_JOINT = (
    rf"(?!{_POSSESSIVE})"
    r"(?:\.-|[-&/_@·+\u2010\u2011]|(?<!\p{Ll})[.'’]|[.'’](?!\p{Lu})|(?<=\p{N})[,:](?=\p{N}))"
)
# Single letters keep their full stops.
_INITIALS = rf"(?:{_LETTER}\p{{M}}*\.-?)*{_LETTER}\p{{M}}*\.(?!{_SIGN_OF_WORD}|{_JOINT}{_SIGN_OF_WORD})"
WORD = rf"{_INITIALS}|{_SIGN_OF_WORD}+(?:{_JOINT}{_SIGN_OF_WORD}+)*|(?<={_SIGN_OF_WORD}){_POSSESSIVE}"
"""A regular expression of `tokenizers` for a word that is more than a sign."""

_words = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)


def group_by_word(text: str, stretches: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the numbers of the stretches that make up each word, in their order.

    Stretches are those that a tokenizer cut, in characters, end exclusive; one that is not within a word stays alone.
    """
    words = [place for _, place in _words.pre_tokenize_str(readable(text))]
    starts = [start for start, _ in words]
    groups: list[list[int]] = []
    last = -1
    for number, (start, end) in enumerate(stretches):
        word = bisect_right(starts, start) - 1
        if word < 0 or end > words[word][1]:
            word = -1
        if word >= 0 and word == last:
            groups[-1].append(number)
        else:
            groups.append([number])
        last = word
    return groups
