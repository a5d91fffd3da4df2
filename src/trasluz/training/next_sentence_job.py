"""Pre-training an encoder as BERT was: by masked words, and by telling whether one text follows another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.errors import RecipeError
from trasluz.objectives.next_sentence import NextSentenceObjective, masked_and_first_states
from trasluz.tasks.grouping import groups_by_length
from trasluz.text.batching import make_next_sentence_batch
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.training.data import PreparedData
from trasluz.training.document_examples import DocumentExamples, stretches_of
from trasluz.training.encoder_examples import EncoderExamples
from trasluz.training.job import Measure, settings_of_stream
from trasluz.training.masked_words_job import MaskedWordsJob, guess_metrics, guessed
from trasluz.training.next_sentence_stream import NextSentenceStream, PairDrawer, masked_pair
from trasluz.training.processes import ALONE, Processes
from trasluz.training.recipe import Recipe
from trasluz.training.starting_model import named_model
from trasluz.training.stream import ExampleStream
from trasluz.training.trainer import Loss


def pre_training_job(recipe: Recipe, given: LoadedModel | None) -> MaskedWordsJob:
    """Return the job of the task `fill-mask`: by masked words, and by next sentences where the recipe says so."""
    return (NextSentenceJob if recipe.masking.next_sentence else MaskedWordsJob)(recipe, given)


class NextSentenceJob(MaskedWordsJob):
    """From documents to an encoder that knows the language, and what follows what."""

    @property
    def examples(self) -> EncoderExamples[Any]:
        """Documents without labels."""
        return DocumentExamples(self.recipe)

    def check(self) -> None:
        """Raise RecipeError where masked words alone could not work, or where two texts cannot be told apart."""
        super().check()
        recipe = self.recipe
        if self.encoder_config().num_segments < 2:
            raise RecipeError(
                f"{recipe.place('masking.next_sentence')} is true, but {named_model(recipe)} has no segments by "
                "which to tell two texts apart: it is for models like BERT, with num_segments 2"
            )
        if recipe.data.packing:
            raise RecipeError(
                f"{recipe.place('data.packing')} and masking.next_sentence are true, but a pair of texts fills a row "
                "already: set one of them to false"
            )

    def build_model(self, data: PreparedData[Any]) -> nn.Module:
        """Return the encoder to go on with, or a new one."""
        return self.encoder(data, ["fill-mask", "next-sentence"])

    def objective(self, data: PreparedData[Any]) -> Callable[[Any, Any], Loss]:
        """Return the sum of both cross-entropies."""
        return NextSentenceObjective(self.recipe.training.label_smoothing)

    def stream(self, data: PreparedData[Any], model: Any, processes: Processes) -> ExampleStream[Any]:
        """Return the updates."""
        return NextSentenceStream(
            data.cache,
            data.files,
            tokenizer=data.source_tokenizer,
            masking=self.masking(data.source_tokenizer),
            pad_id=model.config.pad_id,
            place=self.recipe.place("data.train"),
            **settings_of_stream(self.recipe, processes),
        )

    def evaluator(self, data: PreparedData[Any], model: Any, device: torch.device, processes: Processes) -> Measure:
        """Return what measures guesses on pairs of the validation documents, which are always the same."""
        tokenizer: EncoderTokenizer = data.source_tokenizer
        masking = self.masking(tokenizer)
        room = self.examples.room(tokenizer, pair=True)
        stretches: list[tuple[Any, ...]] = []
        for document, one in enumerate(data.valid):
            found = stretches_of(tokenizer.encode_arrays(list(one.lines)), room)
            stretches += [(*stretch, (document,)) for stretch in found]
        drawer = PairDrawer(stretches, self.valid_place())
        return NextSentenceEvaluator(
            pairs=[
                masked_pair(tokenizer, masking, drawer, number, np.random.default_rng(number))
                for number in range(len(stretches))
            ],
            pad_id=model.config.pad_id,
            device=device,
            batch_tokens=self.recipe.training.micro_batch_tokens or self.recipe.training.batch_tokens,
            processes=processes,
        )

    def about(self, data: PreparedData[Any]) -> str:
        """Return what the model does."""
        return "guesses masked words, and has learnt which text follows which"


@dataclass(frozen=True)
class NextSentenceEvaluator:
    """Called with a model, returns how well it guesses words and pairs; the same model gives the same numbers."""

    pairs: Sequence[tuple[Any, Any, Any, Any, int]]
    """Corrupted ids, positions to guess, what stood there, segments and label."""
    pad_id: int
    device: torch.device
    batch_tokens: int
    processes: Processes = ALONE

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the metrics of masked words, and the share of pairs told right.

        The loss is what is learnt: the mean of a masked piece and that of a pair, added; perplexity is of pieces alone.
        """
        sums = np.zeros(6)
        groups = groups_by_length([len(ids) for ids, *_ in self.pairs], self.batch_tokens)
        for rows in self.processes.own(groups):
            batch = make_next_sentence_batch([self.pairs[row] for row in rows], pad_id=self.pad_id).to(self.device)
            masked, firsts = masked_and_first_states(model, batch)
            logits = model.heads["next-sentence"](firsts).float()
            loss = nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
            right = (logits.argmax(-1) == batch.labels).sum()
            sums += *guessed(model, masked, batch), float(loss), float(right), float(len(rows))
        *words, total, right_all, count = self.processes.sum(sums.tolist())
        metrics = guess_metrics(words)
        metrics["loss"] += total / count
        return metrics | {"next_sentence_accuracy": right_all / count}
