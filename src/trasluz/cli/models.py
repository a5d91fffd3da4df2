"""`trasluz models`: what there is to train and to load."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from trasluz.cli.options import CommonOptions, with_common_options

# Sizes depend on the vocabulary; where a paper names none, they are given for this one.
USUAL_VOCAB_SIZE = 8_000


@with_common_options
def models(
    common: CommonOptions,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List what can be trained, and what can be loaded."""
    from trasluz.cli.streams import answer, answer_json

    common.prepare()
    if as_json:
        for row in [*presets(), *bundled(), *loadable()]:
            answer_json(row)
        return
    answer("Presets, to train (the name goes into a recipe's `model`)")
    for row in presets():
        size = f"{_in_words(row['parameters'])} at {row['vocab_size']:,} tokens"
        answer(f"  {row['name']:<20} {size:<26} {row['summary']}")
    answer("")
    answer("Bundled models, to use as MODEL")
    for row in bundled():
        answer(f"  {row['name']:<20} {row['summary']}")
    answer("")
    answer("Hugging Face model types that load from a folder")
    for row in loadable():
        answer(f"  {row['name']:<20} {row['summary']}")


def presets() -> Iterator[dict[str, Any]]:
    """Give a row for each preset; the number of parameters comes from the closed formula."""
    from trasluz.models import registry

    for name, (architecture, preset) in registry.presets().items():
        vocab_size = preset.paper_vocab_size or USUAL_VOCAB_SIZE
        config = registry.build_config(name, **dict.fromkeys(architecture.vocab_fields, vocab_size))
        yield {
            "kind": "preset",
            "name": name,
            "tasks": list(architecture.tasks),
            "parameters": architecture.count_parameters(config),
            "vocab_size": vocab_size,
            "summary": preset.summary,
        }


def bundled() -> Iterator[dict[str, Any]]:
    """Give a row for each model that comes with the package."""
    import json

    from trasluz.checkpoints.task_folders import task_folders
    from trasluz.tasks.loading import bundled_models

    for name, folder in bundled_models().items():
        ours = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("trasluz", {})
        tasks = [ours.get("task"), *task_folders(folder)]
        ways = " and ".join(ours.get("languages", []))
        both = ", either way" if ours.get("both_directions") else ""
        said = ", ".join(tasks)
        yield {
            "kind": "bundled",
            "name": name,
            "tasks": tasks,
            "summary": f"{said}: {ways}{both}" if ways else said,
        }


def loadable() -> Iterator[dict[str, Any]]:
    """Give a row for each Hugging Face `model_type` that loads."""
    from trasluz.models.hub_format import hub_formats

    for name, hub_format in hub_formats().items():
        yield {"kind": "model_type", "name": name, "summary": hub_format.summary}


def _in_words(parameters: int) -> str:
    if parameters < 10_000_000:
        return f"{parameters / 1e6:.1f} M"
    return f"{parameters / 1e6:,.0f} M"
