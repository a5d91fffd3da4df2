"""The part of `trasluz init` that writes a recipe for a model that continues texts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trasluz.cli.data_words import shown
from trasluz.cli.init_words import MOST_COUNTED

if TYPE_CHECKING:
    from trasluz.cli.init_words import Asked, Made

# What a window holds: some paragraphs.
_WINDOW = 256


def generation_recipe(asked: "Asked") -> "Made":
    """Return the parts of the recipe that data and machine decide, and what to say of them.

    Raises RequestError for a single document where no other is named to choose by.
    """
    from trasluz.cli import sizing
    from trasluz.cli.evaluate_generated import check_document
    from trasluz.errors import RequestError
    from trasluz.text.readers import read_texts

    entry, document = asked.entry, asked.document
    check_document(document)

    def documents() -> Iterator[tuple[str, str]]:
        for one in read_texts(entry, on_error=asked.on_error, whole_files=document == "file"):
            yield one.text, ""

    corpus = sizing.count_labelled(documents(), MOST_COUNTED, "one")
    if corpus.num_texts == 1 and not asked.has_valid:
        raise RequestError(
            f"{shown(entry)} is a single document, of which none can be held out: name another with --valid, or take "
            "every line as a document with --document line."
        )
    values = {
        "task": "generate",
        "model": asked.model or sizing.generator_for(corpus, asked.machine, _WINDOW),
        "data": {"document": document, "max_length": asked.fitting_length(_WINDOW)},
        "tokenizer": {"kind": "bpe", "vocab_size": 4000 if corpus.words < 1_000_000 else 8000},
        **sizing.continuation_for(asked.machine, pretrained=asked.is_pretrained),
        "output": "runs/generate",
    }
    counted = f"{corpus.num_texts:,} documents of {corpus.words / corpus.num_texts:.1f} words"
    return values, asked.heading(counted, more=corpus.more)
