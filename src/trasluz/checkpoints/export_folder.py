"""What a folder for another engine holds beside the engine's own files.

tokenizer.json, ...       or source.spm, target.spm, vocab.json of Marian's models
README.md                 a program that translates, and what goes in and comes out
MODEL_CARD.md             the card of the model, with its licences
"""

import contextlib
import textwrap
from collections.abc import Iterator
from pathlib import Path

import trasluz
from trasluz.checkpoints.generation_settings import max_target_tokens
from trasluz.checkpoints.model_folder import CARD, LoadedModel, language_tags
from trasluz.checkpoints.tokenizer_files import save_tokenizers
from trasluz.errors import RequestError
from trasluz.files import atomic_folder

MODEL_CARD = "MODEL_CARD.md"

# Sinusoids have no end; the tables of other engines have.
LEAST_POSITIONS = 1024

_SHOWN_TAGS = 8
_USUAL_MAX_LENGTH = 512


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder to fill; it stands under its name only when the block ends well.

    Raises RequestError where something stands there already.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file, but a folder is to be written: choose another name.")
    if folder.is_dir() and any(folder.iterdir()):
        raise RequestError(f"{folder} holds files already: choose a new folder, or empty this one.")
    with atomic_folder(folder) as temporary:
        yield temporary


def write_companions(folder: Path, loaded: LoadedModel, engine: str, about: str) -> None:
    """Write tokenizers, README and model card; `about` is what the README says of this engine."""
    save_tokenizers(folder, loaded.source_tokenizer, loaded.target_tokenizer)
    (folder / CARD).write_text(f"{_heading(loaded, engine)}\n\n{about}", encoding="utf-8")
    if loaded.card:
        (folder / MODEL_CARD).write_text(loaded.card, encoding="utf-8")


def tag_notes(loaded: LoadedModel) -> str:
    """Return a sentence about the token that begins a source and tells the language to translate to."""
    tags = list(language_tags(loaded).values())
    if not tags:
        return "Nothing stands before a text."
    more = f" and {len(tags) - _SHOWN_TAGS} more" if len(tags) > _SHOWN_TAGS else ""
    listed = ", ".join(f"`{tag}`" for tag in tags[:_SHOWN_TAGS])
    return f"The token before a text says which language to translate it to: {listed}{more}."


def no_repeat_ngram(loaded: LoadedModel) -> int:
    """Return how many tokens in a row may not stand twice in a target; 0: any may."""
    return int(loaded.generation.get("no_repeat_ngram_size") or 0)


def most_target_tokens(loaded: LoadedModel) -> int:
    """Return how many tokens a target may have, its end included."""
    config, most = loaded.config, max_target_tokens(loaded.generation)
    if most is None:
        most = _USUAL_MAX_LENGTH
    # Sinusoids have no end; trained positions do.
    return min(most, config.max_positions) if getattr(config, "positions", None) == "trainable" else most


def paragraphs(*texts: str) -> str:
    """Return texts as paragraphs of Markdown in lines of a readable length; code and tables stay as they are."""
    filled = (text if text.startswith(("```", "|")) else textwrap.fill(text, 120) for text in texts)
    return "\n\n".join(filled) + "\n"


def _heading(loaded: LoadedModel, engine: str) -> str:
    arrow = " <-> " if loaded.both_directions else " -> "
    ways = f" ({arrow.join(loaded.languages)})" if loaded.languages else ""
    words = f"Written by trasluz {trasluz.__version__} from {loaded.name}{ways}."
    if loaded.card:
        words += f" What it was trained on, and its licences, stand in [{MODEL_CARD}]({MODEL_CARD})."
    return f"# {loaded.name} for {engine}\n\n{textwrap.fill(words, 120)}"
