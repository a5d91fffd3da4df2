"""Which model a run starts from: none, where the recipe names a preset; else a trained one, whole or in part."""

import dataclasses
from typing import Any

from trasluz.checkpoints.model_folder import LoadedModel, load_model
from trasluz.errors import ModelError, RecipeError, nearest
from trasluz.models.bert import Bert
from trasluz.models.registry import architecture_of, make_config, model_of, presets
from trasluz.tasks.loading import find_model
from trasluz.training.recipe import EVERY_SECOND, Recipe, leaves_weights


def named_model(recipe: Recipe) -> str:
    """Return the preset or the model that the recipe names."""
    name: str = recipe.model if isinstance(recipe.model, str) else recipe.model.get("preset") or recipe.model["from"]
    return name


def base_model(recipe: Recipe) -> str | None:
    """Return the name of the trained model to start from; None where the recipe names a preset."""
    if not isinstance(recipe.model, str):
        name: str | None = recipe.model.get("from")
        return name
    return None if recipe.model in presets() else recipe.model


def starting_model(recipe: Recipe) -> LoadedModel | None:
    """Return the loaded model to start from, with the layers and the length of the recipe; None: there is none."""
    name = base_model(recipe)
    if name is None:
        return None
    given = read_named(recipe, "model", name, hint_presets=True)
    if isinstance(recipe.model, str):
        return given
    if settings := {key: setting for key, setting in recipe.model.items() if leaves_weights(key)}:
        given = _with_settings(recipe, given, settings)
    if recipe.model.keys() & {"layers", "lengthen"} and not isinstance(given.model, Bert):
        raise RecipeError(
            f"{recipe.place('model', 'layers', 'lengthen')}: {given.name} is no encoder; only encoders are cut in "
            "layers or made longer"
        )
    if "layers" in recipe.model:
        given = _thinned(recipe, given)
    return _lengthened(recipe, given) if "lengthen" in recipe.model else given


def read_named(recipe: Recipe, key: str, name: str, *, hint_presets: bool = False) -> LoadedModel:
    """Return what a folder, bundled name or hub id holds; RecipeError with the key's place."""
    try:
        return load_model(find_model(name))
    except ModelError as error:
        hint = ""
        if hint_presets:
            close = nearest(name, presets())
            hint = f" Or did you mean the preset {close}?" if close else " Presets are listed by `trasluz models`."
        raise RecipeError(f"{recipe.place(key, 'from')}: {error}{hint}") from None


def _with_settings(recipe: Recipe, given: LoadedModel, settings: dict[str, Any]) -> LoadedModel:
    try:
        config = make_config(architecture_of(given.config), given.config.model_dump() | settings, given.name)
    except ModelError as error:
        raise RecipeError(f"{recipe.place('model', *error.keys)}: {error}") from None
    model = model_of(config)
    model.load_state_dict(given.model.state_dict())
    return dataclasses.replace(given, model=model, config=config)


def _thinned(recipe: Recipe, given: LoadedModel) -> LoadedModel:
    model: Any = given.model
    wanted: Any = recipe.model["layers"]
    kept: list[int] = list(range(0, len(model.blocks), 2)) if wanted == EVERY_SECOND else wanted
    if kept[-1] >= len(model.blocks):
        raise RecipeError(
            f"{recipe.place('model.layers')}: {given.name} has the layers 0 to {len(model.blocks) - 1}, and no "
            f"{kept[-1]}"
        )
    thinned = model.with_layers(kept)
    return dataclasses.replace(given, model=thinned, config=thinned.config)


def _lengthened(recipe: Recipe, given: LoadedModel) -> LoadedModel:
    wanted: Any = recipe.model
    try:
        return given.lengthened(**wanted["lengthen"])
    except ModelError as error:
        raise RecipeError(f"{recipe.place('model.lengthen', *error.keys)}: {error}") from None
