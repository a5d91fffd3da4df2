"""Answers get the figures of the official programs, which are told again here as their papers define them."""

import random
import re
import string
import sys
import unicodedata

import pytest

from trasluz.training.answer_metrics import (
    ENGLISH_ARTICLES,
    MLQA_ENGLISH,
    MLQA_SPANISH,
    SPANISH_ARTICLES,
    SQUAD_1,
    SQUAD_2,
    AnswerRules,
    answer_metrics,
    normalize_answer,
    rules_for,
)

EVERY_PUNCTUATION = set(string.punctuation) | {
    chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith("P")
}


def told_again_words(text: str, articles: str, punctuation: set[str]) -> list[str]:
    kept = [character for character in text.lower() if character not in punctuation]
    return re.sub(rf"\b({articles})\b", " ", "".join(kept)).split()


def told_again_f1(found: list[str], wanted: list[str]) -> float:
    left, common = list(wanted), 0
    for word in found:
        if word in left:
            left.remove(word)
            common += 1
    if common == 0:
        return 0.0
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def told_again(
    predicted: list[str], gold: list[list[str]], articles: str, punctuation: set[str], version: int
) -> dict[str, float]:
    exact = overlap = 0.0
    for prediction, answers in zip(predicted, gold, strict=True):
        found = told_again_words(prediction, articles, punctuation)
        wanted = [told_again_words(answer, articles, punctuation) for answer in answers]
        if version == 1:
            exact += max(float(found == one) for one in wanted)
            overlap += max(told_again_f1(found, one) for one in wanted)
            continue
        wanted = [one for one in wanted if one]
        if not wanted:
            exact += found == []
            overlap += found == []
        else:
            exact += found in wanted
            overlap += max(told_again_f1(found, one) for one in wanted)
    return {"exact_match": 100 * exact / len(predicted), "answer_f1": 100 * overlap / len(predicted)}


WORDS = [
    "the",
    "a",
    "an",
    "la",
    "el",
    "unos",
    "río",
    "Ebro",
    "river",
    "RIVER",
    "1879",
    "in",
    "co-op",
    "l'Eau",
    "theatre",
]
MARKS = [",", ".", "!", "¿", "«", "—", "’", "$", "  ", "\t", "\u00a0", "'s", "(", "_"]


def random_answer(draw: random.Random) -> str:
    text = ""
    for _ in range(draw.randint(0, 5)):
        text += draw.choice(WORDS) + draw.choice([" ", " ", " ", draw.choice(MARKS)])
    return text if draw.random() < 0.7 else text.strip()


def altered(draw: random.Random, text: str) -> str:
    words = text.split(" ")
    if draw.random() < 0.5:
        words[draw.randrange(len(words))] = draw.choice([*WORDS, *MARKS, ""])
    return " ".join(words)


@pytest.mark.parametrize(
    ("rules", "articles", "punctuation", "version"),
    [
        (SQUAD_1, "a|an|the", set(string.punctuation), 1),
        (SQUAD_2, "a|an|the", set(string.punctuation), 2),
        (MLQA_ENGLISH, "a|an|the", EVERY_PUNCTUATION, 1),
        (MLQA_SPANISH, "un|una|unos|unas|el|la|los|las", EVERY_PUNCTUATION, 1),
    ],
    ids=["squad 1.1", "squad 2.0", "mlqa english", "mlqa spanish"],
)
def test_any_answers_get_the_official_numbers(
    rules: AnswerRules, articles: str, punctuation: set[str], version: int
) -> None:
    draw = random.Random(6)
    for _ in range(1000):
        gold = [[random_answer(draw) for _ in range(draw.randint(1, 3))] for _ in range(draw.randint(1, 3))]
        predicted = [altered(draw, draw.choice([*answers, random_answer(draw)])) for answers in gold]
        if version == 2:
            gold = [answers if draw.random() < 0.8 else [] for answers in gold]
        wanted = told_again(predicted, gold, articles, punctuation, version)
        assert answer_metrics(predicted, gold, rules) == pytest.approx(wanted, rel=1e-12), (predicted, gold)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Ebro,  a river.", "ebro river"),
        ("theatre", "theatre"),
        ("co-op", "coop"),
        ("¿El río?", "¿el río"),
        ("A", ""),
        ("", ""),
        # An article is one after the punctuation has gone.
        ("the-", ""),
        ("l'a-n", "lan"),
    ],
)
def test_the_normal_form_of_squad(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


def test_the_normal_form_in_spanish() -> None:
    assert normalize_answer("¿El río «Ebro» en the Delta?", MLQA_SPANISH) == "río ebro en the delta"
    assert normalize_answer("¿El río?", AnswerRules(articles=SPANISH_ARTICLES)) == "¿ río"
    both = AnswerRules(articles=ENGLISH_ARTICLES + SPANISH_ARTICLES, punctuation="unicode")
    assert normalize_answer("¡Las the orillas!", both) == "orillas"
    assert normalize_answer("The end", AnswerRules(articles=())) == "the end"


def test_the_best_of_several_answers_counts() -> None:
    gold = [["the river Ebro", "Ebro"]]
    assert answer_metrics(["an Ebro"], gold) == {"exact_match": 100.0, "answer_f1": 100.0}
    assert answer_metrics(["Ebro delta"], gold) == pytest.approx({"exact_match": 0.0, "answer_f1": 100 * 2 / 3})
    assert answer_metrics(["Ebro", "Ebro"], [["Ebro"], ["Tajo"]]) == {"exact_match": 50.0, "answer_f1": 50.0}


def test_a_word_is_common_as_often_as_both_have_it() -> None:
    # Two of three, and two of two.
    assert answer_metrics(["so so so"], [["so so"]])["answer_f1"] == pytest.approx(100 * 2 * (2 / 3) / (2 / 3 + 1))


@pytest.mark.parametrize("none", [[], [""], ["", ""]])
def test_a_question_without_an_answer(none: list[str]) -> None:
    assert answer_metrics([""], [none]) == {"exact_match": 100.0, "answer_f1": 100.0}
    assert answer_metrics(["Ebro"], [none]) == {"exact_match": 0.0, "answer_f1": 0.0}
    assert answer_metrics([""], [["Ebro"]]) == {"exact_match": 0.0, "answer_f1": 0.0}


def test_where_the_two_versions_of_squad_differ() -> None:
    # A grade, whose normal form has no word left.
    assert answer_metrics(["A"], [["A"]], SQUAD_1) == {"exact_match": 100.0, "answer_f1": 0.0}
    assert answer_metrics(["A"], [["A"]], SQUAD_2) == {"exact_match": 100.0, "answer_f1": 100.0}
    assert answer_metrics([""], [["A", "grade A"]], SQUAD_1)["exact_match"] == 100.0
    assert answer_metrics([""], [["A", "grade A"]], SQUAD_2)["exact_match"] == 0.0


def test_no_question_at_all() -> None:
    assert answer_metrics([], []) == {"exact_match": 0.0, "answer_f1": 0.0}


def test_every_question_needs_its_prediction() -> None:
    with pytest.raises(ValueError, match="longer"):
        answer_metrics(["Ebro"], [["Ebro"], ["Tajo"]])


def test_rules_by_name_allow_for_none_where_a_question_has_none():
    assert rules_for("squad", [["a lamp"], ["a boat", "boat"]]) == SQUAD_1
    assert rules_for("squad", [["a lamp"], []]) == SQUAD_2
    spanish = rules_for("mlqa-es", [["el faro"]])
    assert spanish == MLQA_SPANISH and not spanish.may_have_no_answer
    gold = [["el faro"], []]
    found = answer_metrics(["«Faro»", ""], gold, rules_for("mlqa-es", gold))
    assert found == {"exact_match": 100.0, "answer_f1": 100.0}
