"""A larger model that teaches the one in training."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trasluz.errors import RecipeError
from trasluz.models.bert import Bert
from trasluz.objectives.distillation import DistillationObjective
from trasluz.training.data import PreparedData
from trasluz.training.recipe import Recipe
from trasluz.training.starting_model import read_named


@dataclass(frozen=True)
class Teacher:
    """The model, which stays as it is, and what it reads with."""

    recipe: Recipe
    model: Bert
    tokenizer: Any
    name: str

    def objective(self, plain: Any, data: PreparedData[Any], student: nn.Module, device: torch.device) -> Any:
        """Return what is minimised: the task's own objective and what the teacher thinks of the same texts.

        Raises RecipeError where the two do not understand each other.
        """
        recipe, wanted = self.recipe, self.recipe.distillation
        place = recipe.place("distillation.teacher")
        config: Any = student.config
        if self.tokenizer.fingerprint != data.source_tokenizer.fingerprint:
            raise RecipeError(
                f"{place}: {self.name} reads with another tokenizer than the student, which has to be started from it, "
                "or to take its tokenizer by tokenizer.load"
            )
        if data.labels and self.model.config.labels != data.labels:
            theirs = self.model.config.labels
            same = sorted(theirs) == sorted(data.labels)
            hint = f": name them in the teacher's order, data.labels=[{', '.join(theirs)}]" if same else ""
            raise RecipeError(
                f"{place}: the labels of {self.name} are {', '.join(theirs[:20])}; those to learn are "
                f"{', '.join(data.labels[:20])}{hint}"
            )
        if wanted.hidden_weight and self.model.config.model_dim != config.model_dim:
            raise RecipeError(
                f"{place}: the states of {self.name} are {self.model.config.model_dim} wide, the student's "
                f"{config.model_dim}: to learn without them, set distillation.hidden_weight to 0"
            )
        return DistillationObjective(
            plain,
            self.model.to(device).eval().requires_grad_(False),
            wanted.temperature,
            wanted.soft_weight,
            wanted.data_weight,
            wanted.hidden_weight,
        )


def read_teacher(recipe: Recipe) -> Teacher | None:
    """Return the teacher that a recipe names, None where it names none; RecipeError where it cannot do the task."""
    name = recipe.distillation.teacher
    if name is None:
        return None
    place = recipe.place("distillation.teacher")
    if not recipe.distillation.soft_weight and not recipe.distillation.hidden_weight:
        raise RecipeError(
            f"{place}: it teaches nothing, since distillation.soft_weight and distillation.hidden_weight are 0: let "
            "one of them count, or leave out the teacher"
        )
    if recipe.masking.next_sentence:
        raise RecipeError(
            f"{place}: what follows what is not taught: set masking.next_sentence to false, or leave out the teacher"
        )
    found = read_named(recipe, "distillation.teacher", name)
    model: Any = found.model
    if not isinstance(model, Bert) or recipe.task not in model.config.heads:
        raise RecipeError(f"{place}: {name} is for the task {found.task}, and cannot teach {recipe.task}")
    if model.config.longest_text < recipe.data.max_length:
        raise RecipeError(
            f"{place}: {name} reads {model.config.longest_text} tokens, and data.max_length is {recipe.data.max_length}"
        )
    if recipe.task == "classify" and model.config.label_kind != recipe.data.label_kind:
        raise RecipeError(
            f"{place}: the labels of {name} are of the kind {model.config.label_kind}, and data.label_kind is "
            f"{recipe.data.label_kind}"
        )
    return Teacher(recipe, model, found.source_tokenizer, name)
