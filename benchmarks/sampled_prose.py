"""How much a model that continues texts writes like its book, and how much it recites: words known, and runs of words.

    python benchmarks/sampled_prose.py MODEL --train TRAIN.txt --book TRAIN.txt VALID.txt

A hundred texts are drawn, each from a seed and from an opening of our own in turn. Counted are the words that occur
anywhere in the book (without regard to case), and the texts that repeat no run of eight words of the training part. A
last word that the limit of tokens may have cut is left out. Prints one line of JSON; --show N prints texts before it.
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import trasluz

OPENINGS = (
    "Era la noche",
    "El caballero",
    "Respondió la dueña",
    "No hay camino",
    "Por la mañana",
    "Dicen los pastores",
    "Con esto",
    "La ventera",
    "Quien tiene hambre",
    "A la sombra de un árbol",
)
RUN = 8
_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Return the words of a text, in lower case."""
    return _WORD.findall(text.lower())


def runs_of(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield every run of words of the length that counts as reciting."""
    yield from zip(*(words[start:] for start in range(RUN)), strict=False)


def main() -> None:
    """Read the options, draw the texts and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--book", type=Path, nargs="+", required=True)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--max-tokens", type=int, default=150)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1, help="of the first text; the next ones count on from it")
    parser.add_argument("--show", type=int, default=0)
    options = parser.parse_args()

    known = {word for path in options.book for word in words_of(path.read_text(encoding="utf-8"))}
    learnt = set(runs_of(words_of(options.train.read_text(encoding="utf-8"))))
    generate = trasluz.load(options.model)
    total = in_book = original = 0
    for number in range(options.samples):
        opening = OPENINGS[number % len(OPENINGS)]
        text = generate(
            opening,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            top_p=options.top_p,
            seed=options.seed + number,
        ).text
        if number < options.show:
            print(f"{opening}{text}\n")
        # The first word is cut off only where the model writes on inside the opening's last word.
        written = words_of(text)[0 if text[:1].isspace() or not text[:1].isalnum() else 1 : -1]
        total += len(written)
        in_book += sum(word in known for word in written)
        original += not any(run in learnt for run in runs_of(words_of(opening) + written))
    report = {
        "model": options.model,
        "samples": options.samples,
        "words": total,
        "percent_of_words_in_the_book": round(100 * in_book / max(total, 1), 2),
        "texts_without_a_run_of_eight_words_of_the_training_part": original,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
