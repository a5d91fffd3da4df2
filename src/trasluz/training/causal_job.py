"""Training a model that continues texts: it learns a language by guessing each next token."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer
from torch import nn

from trasluz.errors import RecipeError
from trasluz.models.config import CausalConfig
from trasluz.models.registry import model_of
from trasluz.objectives.next_words import NextWordsObjective
from trasluz.text.batching import make_window_batch
from trasluz.text.documents import document_ids
from trasluz.training.causal_examples import CausalExamples
from trasluz.training.causal_stream import CausalStream
from trasluz.training.data import PreparedData
from trasluz.training.job import Job, Measure, settings_of_stream, write_text_model
from trasluz.training.processes import ALONE, Processes
from trasluz.training.reports import Chosen, Ended
from trasluz.training.signatures import window_signature
from trasluz.training.starting_model import named_model
from trasluz.training.stream import ExampleStream
from trasluz.training.trainer import Loss

# Without gradients so many tokens at once cost little memory, and fewer would take longer.
_EVALUATED_AT_ONCE = 4096


class CausalJob(Job):
    """From documents to a model that goes on from any text."""

    @property
    def examples(self) -> CausalExamples:
        """Documents."""
        return CausalExamples(self.recipe)

    def check(self) -> None:
        """Raise RecipeError where the model continues no texts, or windows do not suit it."""
        recipe = self.recipe
        config = self._config()
        self.check_length(config)
        if recipe.tokenizer.lowercase:
            raise RecipeError(
                f"{recipe.place('tokenizer.lowercase')} is true, but a text that is continued is read as it stands: "
                "write the training text in lower case instead"
            )
        if self.given is not None and (config.eos_id is None or self.given.source_tokenizer.end_id != config.eos_id):
            raise RecipeError(
                f"{recipe.place('model')}: {named_model(recipe)} has no token between documents that its tokenizer "
                "knows, too (eos_token)"
            )

    def build_model(self, data: PreparedData[Any]) -> nn.Module:
        """Return the model to go on with, or a new one."""
        if self.given is not None:
            return self.given.model
        tokenizer = data.source_tokenizer
        return model_of(self.config(vocab_size=tokenizer.vocab_size, eos_id=tokenizer.end_id))

    def objective(self, data: PreparedData[Any]) -> Callable[[Any, Any], Loss]:
        """Return the cross-entropy of the next tokens."""
        return NextWordsObjective(self.recipe.training.label_smoothing)

    def stream(self, data: PreparedData[Any], model: Any, processes: Processes) -> ExampleStream[Any]:
        """Return the updates."""
        return CausalStream(
            data.cache,
            data.files,
            window_length=self.recipe.data.max_length,
            end_id=data.source_tokenizer.end_id,
            **settings_of_stream(self.recipe, processes),
        )

    def evaluator(self, data: PreparedData[Any], model: Any, device: torch.device, processes: Processes) -> Measure:
        """Return what measures guesses on the validation documents."""
        tokenizer = data.source_tokenizer
        return NextWordsEvaluator(
            ids=np.concatenate(document_ids(tokenizer, [one.text for one in data.valid], tokenizer.end_id)),
            window_length=self.recipe.data.max_length,
            end_id=tokenizer.end_id,
            device=device,
            processes=processes,
        )

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
        usage = [
            'generate = trasluz.load("PATH OF THIS FOLDER")',
            'print(generate("...", max_tokens=100, temperature=0.8, seed=1).text)',
        ]
        wanted = self.recipe.data
        write_text_model(
            self.recipe,
            data,
            model,
            chosen,
            ended,
            parameters,
            what="continues texts",
            usage=usage,
            signature=window_signature(len(data.valid), wanted.max_length, wanted.document),
        )

    def _config(self) -> CausalConfig:
        """Return the config of the recipe's model; RecipeError where that one does something else."""
        recipe, config = self.recipe, self.starting_config("continue texts")
        if not isinstance(config, CausalConfig):
            raise RecipeError(
                f"{recipe.place('model')}: {named_model(recipe)} does not continue texts: start from a GPT"
            )
        return config


@dataclass(frozen=True)
class NextWordsEvaluator:
    """Called with a model, returns how well it guesses every token of some documents, in windows one after the other.

    A window sees nothing of the one before, so longer ones give lower figures.
    """

    ids: Integer[np.ndarray, " tokens"]
    """The documents end to end, the end of a document behind each."""
    window_length: int
    end_id: int
    device: torch.device
    processes: Processes = ALONE

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the mean loss of a token and its exponential."""
        objective, sums = NextWordsObjective(), np.zeros(2)
        for windows in self.processes.own(self._batches()):
            loss = objective(model, make_window_batch(windows, end_id=self.end_id).to(self.device))
            sums += float(loss.likelihood), loss.count
        total, count = self.processes.sum(sums.tolist())
        return {"loss": total / count, "perplexity": math.exp(min(total / count, 700.0))}

    def _batches(self) -> list[Integer[np.ndarray, "batch length"]]:
        """Return the windows, each with the token that its first one follows; the last may be shorter."""
        ids, length = np.append(self.end_id, self.ids), self.window_length
        whole = len(self.ids) // length
        windows = ids[np.arange(whole)[:, None] * length + np.arange(length + 1)]
        at_once = max(1, _EVALUATED_AT_ONCE // length)
        batches = [windows[begin : begin + at_once] for begin in range(0, whole, at_once)]
        if whole * length < len(self.ids):
            batches.append(ids[None, whole * length :])
        return batches
