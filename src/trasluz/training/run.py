"""A whole run: recipe in, reports out on the way, and at the end a model folder in `output`."""

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml

from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.devices import choose_device, choose_dtype, multiplies_bf16, set_threads, tune_allocator
from trasluz.errors import RecipeError, TrasluzError
from trasluz.layers.kernels import kernels_are_missing
from trasluz.layers.kernels.int8_training import rounds_rows
from trasluz.training.answering_job import AnsweringJob
from trasluz.training.causal_job import CausalJob
from trasluz.training.checkpoint import CheckpointFolder
from trasluz.training.classification_job import ClassificationJob
from trasluz.training.data import PreparedData, prepare_data
from trasluz.training.job import Job
from trasluz.training.metrics_log import MetricsLog
from trasluz.training.next_sentence_job import pre_training_job
from trasluz.training.processes import Processes, joined
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import dump_recipe, is_section, write_recipe
from trasluz.training.recomputation import recompute_activations
from trasluz.training.reports import Chosen, Ended, Notice, Report
from trasluz.training.run_lock import run_lock
from trasluz.training.starting_model import starting_model
from trasluz.training.tagging_job import TaggingJob
from trasluz.training.teacher import Teacher, read_teacher
from trasluz.training.trainer import Trainer
from trasluz.training.translation_job import TranslationJob

JOBS: dict[str, Callable[[Recipe, LoadedModel | None], Job]] = {
    "translate": TranslationJob,
    "fill-mask": pre_training_job,
    "classify": ClassificationJob,
    "tag": TaggingJob,
    "answer": AnsweringJob,
    "generate": CausalJob,
}

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
        "recompute_activations",
    },
    "evaluation": {"patience", "keep", "average"},
    "data": {"cache"},
}


def run_recipe(recipe: Recipe, resume: bool = False) -> Iterator[Report]:
    """Train what a recipe describes; with `resume`, go on where the run in `output` stands.

    Raises RecipeError before any work where the recipe cannot work, and where `output` already holds a run.
    """
    # Before anything is read or written: sizes and names that cannot work are refused at once.
    job = JOBS[recipe.task](recipe, starting_model(recipe))
    job.check()
    teacher = read_teacher(recipe)
    training = recipe.training
    with joined(training.parallel, training.device) as processes, contextlib.ExitStack() as held:
        processes.first_does(lambda: held.enter_context(run_lock(Path(recipe.output))))
        for report in _run(recipe, job, teacher, resume, processes):
            # One speaks for all; how it ended, all may know.
            if processes.first or isinstance(report, Ended):
                yield report


def _run(recipe: Recipe, job: Job, teacher: Teacher | None, resume: bool, processes: Processes) -> Iterator[Report]:
    tune_allocator()
    set_threads(recipe.training.threads)
    device = choose_device(recipe.training.device)
    if device.type == "cuda" and processes.size > 1:
        device = torch.device("cuda", processes.local_rank)
    precision = yield from _precision(recipe.training.precision, device)
    output = Path(recipe.output)
    checkpoints = CheckpointFolder(output / "checkpoints")
    # First: a kill may have left the only checkpoint standing aside.
    processes.first_does(checkpoints.sweep)
    # A shared folder may look different from each machine for a while.
    steps = processes.agree(checkpoints.steps())
    _check_output(recipe, steps, resume)
    data = yield from _prepared(recipe, job, processes)
    if resume:
        _check_data(recipe, checkpoints, steps, data)
    processes.first_does(lambda: write_recipe(recipe, output / "recipe.yaml"))
    torch.manual_seed(recipe.training.seed)
    model = job.build_model(data).to(device)
    if recipe.training.recompute_activations:
        recompute_activations(model)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    by = f" by {processes.size} processes ({recipe.training.parallel})" if processes.size > 1 else ""
    yield Notice(f"{parameters:,} parameters on {device} in {precision}{by}.")
    if device.type == "cpu" and kernels_are_missing():
        yield Notice(
            "The compiled kernels are not there, as no C++ compiler was at installation: all works, but slower."
        )
    stream = job.stream(data, model, processes)
    evaluator = job.evaluator(data, model, device, processes)
    objective = job.objective(data)
    trainer = Trainer(
        model,
        objective if teacher is None else teacher.objective(objective, data, model, device),
        stream,
        evaluator,
        judge=job.judge(evaluator),
        training=recipe.training,
        evaluation=recipe.evaluation,
        checkpoints=checkpoints,
        device=device,
        precision=precision,
        processes=processes,
    )
    if resume:
        yield from trainer.resume()
    trainer.state.data = data.identity
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
                    write = functools.partial(job.write_model, data, whole, stream, chosen, report, parameters, device)
                    processes.first_does(write)
                yield Notice(f"The model is in {output}.")
        yield report


def _precision(wanted: str, device: torch.device) -> Generator[Report, None, str]:
    """Return what products are made in: what is wanted, or the fastest of more bits where this machine lacks it."""
    dtype = choose_dtype(wanted, device)
    here = "bf16" if multiplies_bf16(device) else "fp32"
    if dtype == torch.int8 and not rounds_rows():
        yield Notice(
            "Products of eight bits need a processor with AVX512-VNNI, and the kernels that are compiled where a "
            f"compiler is at hand at installation: training in {here}."
        )
        return here
    if dtype == torch.bfloat16 and here == "fp32":
        yield Notice(f"This {device.type} has no instructions for bf16, which would be far slower: training in fp32.")
    return {torch.int8: "int8", torch.bfloat16: here}.get(dtype, "fp32")


def _prepared(recipe: Recipe, job: Job, processes: Processes) -> Generator[Report, None, PreparedData[Any]]:
    """Let the first process prepare the data; the others then find it."""
    data, error = None, None
    examples = job.examples
    tokenizers = (job.given.source_tokenizer, job.given.target_tokenizer) if job.given else None
    if processes.first:
        try:
            data = yield from prepare_data(recipe, examples, tokenizers)
        except TrasluzError as raised:
            error = raised
    processes.all_well(error)
    return data or (yield from prepare_data(recipe, examples, tokenizers))


def _check_output(recipe: Recipe, steps: list[int], resume: bool) -> None:
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


def _check_data(recipe: Recipe, checkpoints: CheckpointFolder, steps: list[int], data: PreparedData[Any]) -> None:
    """Raise RecipeError where the run would go on with ids that mean something else, or with other rows."""
    before = checkpoints.read_state(steps[-1]).data if steps else {}
    changed = [what for what, value in data.identity.items() if what in before and value != before[what]]
    if changed:
        raise RecipeError(
            f"{recipe.place('data.train')}: the data changed since the run in {recipe.output} was begun (another "
            f"{' and '.join(changed)}): restore the files as they were, or start a new run in another output"
        )


def _differences(now: dict[str, Any], before: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield what differs, in sections key by key; any other mapping is one value, of which nothing may be gone or new.

    Where a run is older than a key, it had what is its default now.
    """
    for key, value in now.items():
        was = before.get(key, value)
        if is_section(key) and isinstance(was, dict):
            yield from (
                (f"{key}.{inner}", new, was[inner]) for inner, new in value.items() if was.get(inner, new) != new
            )
        elif value != was:
            yield key, value, was
