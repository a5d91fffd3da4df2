"""Made-up text and recipes that learn a language from it in a few seconds."""

import random
from pathlib import Path
from typing import Any

from small_run import prepared

from trasluz.training.data import PreparedData
from trasluz.training.masked_words_job import MaskedWordsJob
from trasluz.training.next_sentence_job import pre_training_job
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import parse_recipe

WEEK = "monday tuesday wednesday thursday friday".split()


def text_recipe(folder: Path, *overrides: str, name: str = "run") -> Recipe:
    """Return a recipe over text in which every day is known from its neighbours."""
    lines = folder / "text.txt"
    if not lines.exists():
        days = [" then ".join(WEEK[(first + step) % 5] for step in range(3)) for first in range(5)]
        lines.write_text("".join(f"{day}, {number % 7} times\n" for number, day in enumerate(days * 60)))
    text = f"""
task: fill-mask
model: {{preset: bert-tiny, model_dim: 32, num_heads: 2, feed_forward_dim: 64, num_layers: 2, max_positions: 40,
  dropout: 0.0, attention_dropout: 0.0}}
data: {{train: {lines}, held_out: 2, max_length: 30}}
tokenizer: {{kind: wordpiece, vocab_size: 300, lowercase: true}}
training: {{max_steps: 300, batch_tokens: 400, warmup_steps: 20, learning_rate: 5e-3, schedule: linear, threads: 1,
  label_smoothing: 0.0}}
evaluation: {{every: 150 steps, patience: null}}
output: {folder / name}
"""
    return parse_recipe(text, overrides)


def prepare(recipe: Recipe) -> tuple[MaskedWordsJob, PreparedData[Any]]:
    job = pre_training_job(recipe, None)
    return job, prepared(recipe, job.examples)


TOPICS = {
    "sea": "wave boat gull sand tide".split(),
    "kitchen": "pan salt oven dough spoon".split(),
    "garden": "rose spade seed bee hedge".split(),
    "sky": "cloud star kite moon wind".split(),
}


def write_documents(path: Path, count: int = 120) -> Path:
    """Write documents of some lines, each about one thing, with an empty line between two of them."""
    generator = random.Random(2)
    documents = []
    for number in range(count):
        topic, words = list(TOPICS.items())[number % len(TOPICS)]
        lines = [
            f"the {generator.choice(words)} and the {generator.choice(words)} of the {topic}"
            for _ in range(generator.randint(2, 9))
        ]
        documents.append("\n".join(lines) + "\n")
    path.write_text("\n".join(documents))
    return path


def document_recipe(folder: Path, *overrides: str, name: str = "run") -> Recipe:
    """Return a recipe that learns masked words and next sentences from such documents."""
    documents = folder / "documents.txt"
    if not documents.exists():
        write_documents(documents)
    on_documents = (f"data.train={documents}", "data.held_out=20", "masking.next_sentence=true")
    return text_recipe(folder, *on_documents, *overrides, name=name)
