"""Which words of a text are masked, and what stands in their place (Devlin et al. 2019, section 3.1 and appendix A.1).

    tokens        piece by piece                                              [MASK] takes 80 % of the chosen pieces,
    words         whole words: all pieces of a word, or none                  another piece 10 %,
    spans         stretches of words, their lengths geometric (SpanBERT)      10 % stay what they are

Whole words are those of BERT's later releases; spans follow Joshi et al. 2020 (section 3.1): lengths of p = 0.2, at
most ten words. Where a word is nearly all of a text, as it may be without blanks, a stretch of the word is chosen.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Integer

MaskingUnit = Literal["tokens", "words", "spans"]
MASKING_UNITS: tuple[str, ...] = get_args(MaskingUnit)

_SPAN_END, _LONGEST_SPAN = 0.2, 10
# So many pieces more than wanted, or twice as many, are chosen to leave a word whole.
_SURPLUS = 4


@dataclass(frozen=True)
class Masking:
    """How texts are masked: the share of pieces chosen, by which unit, and what takes their place."""

    mask_id: int
    ordinary_ids: Integer[np.ndarray, " ordinary"]
    """Ids that may stand for a piece: all but special tokens."""
    rate: float = 0.15
    unit: MaskingUnit = "words"
    masked_share: float = 0.8
    random_share: float = 0.1

    def choose(
        self, starts: Bool[np.ndarray, " length"], generator: np.random.Generator
    ) -> Bool[np.ndarray, " length"]:
        """Return which pieces are chosen; `starts` tells of each whether it begins a word. At least one is.

        Their number is that of the rate, rounded by chance; a word that has more than are missing is passed over.
        """
        length = len(starts)
        chosen = np.zeros(length, bool)
        wanted = missing = max(1, int(self.rate * length + generator.random()))
        begins = np.arange(length) if self.unit == "tokens" else np.flatnonzero(starts | (np.arange(length) == 0))
        ends = np.append(begins[1:], length)
        passed_over: list[tuple[int, int]] = []
        for unit in generator.permutation(len(begins)).tolist():
            number = 1
            if self.unit == "spans":
                number = min(int(generator.geometric(_SPAN_END)), _LONGEST_SPAN, len(begins) - unit)
            for word in range(unit, unit + number):
                begin, end = int(begins[word]), int(ends[word])
                if chosen[begin]:
                    continue
                if end - begin > missing:
                    passed_over.append((begin, end))
                    break
                chosen[begin:end] = True
                missing -= end - begin
                if not missing:
                    return chosen
        # No word fits any more: one more by chance, so that what is chosen is as much as asked for on average.
        for begin, end in passed_over[:1]:
            if end - begin - missing > max(wanted, _SURPLUS):
                begin += int(generator.integers(end - begin - missing + 1))
                end = begin + missing
            elif chosen.any() and generator.random() * (end - begin) >= missing:
                break
            chosen[begin:end] = True
        return chosen

    def corrupt(
        self,
        ids: Integer[np.ndarray, " length"],
        chosen: Bool[np.ndarray, " length"],
        generator: np.random.Generator,
    ) -> Integer[np.ndarray, " length"]:
        """Return the ids with something else in place of those chosen."""
        corrupted = ids.copy()
        draws = generator.random(len(ids))
        corrupted[chosen & (draws < self.masked_share)] = self.mask_id
        random = chosen & (draws >= self.masked_share) & (draws < self.masked_share + self.random_share)
        corrupted[random] = generator.choice(self.ordinary_ids, int(random.sum()))
        return corrupted
