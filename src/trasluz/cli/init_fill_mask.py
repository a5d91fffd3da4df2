"""The part of `trasluz init` that writes a recipe for pre-training by masked words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trasluz.cli.init_words import MOST_COUNTED

if TYPE_CHECKING:
    from trasluz.cli.init_words import Asked, Made

_DOCUMENTS = "train with masking.next_sentence=true, or leave empty lines out with data.on_error=skip."


def masked_words_recipe(asked: "Asked") -> "Made":
    """Return the parts of the recipe that data and machine decide, and what to say of them."""
    from trasluz.cli import sizing
    from trasluz.text.data_naming import find_files
    from trasluz.text.readers import read_documents, read_texts

    entry, on_error = asked.entry, asked.on_error
    num_documents = 0

    def lines_of_documents() -> Iterator[str]:
        nonlocal num_documents
        for one in read_documents(entry, on_error=on_error):
            num_documents += 1
            yield from one.lines

    files = find_files(entry)
    # Between the lines of plain files empty ones may stand, for next sentences.
    is_plain = all(file.format in ("text", "moses") for file in files)
    texts = lines_of_documents() if is_plain else (one.text for one in read_texts(entry, on_error=on_error))
    corpus = sizing.count_labelled(((text, "") for text in texts), MOST_COUNTED, "one")
    values = {
        "task": "fill-mask",
        "model": asked.model or ("bert-small" if asked.machine.has_gpu else "bert-mini"),
        "data": {"max_length": asked.fitting_length(min(128, corpus.max_length))},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 8000, "lowercase": True},
        **sizing.masked_words_for(asked.machine, pretrained=asked.is_pretrained),
        "output": "runs/fill-mask",
    }
    has_empty_lines = num_documents > len(files) and on_error == "stop"
    notes = [f"{num_documents:,} documents, by empty lines between them: {_DOCUMENTS}"] if has_empty_lines else []
    counted = f"{corpus.num_texts:,} texts of {corpus.words / corpus.num_texts:.1f} words"
    return values, asked.heading(counted, *notes, more=corpus.more)
