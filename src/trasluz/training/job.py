"""What a run needs to know of its task: examples, model, objective, updates, scores, and what is written at the end."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from trasluz.checkpoints.model_folder import LoadedModel, save_model, usual_attention
from trasluz.errors import ModelError, RecipeError
from trasluz.models.bert import Bert, BertConfig
from trasluz.models.heads import HeadName
from trasluz.models.registry import build_config, model_of, presets
from trasluz.training.data import PreparedData
from trasluz.training.examples import Examples
from trasluz.training.model_card import write_text_card
from trasluz.training.processes import Processes
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import dump_recipe
from trasluz.training.reports import Chosen, Ended
from trasluz.training.starting_model import named_model
from trasluz.training.stream import ExampleStream
from trasluz.training.trainer import Loss

Measure = Callable[[nn.Module], dict[str, float]]


class Job(ABC):
    """One task's side of a run; `given` is the model to start from, None where the recipe names a preset."""

    def __init__(self, recipe: Recipe, given: LoadedModel | None) -> None:
        self.recipe = recipe
        self.given = given

    @property
    @abstractmethod
    def examples(self) -> Examples[Any]:
        """How the task's examples are read and stored."""

    @abstractmethod
    def check(self) -> None:
        """Raise RecipeError, before anything is read, where the recipe cannot work."""

    @abstractmethod
    def build_model(self, data: PreparedData[Any]) -> nn.Module:
        """Return the model as training begins with it."""

    @abstractmethod
    def objective(self, data: PreparedData[Any]) -> Callable[[Any, Any], Loss]:
        """Return what is minimised."""

    @abstractmethod
    def stream(self, data: PreparedData[Any], model: Any, processes: Processes) -> ExampleStream[Any]:
        """Return the updates."""

    @abstractmethod
    def evaluator(self, data: PreparedData[Any], model: Any, device: torch.device, processes: Processes) -> Measure:
        """Return what measures a model on the validation examples."""

    def judge(self, evaluator: Measure) -> Measure | None:
        """Return a more thorough measure for the last choice of weights; None: the same."""
        return None

    @abstractmethod
    def write_model(
        self,
        data: PreparedData[Any],
        model: nn.Module,
        stream: ExampleStream[Any],
        chosen: Chosen,
        ended: Ended,
        parameters: int,
        device: torch.device,
    ) -> None:
        """Write the model folder."""

    def config(self, **fields: Any) -> Any:
        """Return the config of the recipe's preset with these fields; RecipeError with the key's place."""
        try:
            return build_config(self.recipe.model, **fields)
        except ModelError as error:
            raise RecipeError(f"{self.recipe.place('model', *error.keys)}: {error}") from None

    def starting_config(self, does: str) -> Any:
        """Return the config of the model to start from, or of the recipe's preset; `does` stands after "does not".

        Raises RecipeError where the preset is for other tasks.
        """
        if self.given is not None:
            return self.given.config
        recipe, name, known = self.recipe, named_model(self.recipe), presets()
        if name in known and recipe.task not in known[name][0].tasks:
            those = [preset for preset, (one, _) in known.items() if recipe.task in one.tasks]
            raise RecipeError(
                f"{recipe.place('model')}: {name} does not {does}; presets that do are {', '.join(those)}"
            )
        return self.config(vocab_size=recipe.tokenizer.vocab_size)

    def check_length(self, config: Any) -> None:
        """Raise RecipeError where texts, or pieces of them, are to be longer than the model can read."""
        recipe = self.recipe
        if recipe.data.max_length > config.longest_text:
            raise RecipeError(
                f"{recipe.place('data.max_length')} is {recipe.data.max_length}, but the model takes "
                f"{config.longest_text} tokens: lower the one, or raise model.max_positions"
            )


class EncoderJob(Job):
    """What the jobs of all encoders share: which models they take, and the folder they write."""

    does: ClassVar[str]
    """What a model of this task does, after "cannot"."""

    @abstractmethod
    def about(self, data: PreparedData[Any]) -> str:
        """Return what the trained model does, after "that"."""

    @abstractmethod
    def usage(self, data: PreparedData[Any]) -> Sequence[str]:
        """Return lines of Python that use the model."""

    @abstractmethod
    def signature(self, data: PreparedData[Any], model: nn.Module) -> str:
        """Return how the figures of the validation examples are counted (`signatures.py`)."""

    def valid_place(self) -> str:
        """Return what a message calls the validation examples."""
        return self.recipe.place("data.held_out" if self.recipe.data.valid is None else "data.valid")

    def encoder_config(self) -> BertConfig:
        """Return the config of the recipe's encoder; RecipeError where its model is none, or has too few layers."""
        recipe = self.recipe
        config = self.starting_config(self.does)
        if not isinstance(config, BertConfig):
            raise RecipeError(f"{recipe.place('model')}: {named_model(recipe)} is no encoder, and cannot {self.does}")
        if recipe.training.freeze_layers > config.num_layers:
            raise RecipeError(
                f"{recipe.place('training.freeze_layers')} is {recipe.training.freeze_layers}, but the model has "
                f"{config.num_layers} layers"
            )
        return config

    def encoder(self, data: PreparedData[Any], heads: list[HeadName], **fields: Any) -> Bert:
        """Return the encoder to start from, or a new one, under these heads; `fields` name its labels."""
        if self.given is not None:
            given: Any = self.given.model
            model: Bert = given.with_heads(heads, **fields)
        else:
            tokenizer = data.source_tokenizer
            sizes = {"vocab_size": tokenizer.vocab_size, "pad_id": tokenizer.pad_id}
            built = model_of(self.config(**sizes, heads=heads, **fields))
            assert isinstance(built, Bert)
            model = built
        freeze_layers(model, self.recipe.training.freeze_layers)
        return model

    def longest_text(self, config: BertConfig) -> int:
        """Return how many tokens of a text are read: in training, in validation, and by the model that is written."""
        return min(self.recipe.data.max_length, config.longest_text)

    def write_model(
        self,
        data: PreparedData[Any],
        model: nn.Module,
        stream: ExampleStream[Any],
        chosen: Chosen,
        ended: Ended,
        parameters: int,
        device: torch.device,
    ) -> None:
        """Write the model folder and its card."""
        config: Any = model.config
        data.source_tokenizer.max_length = self.longest_text(config)
        write_text_model(
            self.recipe,
            data,
            model,
            chosen,
            ended,
            parameters,
            what=self.about(data),
            usage=self.usage(data),
            signature=self.signature(data, model),
        )


def write_text_model(
    recipe: Recipe,
    data: PreparedData[Any],
    model: nn.Module,
    chosen: Chosen,
    ended: Ended,
    parameters: int,
    *,
    what: str,
    usage: Sequence[str],
    signature: str,
) -> None:
    """Write the folder and card of a model with one tokenizer; `what` says what it does, `usage` how, in Python.

    `signature` says how its scores are counted. The attention shown by default is the usual one, `usual_attention`.
    """
    card = write_text_card(
        recipe,
        data.counts,
        chosen.metrics,
        signature,
        what=what,
        usage=usage,
        parameters=parameters,
        steps=chosen.steps,
        seconds=ended.seconds,
        tokens=ended.tokens,
    )
    save_model(
        recipe.output,
        model.eval(),
        *data.tokenizers,
        task=recipe.task,
        card=card,
        recipe_yaml=dump_recipe(recipe),
        attention_default=usual_attention(model),
    )


def freeze_layers(model: Bert, count: int) -> None:
    """Let the embeddings and the lowest layers of an encoder stay as they are; 0: nothing is frozen."""
    if count:
        depths = model.depths()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(depths[name] > count)


def settings_of_stream(recipe: Recipe, processes: Processes) -> dict[str, Any]:
    """Return what every stream is told by a recipe."""
    return {
        "batch_tokens": recipe.training.batch_tokens,
        "micro_batch_tokens": recipe.training.micro_batch_tokens,
        "seed": recipe.training.seed,
        "rank": processes.rank,
        "size": processes.size,
    }
