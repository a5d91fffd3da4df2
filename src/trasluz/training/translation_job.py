"""Training a translator: pairs in, BLEU and chrF on the way, a folder that `translate` takes."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from trasluz.checkpoints.model_folder import save_model
from trasluz.decoding.settings import SearchSettings
from trasluz.errors import RecipeError
from trasluz.models.config import SequenceToSequenceConfig
from trasluz.models.registry import model_of, presets
from trasluz.objectives.translation import TranslationObjective
from trasluz.text.piece_dropout import find_parents
from trasluz.text.readers import Pair
from trasluz.text.tokenizer import Tokenizer
from trasluz.training.attention_choice import choose_attention
from trasluz.training.data import PreparedData
from trasluz.training.evaluation import TranslationEvaluator, ValidationSet
from trasluz.training.job import Job, Measure, settings_of_stream
from trasluz.training.model_card import write_card
from trasluz.training.processes import Processes
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import dump_recipe
from trasluz.training.reports import Chosen, Ended
from trasluz.training.signatures import translation_signatures
from trasluz.training.starting_model import named_model
from trasluz.training.stream import ExampleStream
from trasluz.training.translation_examples import TranslationExamples, back_translated_tag, direction_tags
from trasluz.training.translation_stream import Parents, TranslationStream

# Pairs that the alignment shown by default is chosen on: model 1 wants thousands, the heads are judged on hundreds.
_ALIGNED_PAIRS, _JUDGED_PAIRS = 5000, 500

# The beam that a model is searched with where nobody says another; wider ones bring little.
_LEAST_BEAM = 4


class TranslationJob(Job):
    """From sentences to their translations, one way or both."""

    @property
    def examples(self) -> TranslationExamples:
        """Sentence pairs."""
        return TranslationExamples(self.recipe)

    def check(self) -> None:
        """Raise RecipeError where model and data do not go together."""
        recipe, given = self.recipe, self.given
        name = named_model(recipe)
        known = presets()
        reads_only = name in known and "translate" not in known[name][0].tasks
        if reads_only or (given is not None and not isinstance(given.config, SequenceToSequenceConfig)):
            raise RecipeError(
                f"{recipe.place('model')}: {name} does not translate; for an encoder the task is classify, tag or "
                "fill-mask"
            )
        if given is None:
            size = recipe.tokenizer.vocab_size
            self.config(source_vocab_size=size, target_vocab_size=size)
        elif given.both_directions != recipe.data.both_directions:
            raise RecipeError(
                f"{recipe.place('data.both_directions')} is {recipe.data.both_directions}, but {name} was "
                f"trained with {given.both_directions}: set it to that"
            )

    def build_model(self, data: PreparedData[Pair]) -> nn.Module:
        """Return the model to start from, or a new one."""
        target = data.target_tokenizer
        return (
            self.given.model
            if self.given
            else model_of(
                self.config(
                    source_vocab_size=data.source_tokenizer.vocab_size,
                    target_vocab_size=target.vocab_size,
                    pad_id=target.pad_id,
                    start_id=target.bos_id,
                    eos_id=target.eos_id,
                )
            )
        )

    def objective(self, data: PreparedData[Pair]) -> TranslationObjective:
        """Return the cross-entropy of the target."""
        return TranslationObjective(self.recipe.training.label_smoothing)

    def stream(self, data: PreparedData[Pair], model: Any, processes: Processes) -> TranslationStream:
        """Return the updates."""
        return TranslationStream(
            data.cache,
            data.files,
            pad_id=model.config.pad_id,
            start_id=model.config.start_id,
            eos_id=model.config.eos_id,
            tags=direction_tags(self.recipe, data.source_tokenizer),
            back_translated=back_translated_tag(self.recipe, data.source_tokenizer),
            piece_dropout=_piece_dropout(self.recipe, data),
            **settings_of_stream(self.recipe, processes),
        )

    def evaluator(
        self, data: PreparedData[Pair], model: Any, device: torch.device, processes: Processes
    ) -> TranslationEvaluator:
        """Return what scores translations of the validation pairs."""
        recipe, settings = self.recipe, self.recipe.evaluation
        translates = settings.metric in ("bleu", "chrf")
        return TranslationEvaluator(
            sets=validation_sets(data, recipe),
            tokenizer=data.target_tokenizer,
            pad_id=model.config.pad_id,
            start_id=model.config.start_id,
            eos_id=model.config.eos_id,
            device=device,
            batch_tokens=recipe.training.micro_batch_tokens or recipe.training.batch_tokens,
            search_settings=SearchSettings(beam=settings.beam, length_penalty=settings.length_penalty)
            if translates
            else None,
            sentences=settings.sentences,
            processes=processes,
        )

    def judge(self, evaluator: Measure) -> TranslationEvaluator | None:
        """Return an evaluator that sees every pair through the search the model will have; None where this one does."""
        assert isinstance(evaluator, TranslationEvaluator)
        settings = evaluator.search_settings
        if settings is None:
            return None
        most = max(len(one.sources) for one in evaluator.sets)
        beam = _own_beam(self.recipe)
        if settings.beam == beam and evaluator.sentences >= most:
            return None
        return replace(evaluator, search_settings=replace(settings, beam=beam), sentences=most)

    def write_model(
        self,
        data: PreparedData[Pair],
        model: nn.Module,
        stream: ExampleStream[Any],
        chosen: Chosen,
        ended: Ended,
        parameters: int,
        device: torch.device,
    ) -> None:
        """Write the model folder, its card and how it is best searched and looked at."""
        recipe = self.recipe
        model.eval()
        card = write_card(
            recipe,
            data.counts,
            chosen.metrics,
            translation_signatures(chosen.metrics),
            parameters=parameters,
            steps=chosen.steps,
            seconds=ended.seconds,
            tokens=ended.tokens,
        )
        assert isinstance(stream, TranslationStream)
        save_model(
            recipe.output,
            model,
            data.source_tokenizer,
            data.target_tokenizer,
            task=recipe.task,
            languages=recipe.data.languages,
            both_directions=recipe.data.both_directions,
            card=card,
            recipe_yaml=dump_recipe(recipe),
            generation={
                "num_beams": _own_beam(recipe),
                "length_penalty": recipe.evaluation.length_penalty,
            },
            attention_default=default_attention(model, stream, device),
        )


def _piece_dropout(recipe: Recipe, data: PreparedData[Pair]) -> tuple[Parents, Parents, float] | None:
    probability = recipe.training.piece_dropout
    if not probability:
        return None
    both = data.source_tokenizer, data.target_tokenizer
    source, target = (find_parents(one) if isinstance(one, Tokenizer) else None for one in both)
    if source is None or target is None:
        raise RecipeError(
            f"{recipe.place('training.piece_dropout')} is {probability}, but the pieces of this tokenizer were not "
            "joined from others: it needs one of kind bpe"
        )
    return source, target, float(probability)


def _own_beam(recipe: Recipe) -> int:
    # A narrow search while training saves time; whoever uses the model wants its best.
    return max(_LEAST_BEAM, recipe.evaluation.beam)


def validation_sets(data: PreparedData[Pair], recipe: Recipe) -> list[ValidationSet]:
    """Return the validation pairs as ids, one set a direction."""
    first, second = recipe.data.languages
    sources = [pair.source for pair in data.valid]
    targets = [pair.target for pair in data.valid]
    source_ids = data.source_tokenizer.encode_batch(sources)
    target_ids = data.target_tokenizer.encode_batch(targets)
    tags = direction_tags(recipe, data.source_tokenizer)
    if tags is None:
        return [ValidationSet(f"{first}-{second}", source_ids, target_ids, targets)]
    return [
        ValidationSet(f"{first}-{second}", [[tags[0], *ids] for ids in source_ids], target_ids, targets),
        ValidationSet(f"{second}-{first}", [[tags[1], *ids] for ids in target_ids], source_ids, sources),
    ]


def default_attention(
    model: nn.Module, stream: TranslationStream, device: torch.device
) -> tuple[int, int | str] | None:
    """Return the layer and head that show alignment best; None for a model without attention over its source."""
    drawn = np.random.default_rng(0).integers(stream.num_examples, size=_ALIGNED_PAIRS)
    # Each once, in the order drawn: files are often sorted.
    examples = [int(example) for example in dict.fromkeys(drawn.tolist())]
    ids = [stream.example(example) for example in examples]
    eos = stream.ids["eos_id"]
    pairs = [([*source.tolist(), eos], [*target.tolist(), eos]) for source, target in ids]
    judged = examples[:_JUDGED_PAIRS]
    batches = (stream.batch(judged[start : start + 50]).to(device) for start in range(0, len(judged), 50))
    return choose_attention(model, batches, pairs)
