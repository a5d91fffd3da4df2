"""Pre-training an encoder: it learns a language by guessing masked words."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from trasluz.errors import DataError, RecipeError
from trasluz.models.bert import BertConfig
from trasluz.objectives.masked_words import MaskedWordsObjective
from trasluz.tasks.grouping import groups_by_length
from trasluz.text.batching import MaskedBatch, make_masked_batch
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.text.masking import Masking
from trasluz.training.data import PreparedData
from trasluz.training.encoder_examples import EncoderExamples
from trasluz.training.job import EncoderJob, Measure, settings_of_stream
from trasluz.training.masked_stream import MaskedStream, PackedStream
from trasluz.training.processes import ALONE, Processes
from trasluz.training.raw_text import RawTextExamples, masked_pieces, masking_for
from trasluz.training.signatures import masked_words_signature
from trasluz.training.starting_model import named_model
from trasluz.training.stream import ExampleStream
from trasluz.training.trainer import Loss


class MaskedWordsJob(EncoderJob):
    """From plain text to an encoder that knows the language."""

    does = "guess masked words"

    @property
    def examples(self) -> EncoderExamples[Any]:
        """Texts without labels."""
        return RawTextExamples(self.recipe)

    def check(self) -> None:
        """Raise RecipeError where the model is no encoder or cannot take pieces of the length asked for."""
        recipe = self.recipe
        self.check_length(self.encoder_config())
        if recipe.evaluation.metric == "next_sentence_accuracy" and not recipe.masking.next_sentence:
            raise RecipeError(
                f"{recipe.place('evaluation.metric')} is next_sentence_accuracy, but masking.next_sentence is false: "
                "set it to true, or choose by loss"
            )
        if self.given is not None and self.given.source_tokenizer.mask_id is None:
            raise RecipeError(f"{recipe.place('model')}: the tokenizer of {named_model(recipe)} has no mask token")

    def build_model(self, data: PreparedData[Any]) -> nn.Module:
        """Return the encoder to go on with, or a new one."""
        return self.encoder(data, ["fill-mask"])

    def objective(self, data: PreparedData[Any]) -> Callable[[Any, Any], Loss]:
        """Return the cross-entropy of the masked words."""
        return MaskedWordsObjective(self.recipe.training.label_smoothing)

    def stream(self, data: PreparedData[Any], model: Any, processes: Processes) -> ExampleStream[Any]:
        """Return the updates."""
        settings = {
            "tokenizer": data.source_tokenizer,
            "masking": self.masking(data.source_tokenizer),
            "pad_id": model.config.pad_id,
            **settings_of_stream(self.recipe, processes),
        }
        if self.recipe.data.packing:
            return PackedStream(data.cache, data.files, row_length=self.recipe.data.max_length, **settings)
        return MaskedStream(data.cache, data.files, **settings)

    def evaluator(self, data: PreparedData[Any], model: Any, device: torch.device, processes: Processes) -> Measure:
        """Return what measures guesses on the validation texts, which are always masked alike."""
        tokenizer: EncoderTokenizer = data.source_tokenizer
        texts = [one.text for one in data.valid]
        pieces = masked_pieces(tokenizer, self.masking(tokenizer), texts, self.examples.room(tokenizer))
        if not pieces:
            raise DataError(
                f"{self.valid_place()}: nothing is left to guess in the validation texts, since the tokenizer drops "
                "all of their characters: name other texts in data.valid"
            )
        return MaskedWordsEvaluator(
            pieces=pieces,
            pad_id=model.config.pad_id,
            device=device,
            batch_tokens=self.recipe.training.micro_batch_tokens or self.recipe.training.batch_tokens,
            processes=processes,
        )

    def longest_text(self, config: BertConfig) -> int:
        """Return how many tokens are read of a text: what the given model read was learnt before, and stays."""
        longest = super().longest_text(config)
        return longest if self.given is None else max(longest, self.given.longest_text)

    def about(self, data: PreparedData[Any]) -> str:
        """Return what the model does."""
        return "guesses masked words"

    def usage(self, data: PreparedData[Any]) -> list[str]:
        """Return how it is used."""
        mask = data.source_tokenizer.tokens([data.source_tokenizer.mask_id])[0]
        return [
            'fill = trasluz.load("PATH OF THIS FOLDER")',
            f'print(fill("... {mask} ...").masks[0].candidates[0].token)',
        ]

    def signature(self, data: PreparedData[Any], model: Any) -> str:
        """Return how the figures of the validation examples are counted."""
        return masked_words_signature(
            len(data.valid),
            self.masking(data.source_tokenizer),
            self.recipe.data.max_length,
            next_sentence=self.recipe.masking.next_sentence,
        )

    def masking(self, tokenizer: EncoderTokenizer) -> Masking:
        """Return how words are masked."""
        return masking_for(tokenizer, **self.recipe.masking.model_dump(exclude={"next_sentence"}))


@dataclass(frozen=True)
class MaskedWordsEvaluator:
    """Called with a model, returns how well it guesses; the same model gives the same numbers."""

    pieces: list[tuple[Any, Any, Any]]
    """Corrupted ids, positions to guess, and what stood there."""
    pad_id: int
    device: torch.device
    batch_tokens: int
    processes: Processes = ALONE

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the mean loss of a masked piece, its exponential, and the share of pieces guessed right."""
        sums = np.zeros(3)
        groups = groups_by_length([len(ids) for ids, _, _ in self.pieces], self.batch_tokens)
        for rows in self.processes.own(groups):
            batch = make_masked_batch([self.pieces[row] for row in rows], pad_id=self.pad_id).to(self.device)
            sums += guessed(model, model(batch.texts, batch.masked_places), batch)
        return guess_metrics(self.processes.sum(sums.tolist()))


def guessed(model: Any, states: Float[Tensor, "masked dim"], batch: MaskedBatch) -> tuple[float, float, float]:
    """Return three sums over a batch: the loss of the masked pieces, how many were guessed right, how many there are.

    `states` are those at the masked positions.
    """
    logits = model.heads["fill-mask"](states).float()
    loss = nn.functional.cross_entropy(logits, batch.targets, reduction="sum")
    right = (logits.argmax(-1) == batch.targets).sum()
    return float(loss), float(right), float(len(batch.targets))


def guess_metrics(sums: Sequence[float]) -> dict[str, float]:
    """Return the metrics of such sums."""
    total, right, count = sums
    loss = total / count
    return {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "accuracy": right / count}
