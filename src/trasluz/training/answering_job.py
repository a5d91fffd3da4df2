"""Training a model that answers questions with stretches of a text."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trasluz.errors import DataError
from trasluz.objectives.answers import AnswerObjective
from trasluz.tasks.answer_spans import Span, SpanSearch, windows_of
from trasluz.tasks.grouping import groups_by_length
from trasluz.tasks.text_task import TextInput
from trasluz.text.batching import AnswerBatch, make_answer_batch
from trasluz.training.answer_examples import AnsweredQuestion, AnswerExamples, AnswerStream, in_parts
from trasluz.training.answer_metrics import SQUAD_1, AnswerRules, answer_metrics, rules_for
from trasluz.training.data import PreparedData
from trasluz.training.job import EncoderJob, settings_of_stream
from trasluz.training.processes import ALONE, Processes
from trasluz.training.signatures import answer_signature


class AnsweringJob(EncoderJob):
    """From questions to places in a context."""

    does = "find answers"

    @property
    def examples(self) -> AnswerExamples:
        """Questions with contexts and answers."""
        return AnswerExamples(self.recipe)

    def check(self) -> None:
        """Raise RecipeError where the model is no encoder or cannot take windows of the length asked for."""
        self.check_length(self.encoder_config())

    def build_model(self, data: PreparedData[AnsweredQuestion]) -> nn.Module:
        """Return the encoder to start from under a new head, or a new model."""
        return self.encoder(data, ["answer"])

    def objective(self, data: PreparedData[AnsweredQuestion]) -> AnswerObjective:
        """Return the cross-entropy of the answer's ends."""
        return AnswerObjective(self.recipe.training.label_smoothing)

    def stream(self, data: PreparedData[AnsweredQuestion], model: Any, processes: Processes) -> AnswerStream:
        """Return the updates."""
        return AnswerStream(
            data.cache,
            data.files,
            tokenizer=data.source_tokenizer,
            pad_id=model.config.pad_id,
            **settings_of_stream(self.recipe, processes),
        )

    def evaluator(
        self, data: PreparedData[AnsweredQuestion], model: Any, device: torch.device, processes: Processes
    ) -> "AnsweringEvaluator":
        """Return what scores the answers to the validation questions."""
        recipe, tokenizer = self.recipe, data.source_tokenizer
        longest = self.longest_text(model.config)
        windows = [
            Window(number, one, part.place_of(span))
            for number, (question, parts, span) in enumerate(
                in_parts(data.valid, tokenizer, longest, recipe.data.overlap)
            )
            for part, one in zip(parts, windows_of(parts, question, tokenizer), strict=True)
        ]
        if not windows:
            raise DataError(
                f"{self.valid_place()}: every validation question is so long that no context has room beside it in "
                f"{longest} tokens: raise data.max_length, or name other questions in data.valid"
            )
        return AnsweringEvaluator(
            questions=data.valid,
            windows=windows,
            rules=rules_for(recipe.evaluation.answer_rules, [one.answers for one in data.valid]),
            pad_id=model.config.pad_id,
            device=device,
            batch_tokens=recipe.training.micro_batch_tokens or recipe.training.batch_tokens,
            processes=processes,
        )

    def about(self, data: PreparedData[Any]) -> str:
        """Return what the model does."""
        return "finds answers in a text"

    def usage(self, data: PreparedData[Any]) -> list[str]:
        """Return how it is used."""
        return ['answer = trasluz.load("PATH OF THIS FOLDER")', 'print(answer("...?", context="...").text)']

    def signature(self, data: PreparedData[Any], model: Any) -> str:
        """Return how the figures of the validation examples are counted."""
        gold = [one.answers for one in data.valid]
        return answer_signature(gold, self.recipe.evaluation.answer_rules, self.longest_text(model.config))


@dataclass(frozen=True)
class Window:
    """A question, by its number, with a part of its context; `span`: where the first answer stands in that part."""

    question: int
    text: TextInput
    span: tuple[int, int] | None


@dataclass(frozen=True)
class AnsweringEvaluator:
    """Called with a model, returns its loss, and how good its answers are; the same model gives the same numbers."""

    questions: list[AnsweredQuestion]
    windows: list[Window]
    pad_id: int
    device: torch.device
    batch_tokens: int
    rules: AnswerRules = SQUAD_1
    """Whether a question may have no answer, they say as well."""
    processes: Processes = ALONE

    def __call__(self, model: Any) -> dict[str, float]:
        """Return the mean loss of a window, and the metrics; a question that leaves a context no room has no answer."""
        objective = AnswerObjective()
        total, count = 0.0, 0.0
        own: dict[int, SpanSearch] = {}
        groups = groups_by_length([len(one.text.ids) for one in self.windows], self.batch_tokens)
        for rows in self.processes.own(groups):
            windows = [self.windows[row] for row in rows]
            batch = self._batch(windows).to(self.device)
            logits = model.heads["answer"](model(batch.texts)).float()
            loss, _ = objective.loss(logits, batch.spans, batch.allowed)
            total, count = total + float(loss), count + len(windows)
            for window, scores in zip(windows, logits.cpu().numpy(), strict=True):
                own.setdefault(window.question, SpanSearch()).look(window.text, scores)
        total, count = self.processes.sum([total, count])
        gold = [one.answers for one in self.questions]
        return {"loss": total / count, **answer_metrics(self._answers(own), gold, self.rules)}

    def _answers(self, own: dict[int, SpanSearch]) -> list[str]:
        """Return the best answer to every question, wherever its windows were looked at."""
        found: list[Any] = [
            [number, [[*place, score] for place, score in one.spans.items()], one.log_total, one.nothing]
            for number, one in own.items()
        ]
        searches = [SpanSearch() for _ in self.questions]
        for number, spans, log_total, nothing in (one for some in self.processes.gather(found) for one in some):
            searches[number].take((Span(*span) for span in spans), log_total, nothing)
        answers = []
        for question, search in zip(self.questions, searches, strict=True):
            (best,) = search.best(question.context, no_answer=self.rules.may_have_no_answer)
            answers.append(question.context[best.start : best.end])
        return answers

    def _batch(self, windows: list[Window]) -> AnswerBatch:
        return make_answer_batch(
            [(one.text.ids, one.text.segments) for one in windows],
            [(one.text.begins[1], len(one.text.texts[1])) for one in windows],
            [one.span for one in windows],
            pad_id=self.pad_id,
        )
