"""The part of `trasluz init` that writes a recipe for labelled texts."""

from typing import TYPE_CHECKING

from trasluz.cli.data_words import shown
from trasluz.cli.init_words import MOST_COUNTED

if TYPE_CHECKING:
    from trasluz.cli.init_words import Asked, Made


def classification_recipe(asked: "Asked") -> "Made":
    """Return the parts of the recipe that data and machine decide, and what to say of them."""
    from trasluz.cli import sizing
    from trasluz.errors import RequestError
    from trasluz.text.readers import ReadReport
    from trasluz.training.labelled_examples import read_labelled

    pairs, kind = asked.pairs, asked.label_kind
    found = read_labelled(asked.entry, pairs=pairs, kind=kind, on_error=asked.on_error, report=ReadReport())
    texts = ((f"{one.text} {one.second_text or ''}", one.label or "") for one in found)
    labels = sizing.count_labelled(texts, MOST_COUNTED, kind)
    if kind == "one" and labels.num_labels < 2:
        raise RequestError(f"every text of {shown(asked.entry)} has the same label: there is nothing to learn.")
    values = {
        "task": "classify",
        "model": asked.model or "bert-tiny",
        "data": {"pairs": pairs, "label_kind": kind, "max_length": asked.fitting_length(labels.max_length)},
        "tokenizer": {"kind": "wordpiece", "vocab_size": 8000, "lowercase": True},
        **sizing.classification_for(labels, asked.machine, pretrained=asked.is_pretrained),
        "output": "runs/classify",
    }
    kinds = "numbers" if kind == "number" else f"{labels.num_labels} labels"
    counted = f"{labels.num_texts:,} texts of {labels.words / labels.num_texts:.1f} words, {kinds}"
    return values, asked.heading(counted, *asked.notes_of_encoder(), more=labels.more)
