"""The part of `trasluz init` that writes a recipe for a model that continues texts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trasluz.cli.data_words import shown

if TYPE_CHECKING:
    from trasluz.cli.sizing import Machine

# What a window holds: some paragraphs.
_WINDOW = 256


def generation_recipe(
    entry: Any, machine: "Machine", model: str | None, document: str, on_error: str, *, has_valid: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return the parts of the recipe that data and machine decide, and what to say of them.

    Raises RequestError for a single document where no other is named to choose by.
    """
    from trasluz.cli import sizing
    from trasluz.cli.evaluate_generated import check_document
    from trasluz.cli.init import HOW_TO_TRAIN, MOST_COUNTED, fitting_length, on, origin
    from trasluz.errors import RequestError
    from trasluz.models.registry import presets
    from trasluz.text.readers import read_texts

    check_document(document)

    def documents() -> Iterator[tuple[str, str]]:
        for one in read_texts(entry, on_error=on_error, whole_files=document == "file"):
            yield one.text, ""

    corpus = sizing.count_labelled(documents(), MOST_COUNTED, "one")
    if corpus.num_texts == 1 and not has_valid:
        raise RequestError(
            f"{shown(entry)} is a single document, of which none can be held out: name another with --valid, or take "
            "every line as a document with --document line."
        )
    values = {
        "task": "generate",
        "model": model or sizing.generator_for(corpus, machine, _WINDOW),
        "data": {"document": document, "max_length": fitting_length(_WINDOW, model)},
        "tokenizer": {"kind": "bpe", "vocab_size": 4000 if corpus.words < 1_000_000 else 8000},
        **sizing.continuation_for(machine, pretrained=model is not None and model not in presets()),
        "output": "runs/generate",
    }
    at_least = "at least " if corpus.more else ""
    return values, [
        origin(entry),
        f"{at_least}{corpus.num_texts:,} documents of {corpus.words / corpus.num_texts:.1f} words; {on(machine)}.",
        HOW_TO_TRAIN,
    ]
