"""The part of `trasluz init` that writes a recipe for a translator."""

from typing import TYPE_CHECKING

from trasluz.cli.data_words import guess_languages, parse_languages, shown
from trasluz.cli.init_words import MOST_COUNTED

if TYPE_CHECKING:
    from trasluz.cli.init_words import Asked, Made


def translation_recipe(asked: "Asked") -> "Made":
    """Return the parts of the recipe that data and machine decide, and what to say of them."""
    from trasluz.cli import sizing
    from trasluz.errors import RequestError
    from trasluz.models.registry import find_preset
    from trasluz.text.readers import read_pairs

    entry, machine = asked.entry, asked.machine
    languages = parse_languages(asked.languages) if asked.languages else guess_languages(entry)
    pairs = read_pairs(entry, languages=languages, on_error=asked.on_error)
    corpus = sizing.count_corpus(((one.source, one.target) for one in pairs), MOST_COUNTED)
    if not corpus.num_pairs:
        raise RequestError(f"{shown(entry)} holds no sentence pair; name files with at least some thousands of them.")
    name = asked.model or sizing.preset_for(corpus, machine)
    find_preset(name)
    values = {
        "task": "translate",
        "model": {"preset": name, "dropout": sizing.dropout_for(corpus)},
        "data": {"languages": list(languages), "both_directions": asked.both_directions},
        "tokenizer": {"vocab_size": sizing.vocab_size_for(corpus)},
        **sizing.training_for(corpus, machine),
        "output": f"runs/{languages[0]}-{languages[1]}",
    }
    words = " and ".join(f"{count / corpus.num_pairs:.1f}" for count in (corpus.source_words, corpus.target_words))
    return values, asked.heading(f"{corpus.num_pairs:,} pairs of {words} words", more=corpus.more)
