"""The README.md of a trained model: what it does, what it learnt from, how good it is, how it was made."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trasluz.checkpoints.model_card import Score, card_head
from trasluz.training.data import DataCounts
from trasluz.training.quantities import format_duration
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import dump_recipe
from trasluz.training.starting_model import base_model
from trasluz.training.task_rules import METRIC_NAMES


def write_card(
    recipe: Recipe,
    counts: DataCounts,
    metrics: dict[str, float],
    signatures: dict[str, str],
    *,
    parameters: int,
    steps: list[int],
    seconds: float,
    tokens: int,
) -> str:
    """Return the model card of a translator, with the front matter that Hugging Face reads."""
    first, second = recipe.data.languages
    arrow = "<->" if recipe.data.both_directions else "->"
    return _card(
        recipe,
        counts,
        metrics,
        signatures,
        languages=(first, second),
        title=f"{first} {arrow} {second}",
        about=f"A translator with {parameters:,} parameters, trained by trasluz in {format_duration(round(seconds))} "
        f"on {tokens:,} target tokens. {_weights(steps)}",
        usage=['translate = trasluz.load("PATH OF THIS FOLDER")', f'print(translate("...", to="{second}").text)'],
        unscored=("loss",),
    )


def write_text_card(
    recipe: Recipe,
    counts: DataCounts,
    metrics: dict[str, float],
    signature: str,
    *,
    what: str,
    usage: Sequence[str],
    parameters: int,
    steps: list[int],
    seconds: float,
    tokens: int,
) -> str:
    """Return the model card of a model with one tokenizer; `what` says what it does, `usage` how, in Python."""
    return _card(
        recipe,
        counts,
        metrics,
        dict.fromkeys(metrics, signature),
        languages=(),
        title=Path(recipe.output).name,
        about=f"A model with {parameters:,} parameters that {what}. It was trained by trasluz in "
        f"{format_duration(round(seconds))} on {tokens:,} tokens. {_weights(steps)}",
        usage=usage,
        unscored=("loss",),
    )


def _weights(steps: Sequence[int]) -> str:
    which = f"update {steps[0]}" if len(steps) == 1 else f"the mean of updates {', '.join(map(str, steps))}"
    return f"Its weights are those of {which}."


def _card(
    recipe: Recipe,
    counts: DataCounts,
    metrics: dict[str, float],
    signatures: dict[str, str],
    *,
    languages: Sequence[str],
    title: str,
    about: str,
    usage: Sequence[str],
    unscored: Sequence[str],
) -> str:
    data = recipe.data
    # A bar inside a table's cell would end it.
    shown = {name: signatures.get(name, "").replace("|", "\\|") for name in metrics}
    rows = [f"| {name} | {value:.4g} | {shown[name]} |" for name, value in sorted(metrics.items())]
    valid = (
        _named(data.valid)
        if data.valid is not None
        else f"held out of the training text by seed {recipe.training.seed}"
    )
    origin = [
        ("training text", _named(data.train)),
        *([("texts without labels", "; ".join(map(_named, data.unlabelled)))] if data.unlabelled else []),
        *((f"pairs whose {language} a model wrote", _named(entry)) for language, entry in data.back_translated.items()),
        ("rows by their column `source`", ", ".join(data.sources) if data.sources is not None else "all"),
        ("kept away from", "; ".join(map(_named, data.exclude)) or "nothing"),
        ("counts", str(counts)),
        ("validation text", valid),
    ]
    scores = [
        Score(name, value, f"validation {counts.kind}s", signature=signatures.get(name, ""))
        for name, value in sorted(metrics.items())
        # Of several directions the mean alone is told up here.
        if name not in unscored and name in METRIC_NAMES
    ]
    base = base_model(recipe)
    head = card_head(Path(recipe.output).name, recipe.task, languages, base_model=base, scores=scores)
    return "\n".join(
        [
            head,
            f"# {title}",
            "",
            about,
            "",
            "```python",
            "import trasluz",
            "",
            *usage,
            "```",
            "",
            "## Data",
            "",
            *[f"- {name}: {value}" for name, value in origin],
            "",
            "The licences of these texts are whatever their owners say; trasluz knows only the names of the files. Add",
            "them here before you share the model.",
            "",
            "## Scores on the validation text",
            "",
            "The weights were chosen by these, so they flatter a little.",
            "",
            "| | | signature |",
            "|---|---|---|",
            *rows,
            "",
            "## Recipe",
            "",
            "```yaml",
            dump_recipe(recipe).rstrip(),
            "```",
            "",
        ]
    )


def _named(entry: Any) -> str:
    if isinstance(entry, str):
        return f"`{entry}`"
    if isinstance(entry, list):
        return ", ".join(map(_named, entry))
    return f"`{json.dumps(entry, ensure_ascii=False)}`"
