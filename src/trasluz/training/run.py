"""A whole run: recipe in, reports out on the way, and at the end a model folder in `output`."""

import contextlib
import functools
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from trasluz.checkpoints.model_folder import LoadedModel, load_model, save_model
from trasluz.decoding.settings import SearchSettings
from trasluz.devices import choose_device, choose_dtype, multiplies_bf16, set_threads, tune_allocator
from trasluz.errors import ModelError, RecipeError, TrasluzError, nearest
from trasluz.models.registry import build_config, model_of, presets
from trasluz.objectives.translation import TranslationObjective
from trasluz.tasks.loading import find_model
from trasluz.text.piece_dropout import find_parents
from trasluz.text.tokenizer import Tokenizer
from trasluz.training.attention_choice import choose_attention
from trasluz.training.checkpoint import CheckpointFolder
from trasluz.training.data import PreparedData, prepare_data
from trasluz.training.evaluation import TranslationEvaluator, ValidationSet, signatures
from trasluz.training.metrics_log import MetricsLog
from trasluz.training.model_card import write_card
from trasluz.training.processes import Processes, joined
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import dump_recipe, write_recipe
from trasluz.training.reports import Chosen, Ended, Notice, Report
from trasluz.training.run_lock import run_lock
from trasluz.training.trainer import Trainer
from trasluz.training.translation_stream import Parents, TranslationStream

# Pairs that the alignment shown by default is chosen on: model 1 wants thousands, the heads are judged on hundreds.
_ALIGNED_PAIRS, _JUDGED_PAIRS = 5000, 500

# The beam that a model is searched with where nobody says another; wider ones bring little.
_LEAST_BEAM = 4

# Keys that may differ when a run is resumed: how long it goes on and what is kept, not what it is.
_MAY_CHANGE = {
    "training": {
        "max_time",
        "max_steps",
        "max_epochs",
        "max_tokens",
        "device",
        "parallel",
        "threads",
        "save_every",
        "log_every",
        "max_skipped",
        "micro_batch_tokens",
    },
    "evaluation": {"patience", "keep", "average"},
    "data": {"cache"},
}


def run_recipe(recipe: Recipe, resume: bool = False) -> Iterator[Report]:
    """Train what a recipe describes; with `resume`, go on where the run in `output` stands.

    Raises RecipeError before any work where the recipe cannot work, and where `output` already holds a run.
    """
    # Before anything is read or written: sizes and names that cannot work are refused at once.
    given = _start_from(recipe)
    if given is None:
        size = recipe.tokenizer.vocab_size
        _config(recipe, {"source_vocab_size": size, "target_vocab_size": size})
    training = recipe.training
    with joined(training.parallel, training.device) as processes, contextlib.ExitStack() as held:
        processes.first_does(lambda: held.enter_context(run_lock(Path(recipe.output))))
        for report in _run(recipe, given, resume, processes):
            # One speaks for all; how it ended, all may know.
            if processes.first or isinstance(report, Ended):
                yield report


def _run(recipe: Recipe, given: LoadedModel | None, resume: bool, processes: Processes) -> Iterator[Report]:
    tune_allocator()
    set_threads(recipe.training.threads)
    device = choose_device(recipe.training.device)
    if device.type == "cuda" and processes.size > 1:
        device = torch.device("cuda", processes.local_rank)
    precision = "bf16" if choose_dtype(recipe.training.precision, device) == torch.bfloat16 else "fp32"
    if precision == "bf16" and not multiplies_bf16(device):
        precision = "fp32"
        yield Notice(f"This {device.type} has no instructions for bf16, which would be far slower: training in fp32.")
    output = Path(recipe.output)
    checkpoints = CheckpointFolder(output / "checkpoints")
    _check_output(recipe, checkpoints, resume)
    tokenizers = (given.source_tokenizer, given.target_tokenizer) if given else None
    data = yield from _prepared(recipe, tokenizers, processes)
    processes.first_does(lambda: write_recipe(recipe, output / "recipe.yaml"))
    torch.manual_seed(recipe.training.seed)
    model: Any = given.model if given else model_of(_config(recipe, _token_ids(data)))
    model.to(device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    by = f" by {processes.size} processes ({recipe.training.parallel})" if processes.size > 1 else ""
    yield Notice(f"{parameters:,} parameters on {device} in {precision}{by}.")
    stream = _stream(recipe, data, model, processes)
    evaluator = _evaluator(recipe, data, model.config, device, processes)
    trainer = Trainer(
        model,
        TranslationObjective(recipe.training.label_smoothing),
        stream,
        evaluator,
        judge=_judge(recipe, evaluator),
        training=recipe.training,
        evaluation=recipe.evaluation,
        checkpoints=checkpoints,
        device=device,
        precision=precision,
        processes=processes,
    )
    if resume:
        yield from trainer.resume()
    log = MetricsLog(output / "metrics.jsonl", recipe.training.log_every) if processes.first else None
    if log is not None:
        log.begin(trainer.state.step)
    chosen: Chosen | None = None
    for report in trainer.run():
        if log is not None:
            log.write(report)
        if isinstance(report, Chosen):
            chosen = report
        if isinstance(report, Ended):
            if chosen is None:
                yield Notice(
                    f"Go on with --resume; or have the model as it is: --resume training.max_steps={report.step}."
                )
            else:
                with trainer.shared.whole() as whole:
                    write = functools.partial(
                        _write_model, recipe, data, whole, stream, chosen, report, parameters, device
                    )
                    processes.first_does(write)
                yield Notice(f"The model is in {output}.")
        yield report


def _prepared(
    recipe: Recipe, tokenizers: tuple[Any, Any] | None, processes: Processes
) -> Generator[Report, None, PreparedData]:
    """Let the first process prepare the data; the others then find it."""
    data, error = None, None
    if processes.first:
        try:
            data = yield from prepare_data(recipe, tokenizers)
        except TrasluzError as raised:
            error = raised
    processes.all_well(error)
    return data or (yield from prepare_data(recipe, tokenizers))


def _check_output(recipe: Recipe, checkpoints: CheckpointFolder, resume: bool) -> None:
    steps = checkpoints.steps()
    if not steps:
        return
    if not resume:
        raise RecipeError(
            f"{recipe.place('output')}: {recipe.output} already holds a run, at update {steps[-1]}: "
            "go on with --resume, or choose another folder"
        )
    path = Path(recipe.output) / "recipe.yaml"
    try:
        # As data, not as a recipe: it may have been written by a version with other keys.
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return
    if not isinstance(before, dict):
        return
    now = yaml.safe_load(dump_recipe(recipe))
    for key, value, was in _differences(now, before):
        section, _, name = key.partition(".")
        if name not in _MAY_CHANGE.get(section, set()) and key != "output":
            raise RecipeError(
                f"{recipe.place(key)} is {value!r}, but the run in {recipe.output} was begun with {was!r}: "
                "resume with the old value, or start a new run in another folder"
            )


def _differences(now: dict[str, Any], before: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key, value in now.items():
        if key not in before:
            # The run is older than the key, and had what is its default now.
            continue
        was = before[key]
        if isinstance(value, dict) and isinstance(was, dict) and key != "model":
            yield from ((f"{key}.{inner}", new, old) for inner, new, old in _differences(value, was))
        elif value != was:
            yield key, value, was


def _start_from(recipe: Recipe) -> LoadedModel | None:
    """Return the loaded model to start from, None where the recipe names a preset."""
    name = recipe.model
    if not isinstance(name, str) or name in presets():
        return None
    try:
        given = load_model(find_model(name))
    except ModelError as error:
        close = nearest(name, presets())
        hint = f" Or did you mean the preset {close}?" if close else " Presets are listed by `trasluz models`."
        raise RecipeError(f"{recipe.place('model')}: {error}{hint}") from None
    if given.both_directions != recipe.data.both_directions:
        raise RecipeError(
            f"{recipe.place('data.both_directions')} is {recipe.data.both_directions}, but {name} was trained with "
            f"{given.both_directions}: set it to that"
        )
    return given


def _config(recipe: Recipe, tokens: dict[str, int]) -> Any:
    try:
        return build_config(recipe.model, **tokens)
    except ModelError as error:
        raise RecipeError(f"{recipe.place('model')}: {error}") from None


def _token_ids(data: PreparedData) -> dict[str, int]:
    target = data.target_tokenizer
    return {
        "source_vocab_size": data.source_tokenizer.vocab_size,
        "target_vocab_size": target.vocab_size,
        "pad_id": target.pad_id,
        "start_id": target.bos_id,
        "eos_id": target.eos_id,
    }


def _stream(recipe: Recipe, data: PreparedData, model: Any, processes: Processes) -> TranslationStream:
    return TranslationStream(
        data.cache,
        data.files,
        pad_id=model.config.pad_id,
        start_id=model.config.start_id,
        eos_id=model.config.eos_id,
        tags=data.tags(recipe),
        batch_tokens=recipe.training.batch_tokens,
        micro_batch_tokens=recipe.training.micro_batch_tokens,
        seed=recipe.training.seed,
        piece_dropout=_piece_dropout(recipe, data),
        rank=processes.rank,
        size=processes.size,
    )


def _piece_dropout(recipe: Recipe, data: PreparedData) -> tuple[Parents, Parents, float] | None:
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


def _evaluator(
    recipe: Recipe, data: PreparedData, config: Any, device: torch.device, processes: Processes
) -> TranslationEvaluator:
    settings = recipe.evaluation
    translates = settings.metric in ("bleu", "chrf")
    return TranslationEvaluator(
        sets=validation_sets(data, recipe),
        tokenizer=data.target_tokenizer,
        pad_id=config.pad_id,
        start_id=config.start_id,
        eos_id=config.eos_id,
        device=device,
        batch_tokens=recipe.training.micro_batch_tokens or recipe.training.batch_tokens,
        search_settings=SearchSettings(beam=settings.beam, length_penalty=settings.length_penalty)
        if translates
        else None,
        sentences=settings.sentences,
        processes=processes,
    )


def _judge(recipe: Recipe, evaluator: TranslationEvaluator) -> TranslationEvaluator | None:
    """Return an evaluator that sees every pair through the search the model will have; None where this one does."""
    settings = evaluator.search_settings
    if settings is None:
        return None
    most = max(len(one.sources) for one in evaluator.sets)
    beam = _own_beam(recipe)
    if settings.beam == beam and evaluator.sentences >= most:
        return None
    return replace(evaluator, search_settings=replace(settings, beam=beam), sentences=most)


def _own_beam(recipe: Recipe) -> int:
    # A narrow search while training saves time; whoever uses the model wants its best.
    return max(_LEAST_BEAM, recipe.evaluation.beam)


def validation_sets(data: PreparedData, recipe: Recipe) -> list[ValidationSet]:
    """Return the validation pairs as ids, one set a direction."""
    first, second = recipe.data.languages
    sources = [source for source, _ in data.valid]
    targets = [target for _, target in data.valid]
    source_ids = data.source_tokenizer.encode_batch(sources)
    target_ids = data.target_tokenizer.encode_batch(targets)
    tags = data.tags(recipe)
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


def _write_model(
    recipe: Recipe,
    data: PreparedData,
    model: nn.Module,
    stream: TranslationStream,
    chosen: Chosen,
    ended: Ended,
    parameters: int,
    device: torch.device,
) -> None:
    model.eval()
    card = write_card(
        recipe,
        data.counts,
        chosen.metrics,
        signatures(),
        parameters=parameters,
        steps=chosen.steps,
        seconds=ended.seconds,
        tokens=ended.tokens,
    )
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
