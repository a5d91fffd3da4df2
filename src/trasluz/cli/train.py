"""`trasluz train` and `trasluz distill`: a recipe in, a model out, the run shown as it goes."""

from pathlib import Path
from typing import Annotated

import typer

from trasluz.cli.options import CommonOptions, with_common_options

# The common options a recipe has keys for; on the command line they win, as any override does.
_KEYS = {
    "device": "training.device",
    "dtype": "training.precision",
    "threads": "training.threads",
    "batch_tokens": "training.batch_tokens",
    "seed": "training.seed",
}


RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE.yaml", help="The recipe; `trasluz init` writes one.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY.PATH=VALUE", help="Changes to the recipe, such as training.seed=2."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the newest checkpoint, as if the run had never stopped.")
]


@with_common_options
def train(common: CommonOptions, recipe: RecipeFile, overrides: Overrides = None, resume: Resume = False) -> None:
    """Train any model from a recipe.

    A bar shows loss, tokens a second, padding and the time left. Ctrl-C (or SIGTERM) saves and leaves; a second Ctrl-C
    leaves at once. The run's folder is then the MODEL for every other verb.
    """
    _train(common, recipe, overrides, resume=resume, distill=False)


@with_common_options
def distill(common: CommonOptions, recipe: RecipeFile, overrides: Overrides = None, resume: Resume = False) -> None:
    """Train a small encoder that learns from a larger one.

    The recipe is one of `trasluz train` with a section `distillation`, which names the teacher, and a model that may be
    the teacher with fewer layers: model: {from: TEACHER, layers: every-second}.
    """
    _train(common, recipe, overrides, resume=resume, distill=True)


def _train(common: CommonOptions, recipe: Path, overrides: list[str] | None, *, resume: bool, distill: bool) -> None:
    from trasluz.cli.progress import watch
    from trasluz.errors import RecipeError
    from trasluz.training.recipe_file import read_recipe
    from trasluz.training.run import run_recipe

    common.prepare()
    read = read_recipe(recipe, [*(overrides or []), *overrides_of(common)])
    if distill and read.distillation.teacher is None:
        raise RecipeError(
            f"{read.place('distillation.teacher')} is missing: name the model that teaches, or use `trasluz train`"
        )
    ended = watch(run_recipe(read, resume=resume), quiet=common.quiet)
    if ended is not None and ended.reason == "interrupted":
        raise typer.Exit(130)


def overrides_of(common: CommonOptions) -> list[str]:
    """Return the common options that were given as overrides of recipe keys."""
    given = {key: getattr(common, name) for name, key in _KEYS.items()}
    return [f"{key}={value}" for key, value in given.items() if value is not None]
