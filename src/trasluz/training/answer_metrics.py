"""How good answers to questions are, as the official programs of SQuAD and MLQA count.

    normal form   lower case; without punctuation; without articles; one blank between words
    exact_match   1 where the normal forms of predicted and gold answer are equal, otherwise 0
    answer_f1     2 P R / (P + R), where P and R are the shares of predicted and of gold words that are common

Of several gold answers the best counts, for each of the two by itself. Both are means over all questions in per cent,
0 to 100, as those programs print them. SQuAD 1.1: Rajpurkar et al. (2016). SQuAD 2.0, where a question may have no
answer: Rajpurkar, Jia and Liang (2018). MLQA: Lewis et al. (2020).
"""

import functools
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

ENGLISH_ARTICLES = ("a", "an", "the")
SPANISH_ARTICLES = ("un", "una", "unos", "unas", "el", "la", "los", "las")

_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class AnswerRules:
    """What makes no difference between two answers, and whether there may be none."""

    articles: tuple[str, ...] = ENGLISH_ARTICLES
    # "unicode": besides the 32 of ASCII all that Unicode calls punctuation, such as ¿ and «.
    punctuation: Literal["ascii", "unicode"] = "ascii"
    # As SQuAD 2.0 has it: gold answers without any word left are dropped, a question without gold answers is answered
    # by "", and two answers without words are equal. Otherwise such answers have no word in common, and an f1 of 0.
    may_have_no_answer: bool = True


SQUAD_1 = AnswerRules(may_have_no_answer=False)
SQUAD_2 = AnswerRules()
MLQA_ENGLISH = AnswerRules(punctuation="unicode", may_have_no_answer=False)
MLQA_SPANISH = AnswerRules(SPANISH_ARTICLES, punctuation="unicode", may_have_no_answer=False)

RULES = {"squad": SQUAD_1, "mlqa-en": MLQA_ENGLISH, "mlqa-es": MLQA_SPANISH}


def rules_for(name: str, gold: Sequence[Sequence[str]]) -> AnswerRules:
    """Return the rules of this name for these gold answers: those of SQuAD 2.0 where a question has none."""
    return replace(RULES[name], may_have_no_answer=not all(gold))


def answer_metrics(
    predicted: Sequence[str], gold: Sequence[Sequence[str]], rules: AnswerRules = SQUAD_2
) -> dict[str, float]:
    """Return exact_match and answer_f1 in per cent; `gold` holds all the right answers of each question.

    A prediction of "" says that there is no answer. Without any question both are 0. The default is the official
    program of SQuAD 2.0, with English articles in every language.
    """
    exact, overlap = 0.0, 0.0
    for answer, answers in zip(predicted, gold, strict=True):
        words = normalize_answer(answer, rules).split()
        wanted = [normalize_answer(other, rules).split() for other in answers]
        if rules.may_have_no_answer:
            wanted = [other for other in wanted if other]
        wanted = wanted or [[]]
        exact += max(words == other for other in wanted)
        overlap += max(_f1(words, other, rules) for other in wanted)
    count = max(len(predicted), 1)
    return {"exact_match": 100.0 * exact / count, "answer_f1": 100.0 * overlap / count}


def normalize_answer(text: str, rules: AnswerRules = SQUAD_2) -> str:
    """Return the normal form of an answer: its words in lower case, without punctuation and articles."""
    text = _without_punctuation(text.lower(), rules)
    return " ".join(_articles(rules.articles).sub(" ", text).split())


def _f1(predicted: list[str], gold: list[str], rules: AnswerRules) -> float:
    if not (predicted and gold):
        return float(rules.may_have_no_answer and predicted == gold)
    common = (Counter(predicted) & Counter(gold)).total()
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def _without_punctuation(text: str, rules: AnswerRules) -> str:
    text = text.translate(_ASCII_PUNCTUATION)
    if rules.punctuation == "unicode":
        text = "".join(character for character in text if not unicodedata.category(character).startswith("P"))
    return text


@functools.cache
def _articles(articles: tuple[str, ...]) -> re.Pattern[str]:
    # Of no articles this is a pattern that matches nothing.
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, articles))})\b" if articles else r"(?!)")
