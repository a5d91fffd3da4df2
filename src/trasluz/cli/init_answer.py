"""The part of `trasluz init` that writes a recipe for finding answers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trasluz.cli.init_words import MOST_COUNTED

if TYPE_CHECKING:
    from trasluz.cli.init_words import Asked, Made


def answering_recipe(asked: "Asked") -> "Made":
    """Return the parts of the recipe that data and machine decide, and what to say of them."""
    from trasluz.cli import sizing
    from trasluz.text.readers import ReadReport
    from trasluz.training.answer_examples import read_questions

    contexts: set[int] = set()
    without = 0

    def questions() -> Iterator[tuple[str, str]]:
        nonlocal without
        for one in read_questions(asked.entry, on_error=asked.on_error, report=ReadReport()):
            contexts.add(hash(one.context))
            without += not one.answers
            yield f"{one.question} {one.context}", ""

    corpus = sizing.count_labelled(questions(), MOST_COUNTED, "one")
    settings = sizing.classification_for(corpus, asked.machine, pretrained=asked.is_pretrained)
    settings["training"]["label_smoothing"] = 0.0
    values = {
        "task": "answer",
        "model": asked.model or "bert-tiny",
        # What is longer is read in windows.
        "data": {"max_length": asked.fitting_length(min(384, corpus.max_length))},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 8000, "lowercase": True},
        **settings,
        "output": "runs/answer",
    }
    counted = (
        f"{corpus.num_texts:,} questions about {len(contexts):,} contexts, "
        f"{corpus.words / corpus.num_texts:.1f} words together"
    )
    notes = asked.notes_of_encoder(f"{without:,} of the questions have no answer.")
    return values, asked.heading(counted, *notes, more=corpus.more)
