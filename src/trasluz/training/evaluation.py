"""Looking at the validation pairs: loss and perplexity by teacher forcing, BLEU and chrF of real translations.

loss        mean negative log-likelihood a target token, in nats, without label smoothing
perplexity  exp(loss)
bleu, chrf  sacreBLEU (Post 2018) on plain text, cased, tokenisation 13a; with several directions the mean of them
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trasluz.checkpoints.generation_settings import unwritten_ids
from trasluz.decoding.search import search
from trasluz.decoding.settings import DecodingTokens, SearchSettings
from trasluz.objectives.translation import TranslationObjective
from trasluz.tasks.grouping import groups_by_length
from trasluz.text.batching import make_batch
from trasluz.training.processes import ALONE, Processes


@dataclass(frozen=True)
class ValidationSet:
    """The validation pairs of one direction; sources are as the model reads them, with a tag where it wants one."""

    name: str
    sources: list[list[int]]
    targets: list[list[int]]
    references: list[str]


@dataclass(frozen=True)
class TranslationEvaluator:
    """Called with a model, returns its metrics; the same model gives the same numbers."""

    sets: Sequence[ValidationSet]
    # Of the target side.
    tokenizer: Any
    pad_id: int
    start_id: int
    eos_id: int
    device: torch.device
    batch_tokens: int
    # None: loss and perplexity only. The search takes many times as long.
    search_settings: SearchSettings | None
    sentences: int
    # They share the work; each gets all the metrics.
    processes: Processes = ALONE

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Return loss, perplexity and, where asked for, bleu and chrf; by direction too where there are several."""
        metrics: dict[str, float] = {}
        totals = [self._likelihood(model, one) for one in self.sets]
        loss = sum(total for total, _ in totals) / max(sum(count for _, count in totals), 1)
        metrics["loss"] = loss
        metrics["perplexity"] = math.exp(min(loss, 700.0)) if not math.isnan(loss) else math.nan
        if self.search_settings:
            scores = [self._translate_and_score(model, one) for one in self.sets]
            for name in ("bleu", "chrf"):
                metrics[name] = sum(score[name] for score in scores) / len(scores)
                if len(scores) > 1:
                    metrics |= {f"{name}_{one.name}": score[name] for one, score in zip(self.sets, scores, strict=True)}
        return metrics

    def _likelihood(self, model: Any, one: ValidationSet) -> tuple[float, int]:
        objective = TranslationObjective(label_smoothing=0.0)
        total, count = 0.0, 0.0
        # Sources, targets, and the end that a target gets.
        lengths = [len(source) + len(target) + 1 for source, target in zip(one.sources, one.targets, strict=True)]
        for rows in self.processes.own(groups_by_length(lengths, self.batch_tokens)):
            batch = self._batch([one.sources[row] for row in rows], [one.targets[row] for row in rows])
            loss = objective(model, batch)
            total, count = total + float(loss.likelihood), count + loss.count
        total, count = self.processes.sum([total, count])
        return total, int(count)

    def _batch(self, sources: list[list[int]], targets: list[list[int]]) -> Any:
        batch = make_batch(sources, targets, pad_id=self.pad_id, start_id=self.start_id, eos_id=self.eos_id)
        return batch.to(self.device)

    def _translate_and_score(self, model: nn.Module, one: ValidationSet) -> dict[str, float]:
        import sacrebleu

        references = one.references[: self.sentences]
        texts = self.translate(model, one.sources[: self.sentences])
        return {
            "bleu": float(sacrebleu.corpus_bleu(texts, [references]).score),
            "chrf": float(sacrebleu.corpus_chrf(texts, [references]).score),
        }

    def translate(self, model: Any, sources: list[list[int]]) -> list[str]:
        """Return the best translation of each source, in order."""
        assert self.search_settings is not None
        tokens = DecodingTokens(self.start_id, self.eos_id, unwritten_ids(self.tokenizer, self.eos_id))
        rows = list(self.processes.own(range(len(sources))))
        found_here: list[tuple[int, str]] = []
        if rows:
            batch = self._batch([sources[row] for row in rows], [[] for _ in rows])
            found = search(
                *(model, batch.source, batch.source_lengths, self.search_settings, tokens),
                batch_tokens=self.batch_tokens // 2,
            )
            found_here = [(row, self.tokenizer.decode(best.ids)) for row, (best, *_) in zip(rows, found, strict=True)]
        return [text for _, text in sorted(itertools.chain(*self.processes.gather(found_here)))]
