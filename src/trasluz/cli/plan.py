"""`trasluz plan`: what a run of any size would take, before anything is bought or begun."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trasluz.cli.options import CommonOptions, with_common_options

if TYPE_CHECKING:
    from trasluz.planning.machines import Accelerator
    from trasluz.planning.plan import Plan

_GB, _TERA = 1e9, 1e12


@with_common_options
def plan(
    common: CommonOptions,
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A preset (`trasluz models`), a recipe's file, or a trained model."),
    ],
    tokens: Annotated[
        str | None, typer.Option(metavar="N", help="Tokens to train on, as 300G; compute-optimal if not given.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens of a sequence; the longest that the model reads.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", help="Sequences that a device works on at once; 1, or a recipe's batch_tokens."),
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(metavar="N", help="Size of a preset's vocabulary; the paper's if not given.")
    ] = None,
    gpu: Annotated[
        str, typer.Option(metavar="NAME", help="k80 k40 m40 p100 v100 a100-40gb a100 h100 h200 b200.")
    ] = "h100",
    gpus: Annotated[
        int | None, typer.Option(metavar="N", help="How many; the fewest of 1, 2, 4, 8 ... that suffice.")
    ] = None,
    memory: Annotated[float | None, typer.Option(metavar="GB", help="Memory of one, in place of the list's.")] = None,
    peak: Annotated[float | None, typer.Option(metavar="TFLOPS", help="Rate of one, in place of the list's.")] = None,
    utilisation: Annotated[float, typer.Option(metavar="SHARE", help="Share of the peak that is reached.")] = 0.4,
    time: Annotated[
        str | None, typer.Option(metavar="TIME", help="What share of the peak would it take to be done by then: 84h.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say what training a model of any size takes: parameters, memory, operations, devices and time.

    By arithmetic alone, nothing is trained; docs/planning.md has the formulas. The layout is the smallest that fits:
    one device, or slices of the model over 2, 4, 8 ... (training.parallel: fsdp), with activations recomputed
    (training.recompute_activations) where that saves devices.
    """
    from trasluz.cli.streams import answer, answer_json
    from trasluz.errors import RequestError
    from trasluz.planning.plan import make_plan
    from trasluz.training.quantities import parse_count, parse_duration

    for option, value in (("--batch", batch), ("--gpus", gpus)):
        if value is not None and value < 1:
            raise RequestError(f"{option} must be at least 1, but is {value}.")
    common.prepare()
    subject, settings = subject_of(model, gpus)
    counted = None if tokens is None else amount("--tokens", tokens, parse_count)
    given = {"tokens": counted, "length": length, "vocab_size": vocab_size}
    settings |= {name: value for name, value in given.items() if value is not None}
    if length is not None:
        settings.pop("cut", None)
    found = make_plan(
        subject,
        device_of(gpu, memory, peak),
        batch_sequences=batch,
        devices=gpus,
        utilisation=utilisation,
        **settings,
    )
    seconds = None if time is None else amount("--time", time, parse_duration)
    if as_json:
        answer_json(as_object(found, seconds))
        return
    for line in lines_of(found, seconds):
        answer(line)


# What is learnt from labels alone says no words.
_OF_LABELS = ("classify", "tag", "answer", "embed")


def subject_of(name: str, gpus: int | None) -> tuple[Any, dict[str, Any]]:
    """Return what a plan is of, a preset or a config, and what else is known of the run; RequestError for neither."""
    from trasluz.models.registry import presets
    from trasluz.tasks.loading import bundled_models, read_model

    if name.endswith((".yaml", ".yml")):
        return _of_recipe(name, gpus)
    # A name without a slash that is nothing else is a preset with a slip in it.
    is_model = name in bundled_models() or "/" in name or Path(name).is_dir()
    if name in presets() or not is_model:
        return name, {}
    loaded = read_model(name)
    return loaded.config, {"name": name, "only_labels": loaded.task in _OF_LABELS}


def _of_recipe(name: str, gpus: int | None) -> tuple[Any, dict[str, Any]]:
    from trasluz.training.recipe_file import read_recipe
    from trasluz.training.starting_model import named_model, starting_model

    recipe = read_recipe(name)
    training, started = recipe.training, starting_model(recipe)
    settings: dict[str, Any] = {"length": recipe.data.max_length, "only_labels": recipe.task in _OF_LABELS}
    settings["recompute"] = training.recompute_activations
    if started is None:
        settings["vocab_size"] = recipe.tokenizer.vocab_size
    else:
        settings["name"] = named_model(recipe)
    # Texts to classify are cut to what the model reads; of others, training refuses a length beyond it.
    settings["cut"] = recipe.task == "classify"
    # An update's tokens are those of all devices.
    of_one = max(1, training.batch_tokens // max(1, gpus or 1))
    settings["batch_tokens"] = min(of_one, training.micro_batch_tokens or of_one)
    budgets = (training.max_tokens, training.max_steps and training.max_steps * training.batch_tokens)
    if said := [float(budget) for budget in budgets if budget]:
        settings["tokens"] = min(said)
    return recipe.model if started is None else started.config, settings


def device_of(name: str, memory: float | None, peak: float | None) -> "Accelerator":
    """Return a device of the list, with what the options say of it."""
    from dataclasses import replace

    from trasluz.errors import RequestError
    from trasluz.planning.machines import find_accelerator

    device = find_accelerator(name)
    for option, value in (("--memory", memory), ("--peak", peak)):
        if value is not None and not 0 < value < math.inf:
            raise RequestError(f"{option} is {value}; it must be a number above 0.")
    if memory is not None:
        device = replace(device, memory=memory * _GB)
    return device if peak is None else replace(device, operations=peak * _TERA)


def amount(option: str, written: str, parse: Callable[[object], float]) -> float:
    """Return an option's amount; RequestError where it is not written as one."""
    from trasluz.errors import RequestError

    try:
        return float(parse(written))
    except ValueError as error:
        raise RequestError(f"{option} is {written!r}: {error}.") from None


def as_object(plan: "Plan", seconds: float | None) -> dict[str, Any]:
    """Return what `--json` prints."""
    memory, layout = plan.memory, plan.layout
    told: dict[str, Any] = {
        "model": plan.model,
        "parameters": plan.parameters,
        "tokens": plan.tokens,
        "tokens_assumed": plan.tokens_assumed,
        "compute_optimal_tokens": plan.optimal_tokens,
        "source_length": plan.source,
        "length": plan.target,
        "batch": plan.batch_sequences,
        "operations": plan.operations,
        "forward_operations_a_token": plan.forward_a_token,
        "bytes": {
            "weights": memory.weights,
            "gradients": memory.gradients,
            "optimizer": memory.optimizer,
            "activations": memory.activations,
            "activations_with_scores": memory.activations_with_scores,
            "activations_recomputed": memory.activations_recomputed,
        },
        "layout": None
        if layout is None
        else {
            "parallel": layout.parallel,
            "devices": layout.devices,
            "recompute": layout.recompute,
            "bytes_a_device": layout.bytes_a_device,
        },
        "device": plan.device.name,
        "devices": plan.devices,
        "fits": plan.layout_here is not None,
        "recompute": plan.recomputes,
        "utilisation": plan.utilisation,
        "seconds": plan.seconds,
    }
    if seconds is not None:
        rate = plan.devices * plan.device.operations
        told |= {"time_times_rate": seconds * rate, "utilisation_within_time": plan.utilisation_within(seconds)}
    return told


def lines_of(plan: "Plan", seconds: float | None) -> list[str]:
    """Return the plan in lines."""
    memory, device = plan.memory, plan.device
    optimal = f"compute-optimal: {plan.optimal_tokens:.3g}"
    if plan.tokens_assumed:
        optimal = "assumed, since no number of tokens or updates is given: compute-optimal"
    lengths = f"{plan.source:,} + {plan.target:,}" if plan.source else f"{plan.target:,}"
    rows = [
        ("parameters", f"{plan.parameters:,}"),
        ("tokens", f"{plan.tokens:.3g}   ({optimal})"),
        ("operations", f"{plan.operations:.3g}   ({plan.forward_a_token:.3g} a token, forward)"),
        ("weights, gradients", f"{_bytes(memory.weights)} + {_bytes(memory.gradients)}   fp32"),
        ("optimizer", _bytes(memory.optimizer)),
        ("activations", f"{_bytes(memory.activations)}   {plan.batch_sequences} x {lengths} tokens, fused attention"),
        ("  scores kept", _bytes(memory.activations_with_scores)),
        ("  recomputed", _bytes(memory.activations_recomputed)),
        ("layout", _layout(plan)),
        (
            "time",
            f"{_duration(plan.seconds)} on {plan.devices:,} x {device.name} at {plan.utilisation:.0%} of "
            f"{device.operations / _TERA:,.4g} TFLOP/s{', activations recomputed' if plan.recomputes else ''}",
        ),
    ]
    if plan.layout is not None and plan.layout_here is None:
        rows.append(
            ("warning", f"the run does not fit on {plan.devices:,} x {device.name}: the layout is what it takes")
        )
    if seconds is not None:
        rate = plan.devices * device.operations
        rows.append(
            (
                f"within {_duration(seconds)}",
                f"time times rate is {seconds * rate:.3g} operations, of which {plan.utilisation_within(seconds):.0%} "
                "are the model's",
            )
        )
    return [plan.model, *(f"  {name:<20} {value}" for name, value in rows)]


def _layout(plan: "Plan") -> str:
    layout, device = plan.layout, plan.device
    if layout is None:
        what = "one sequence is" if plan.batch_sequences == 1 else f"{plan.batch_sequences:,} sequences at once are"
        return f"no number of {device.name} suffices: {what} too much for a device"
    number = "one device" if layout.devices == 1 else f"{layout.devices:,} devices, parallel: {layout.parallel}"
    recomputed = ", activations recomputed" if layout.recompute else ""
    return f"{number}{recomputed}: {_bytes(layout.bytes_a_device)} of {_bytes(device.memory)} each"


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.3g} {unit}"
    return f"{count / 1e3:,.3g} kB"


def _duration(seconds: float) -> str:
    for unit, size in (("years", 365 * 86_400), ("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:,.3g} seconds"
