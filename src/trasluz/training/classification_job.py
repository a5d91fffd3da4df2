"""Training a model that labels texts: from a pre-trained encoder, or from nothing."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trasluz.errors import RecipeError
from trasluz.objectives.classification import ClassificationObjective, first_states
from trasluz.tasks.grouping import groups_by_length
from trasluz.text.batching import LabelledBatch, make_text_batch
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.training.classification_metrics import classification_metrics, multi_label_metrics, regression_metrics
from trasluz.training.data import PreparedData
from trasluz.training.job import EncoderJob, settings_of_stream
from trasluz.training.labelled_examples import NO_LABEL, LabelledExamples, LabelledText
from trasluz.training.labelled_stream import LabelledStream, label_tensor
from trasluz.training.processes import ALONE, Processes
from trasluz.training.signatures import label_signature


class ClassificationJob(EncoderJob):
    """From texts to labels."""

    does = "label texts"

    @property
    def examples(self) -> LabelledExamples:
        """Labelled texts."""
        return LabelledExamples(self.recipe)

    def check(self) -> None:
        """Raise RecipeError where the model is none that reads texts, or has fewer layers than are to be frozen."""
        recipe = self.recipe
        self.encoder_config()
        if recipe.data.unlabelled and recipe.distillation.teacher is None:
            raise RecipeError(
                f"{recipe.place('data.unlabelled')}: of texts without labels only a teacher can say something: "
                "name one in distillation.teacher, or leave them out"
            )
        weights = recipe.training.class_weights
        if weights is not None and recipe.data.label_kind != "one":
            raise RecipeError(
                f"{recipe.place('training.class_weights')}: weights are for texts with one label, and data.label_kind "
                f"is {recipe.data.label_kind}"
            )

    def build_model(self, data: PreparedData[LabelledText]) -> nn.Module:
        """Return the encoder to start from under a new head, or a new model."""
        if self.recipe.data.kept_part is not None:
            data.source_tokenizer.keep = self.recipe.data.kept_part
        return self.encoder(data, ["classify"], labels=data.labels, label_kind=self.recipe.data.label_kind)

    def objective(self, data: PreparedData[LabelledText]) -> ClassificationObjective:
        """Return the loss of the labels."""
        training = self.recipe.training
        return ClassificationObjective(self.recipe.data.label_kind, training.label_smoothing, self._weights(data))

    def stream(self, data: PreparedData[LabelledText], model: Any, processes: Processes) -> LabelledStream:
        """Return the updates."""
        return LabelledStream(
            data.cache,
            data.files,
            tokenizer=data.source_tokenizer,
            pairs=self.recipe.data.pairs,
            longest=self.longest_text(model.config),
            pad_id=model.config.pad_id,
            label_kind=self.recipe.data.label_kind,
            num_labels=len(data.labels),
            **settings_of_stream(self.recipe, processes),
        )

    def evaluator(
        self, data: PreparedData[LabelledText], model: Any, device: torch.device, processes: Processes
    ) -> "ClassificationEvaluator":
        """Return what scores the labels of the validation texts."""
        examples = self.examples
        examples.labels = data.labels
        tokenizer: EncoderTokenizer = data.source_tokenizer
        room = self.longest_text(model.config) - tokenizer.num_added(self.recipe.data.pairs)
        firsts = tokenizer.encode_arrays([one.text for one in data.valid])
        seconds = tokenizer.encode_arrays([one.second_text or "" for one in data.valid])
        return ClassificationEvaluator(
            inputs=[
                tokenizer.join(*tokenizer.cut(first, second if self.recipe.data.pairs else None, room))
                for first, second in zip(firsts, seconds, strict=True)
            ],
            labels=[examples.numbers(one) for one in data.valid],
            num_labels=len(data.labels),
            pad_id=model.config.pad_id,
            label_kind=self.recipe.data.label_kind,
            device=device,
            batch_tokens=self.recipe.training.micro_batch_tokens or self.recipe.training.batch_tokens,
            processes=processes,
        )

    def about(self, data: PreparedData[Any]) -> str:
        """Return what the model does."""
        return f"labels texts with {', '.join(data.labels[:20])}"

    def usage(self, data: PreparedData[Any]) -> list[str]:
        """Return how it is used."""
        return ['classify = trasluz.load("PATH OF THIS FOLDER")', 'print(classify("...").label)']

    def signature(self, data: PreparedData[Any], model: Any) -> str:
        """Return how the figures of the validation examples are counted."""
        return label_signature(len(data.valid), len(data.labels), self.recipe.data.label_kind)

    def _weights(self, data: PreparedData[LabelledText]) -> tuple[float, ...] | None:
        """Return what an example of each label counts; "balanced": the mean over all examples is 1."""
        given = self.recipe.training.class_weights
        if given is None:
            return None
        if isinstance(given, dict):
            unknown = [label for label in given if label not in data.labels]
            if unknown:
                raise RecipeError(
                    f"{self.recipe.place('training.class_weights')} names {unknown[0]!r}; the labels are "
                    f"{', '.join(data.labels[:20])}"
                )
            return tuple(float(given.get(label, 1.0)) for label in data.labels)
        labels = [label for row in data.cache if (label := int(row[2][0])) != NO_LABEL]
        counts = np.bincount(labels, minlength=len(data.labels))
        return tuple((len(labels) / (len(data.labels) * np.maximum(counts, 1))).tolist())


@dataclass(frozen=True)
class ClassificationEvaluator:
    """Called with a model, returns its loss and scores; the same model gives the same numbers."""

    inputs: list[tuple[Any, Any]]
    """Ids and segments of each text."""
    labels: list[list[int]]
    num_labels: int
    pad_id: int
    label_kind: str
    device: torch.device
    batch_tokens: int
    processes: Processes = ALONE

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the mean loss of a text and the metrics of the kind of label."""
        objective = ClassificationObjective(self.label_kind)
        total = 0.0
        found: list[tuple[int, list[float]]] = []
        groups = groups_by_length([len(ids) for ids, _ in self.inputs], self.batch_tokens)
        for rows in self.processes.own(groups):
            batch = self._batch(rows).to(self.device)
            logits = objective.logits(model, first_states(model, batch), batch)
            total += float(objective.loss(logits, batch.labels))
            found += zip(rows, logits.tolist(), strict=True)
        (total,) = self.processes.sum([total])
        everywhere = sorted(one for some in self.processes.gather(found) for one in some)
        of_all = np.array([one for _, one in everywhere])
        gold = label_tensor(self.labels, self.label_kind, self.num_labels).numpy()
        return {"loss": total / len(self.inputs), **label_metrics(gold, of_all, self.label_kind)}

    def _batch(self, rows: list[int]) -> LabelledBatch:
        texts = make_text_batch(
            [self.inputs[row][0] for row in rows], [self.inputs[row][1] for row in rows], pad_id=self.pad_id
        )
        return LabelledBatch(texts, label_tensor([self.labels[row] for row in rows], self.label_kind, self.num_labels))


def label_metrics(gold: Any, scores: Any, kind: str) -> dict[str, float]:
    """Return the metrics of a kind of label: of numbers, of truths by class, or of classes.

    `gold` is as `label_tensor` gives it; `scores` are logits, or whatever else ranks the classes and is 0 where a label
    of several is as likely as not.
    """
    if kind == "number":
        return regression_metrics(gold.astype(np.float64), scores[:, 0].astype(np.float64))
    if kind == "several":
        return multi_label_metrics(gold > 0, scores >= 0)
    return classification_metrics(gold, scores.argmax(1), scores.shape[1])
