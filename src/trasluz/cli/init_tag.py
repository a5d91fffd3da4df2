"""The part of `trasluz init` that writes a recipe for tagged words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trasluz.cli.init_words import MOST_COUNTED

if TYPE_CHECKING:
    from trasluz.cli.init_words import Asked, Made


def tagging_recipe(asked: "Asked") -> "Made":
    """Return the parts of the recipe that data and machine decide, and what to say of them."""
    from trasluz.cli import sizing
    from trasluz.text.entities import decode_entities
    from trasluz.text.readers import ReadReport
    from trasluz.training.tagged_examples import read_tagged

    kinds: set[str] = set()

    def sentences() -> Iterator[tuple[str, str]]:
        for one in read_tagged(asked.entry, on_error=asked.on_error, report=ReadReport()):
            kinds.update(entity.label for entity in decode_entities(one.tags))
            yield " ".join(one.words), ""

    corpus = sizing.count_labelled(sentences(), MOST_COUNTED, "one")
    settings = sizing.classification_for(corpus, asked.machine, pretrained=asked.is_pretrained)
    settings["training"]["label_smoothing"] = 0.0
    values = {
        "task": "tag",
        "model": asked.model or "bert-tiny",
        "data": {"max_length": asked.fitting_length(corpus.max_length)},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 8000, "lowercase": False},
        **settings,
        "output": "runs/tag",
    }
    counted = f"{corpus.num_texts:,} sentences of {corpus.words / corpus.num_texts:.1f} words"
    notes = asked.notes_of_encoder(f"Entities: {', '.join(sorted(kinds)) or 'none'}.")
    return values, asked.heading(counted, *notes, more=corpus.more)
