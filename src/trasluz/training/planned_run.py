"""What a recipe says of its run, for a plan (planning/run.py)."""

from typing import Any

from trasluz.planning.run import Run, longest_text, preset_config, refuse_vocabulary
from trasluz.training.recipe import Recipe
from trasluz.training.starting_model import named_model, starting_model
from trasluz.training.teacher import read_teacher


def planned_run(recipe: Recipe, vocab_size: int | None = None, **known: Any) -> Run:
    """Return the run of a recipe; `known` are fields of `Run` that are said elsewhere, as is a preset's `vocab_size`.

    Models that it starts from or learns from are read.
    """
    training, started, teacher = recipe.training, starting_model(recipe), read_teacher(recipe)
    name = named_model(recipe)
    if started is None:
        size = recipe.tokenizer.vocab_size if vocab_size is None else vocab_size
        config = preset_config(recipe.model, size)
    else:
        refuse_vocabulary(name, vocab_size)
        config = started.config
    length = recipe.data.max_length
    if recipe.task == "classify":
        # Its texts are cut to what the model reads; of others, training refuses a length beyond it.
        length = min(length, longest_text(config) or length)
    budgets = (training.max_tokens, training.max_steps and training.max_steps * training.batch_tokens)
    said: dict[str, Any] = {
        "length": length,
        "tokens": min((float(budget) for budget in budgets if budget), default=None),
    }
    return Run(
        name,
        config,
        task=recipe.task,
        batch_tokens=training.batch_tokens,
        micro_batch_tokens=training.micro_batch_tokens,
        precision=training.precision,
        optimizer=training.optimizer,
        recompute=training.recompute_activations,
        freeze_layers=training.freeze_layers,
        teacher=None if teacher is None else teacher.model.config,
        **said | known,
    )
