"""Training a model that tags words: names of people and places, and whatever else has a span."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trasluz.errors import RecipeError
from trasluz.objectives.tagging import TaggingObjective
from trasluz.tasks.grouping import groups_by_length
from trasluz.text.batching import NOT_COUNTED
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.text.entities import OUTSIDE, entity_decoder, is_entity_scheme
from trasluz.text.word_pieces import Piece, pieces_of_words
from trasluz.training.data import PreparedData
from trasluz.training.entity_metrics import entity_metrics
from trasluz.training.job import EncoderJob, settings_of_stream
from trasluz.training.processes import ALONE, Processes
from trasluz.training.signatures import entity_signature
from trasluz.training.tagged_examples import TaggedExamples, TaggedStream, TaggedWords, tagged_batch


class TaggingJob(EncoderJob):
    """From words to tags."""

    does = "tag words"

    @property
    def examples(self) -> TaggedExamples:
        """Sentences of tagged words."""
        return TaggedExamples(self.recipe)

    def check(self) -> None:
        """Raise RecipeError where the model is no encoder, or its labels have none for words outside of entities."""
        self.check_length(self.encoder_config())
        labels = self.recipe.data.labels
        if labels and OUTSIDE not in labels and is_entity_scheme(labels):
            raise RecipeError(
                f"{self.recipe.place('data.labels')} lacks {OUTSIDE}, the label of words outside of entities"
            )

    def build_model(self, data: PreparedData[TaggedWords]) -> nn.Module:
        """Return the encoder to start from under a new head, or a new model."""
        return self.encoder(data, ["tag"], labels=data.labels)

    def objective(self, data: PreparedData[TaggedWords]) -> TaggingObjective:
        """Return the cross-entropy of the words' tags."""
        return TaggingObjective(self.recipe.training.label_smoothing)

    def stream(self, data: PreparedData[TaggedWords], model: Any, processes: Processes) -> TaggedStream:
        """Return the updates."""
        return TaggedStream(
            data.cache,
            data.files,
            tokenizer=data.source_tokenizer,
            pad_id=model.config.pad_id,
            **settings_of_stream(self.recipe, processes),
        )

    def evaluator(
        self, data: PreparedData[TaggedWords], model: Any, device: torch.device, processes: Processes
    ) -> "TaggingEvaluator":
        """Return what scores the entities of the validation sentences."""
        examples = self.examples
        examples.labels = data.labels
        return TaggingEvaluator(
            pieces=pieces_of_words(
                data.source_tokenizer, [one.words for one in data.valid], self.longest_text(model.config)
            ),
            gold=[examples.numbers(one) for one in data.valid],
            labels=data.labels,
            tokenizer=data.source_tokenizer,
            pad_id=model.config.pad_id,
            device=device,
            batch_tokens=self.recipe.training.micro_batch_tokens or self.recipe.training.batch_tokens,
            processes=processes,
        )

    def about(self, data: PreparedData[Any]) -> str:
        """Return what the model does."""
        if not is_entity_scheme(data.labels):
            return f"labels words: {', '.join(data.labels)}"
        kinds = sorted({label[2:] for label in data.labels if len(label) > 2})
        return f"finds entities: {', '.join(kinds)}"

    def usage(self, data: PreparedData[Any]) -> list[str]:
        """Return how it is used."""
        found = "entities" if is_entity_scheme(data.labels) else "words"
        return ['tag = trasluz.load("PATH OF THIS FOLDER")', f'print(tag("...").{found})']

    def signature(self, data: PreparedData[Any], model: Any) -> str:
        """Return how the figures of the validation examples are counted."""
        decode = entity_decoder(data.labels)
        return entity_signature([decode(one.tags) for one in data.valid])


@dataclass(frozen=True)
class TaggingEvaluator:
    """Called with a model, returns its loss, the share of words tagged right, and the scores of entities."""

    pieces: list[list[Piece]]
    """Of each sentence."""
    gold: list[list[int]]
    """The label of each word."""
    labels: list[str]
    tokenizer: EncoderTokenizer
    pad_id: int
    device: torch.device
    batch_tokens: int
    processes: Processes = ALONE

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the metrics; a word that has no piece of its own is taken for one outside of entities."""
        every = [(sentence, piece) for sentence, pieces in enumerate(self.pieces) for piece in pieces]
        total, count = 0.0, 0.0
        found: list[tuple[int, int, int]] = []
        groups = groups_by_length([len(piece.ids) for _, piece in every], self.batch_tokens)
        for rows in self.processes.own(groups):
            some = [every[row] for row in rows]
            numbers = [np.array([*self.gold[sentence], -1])[piece.begins] for sentence, piece in some]
            pieces = [(piece.ids, labels) for (_, piece), labels in zip(some, numbers, strict=True)]
            batch = tagged_batch(self.tokenizer, pieces, self.pad_id).to(self.device)
            logits = model.heads["tag"](model(batch.texts)).float()
            counted = batch.labels != NOT_COUNTED
            loss = nn.functional.cross_entropy(logits[counted], batch.labels[counted], reduction="sum")
            total, count = total + float(loss), count + float(counted.sum())
            best = logits.argmax(-1).cpu().numpy()
            offset = self.tokenizer.first_offset()
            for row, (sentence, piece) in enumerate(some):
                for place in np.flatnonzero(piece.begins >= 0).tolist():
                    found.append((sentence, int(piece.begins[place]), int(best[row, offset + place])))
        total, count = self.processes.sum([total, count])
        outside = self.labels.index(OUTSIDE) if OUTSIDE in self.labels else 0
        predicted = [[outside] * len(words) for words in self.gold]
        for sentence, word, label in (one for some in self.processes.gather(found) for one in some):
            predicted[sentence][word] = label
        right = sum(
            a == b for one, other in zip(self.gold, predicted, strict=True) for a, b in zip(one, other, strict=True)
        )
        decode = entity_decoder(self.labels)
        entities = [
            [decode([self.labels[label] for label in words]) for words in side] for side in (self.gold, predicted)
        ]
        return {
            "loss": total / max(count, 1.0),
            "accuracy": right / max(sum(map(len, self.gold)), 1),
            **entity_metrics(*entities),
        }
