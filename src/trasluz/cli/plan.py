"""`trasluz plan`: what a run of any size would take, before anything is bought or begun."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trasluz.cli.options import CommonOptions, with_common_options

if TYPE_CHECKING:
    from trasluz.planning.layout import Layout
    from trasluz.planning.machines import Accelerator
    from trasluz.planning.plan import Plan
    from trasluz.planning.run import Run

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
    counted = None if tokens is None else amount("--tokens", tokens, parse_count)
    known = {"tokens": counted, "length": length, "batch_sequences": batch}
    run = run_of(model, vocab_size, {name: value for name, value in known.items() if value is not None})
    found = make_plan(run, device_of(gpu, memory, peak), devices=gpus, utilisation=utilisation)
    seconds = None if time is None else amount("--time", time, parse_duration)
    if as_json:
        answer_json(as_object(found, seconds))
        return
    for line in lines_of(found, seconds):
        answer(line)


def run_of(name: str, vocab_size: int | None, known: dict[str, Any]) -> "Run":
    """Return the run of a recipe's file, a preset or a trained model, with what the options say of it."""
    if name.endswith((".yaml", ".yml")):
        from trasluz.training.planned_run import planned_run
        from trasluz.training.recipe_file import read_recipe

        return planned_run(read_recipe(name), vocab_size, **known)
    from trasluz.planning.run import named_run

    return named_run(name, vocab_size, **known)


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
    return device if peak is None else device.with_rate(peak * _TERA)


def amount(option: str, written: str, parse: Callable[[object], float]) -> float:
    """Return an option's amount; RequestError where it is not written as one."""
    from trasluz.errors import RequestError

    try:
        return float(parse(written))
    except ValueError as error:
        raise RequestError(f"{option} is {written!r}: {error}.") from None


def as_object(plan: "Plan", seconds: float | None) -> dict[str, Any]:
    """Return what `--json` prints."""
    run, memory = plan.run, plan.memory
    told: dict[str, Any] = {
        "model": run.name,
        "parameters": run.parameters,
        "frozen_parameters": run.frozen,
        "tokens": plan.tokens,
        "tokens_assumed": run.tokens is None,
        "compute_optimal_tokens": plan.optimal_tokens,
        "source_length": run.source,
        "length": run.target,
        "batch": plan.batch_sequences,
        "precision": plan.precision,
        "operations": plan.operations,
        "forward_operations_a_token": run.forward_a_token,
        "frozen_operations_a_token": run.frozen_a_token,
        "teacher_operations_a_token": run.teacher_a_token,
        "bytes": {
            "weights": memory.weights,
            "gradients": memory.gradients,
            "optimizer": memory.optimizer,
            "activations": memory.activations,
            "activations_with_scores": memory.activations_with_scores,
            "activations_recomputed": memory.activations_recomputed,
            "copies": memory.copies,
            "copies_recomputed": memory.copies_recomputed,
            "gathered": memory.gathered,
            "teacher": memory.teacher,
        },
        "layout": _layout_object(plan.smallest),
        "layout_with_less_at_once": _layout_object(plan.less_at_once),
        "device": plan.device.name,
        "devices": plan.devices,
        "fits": plan.used is not None,
        "recompute": plan.recompute,
        "utilisation": plan.utilisation,
        "seconds": plan.seconds,
    }
    if seconds is not None:
        rate = plan.rate
        told |= {
            "time_times_rate": None if rate is None else seconds * rate,
            "utilisation_within_time": plan.utilisation_within(seconds),
        }
    return told


def _layout_object(layout: "Layout | None") -> dict[str, Any] | None:
    if layout is None:
        return None
    return {
        "parallel": layout.parallel,
        "devices": layout.devices,
        "recompute": layout.recompute,
        "batch": layout.sequences,
        "bytes_a_device": layout.bytes_a_device,
    }


def lines_of(plan: "Plan", seconds: float | None) -> list[str]:
    """Return the plan in lines."""
    run, memory, name = plan.run, plan.memory, plan.device.name
    optimal = f"compute-optimal: {plan.optimal_tokens:.3g}"
    if run.tokens is None:
        optimal = "assumed, since no number of tokens or updates is given: compute-optimal"
    lengths = f"{run.source:,} + {run.target:,}" if run.source else f"{run.target:,}"
    taught = f", and {run.teacher_a_token:.3g} of the teacher" if run.teacher else ""
    wants_more = run.precision != "fp32" and plan.precision == "fp32"
    rows = [
        ("parameters", f"{run.parameters:,}{f', of which {run.frozen:,} are frozen' if run.frozen else ''}"),
        ("tokens", f"{plan.tokens:.3g}   ({optimal})"),
        ("operations", f"{plan.operations:.3g}   ({run.forward_a_token:.3g} a token, forward{taught})"),
        ("precision", f"{plan.precision}{f', since {name} has no instructions for bf16' if wants_more else ''}"),
        ("weights, gradients", f"{_bytes(memory.weights)} + {_bytes(memory.gradients)}   fp32"),
        ("optimizer", f"{_bytes(memory.optimizer)}   {run.optimizer}"),
        ("activations", f"{_bytes(memory.activations)}   {plan.batch_sequences} x {lengths} tokens, fused attention"),
        ("  scores kept", _bytes(memory.activations_with_scores)),
    ]
    again = ""
    if run.has_separate_layers:
        rows.append(("  recomputed", _bytes(memory.activations_recomputed)))
        again = f"; {_bytes(memory.copies_recomputed)} where activations are recomputed"
    if memory.copies:
        rows.append(("copies of weights", f"{_bytes(memory.copies)}   bf16{again}"))
    if run.teacher is not None:
        rows.append(("teacher", f"{_bytes(memory.teacher)}   weights, and what it computes"))
    rows.append(("layout", _too_much(plan) if plan.smallest is None else _layout(plan.smallest, plan)))
    if plan.less_at_once is not None:
        rows.append(("  less at once", _less_at_once(plan.less_at_once, plan)))
    rows.append(("time", _time(plan)))
    if plan.used is None and plan.devices is not None:
        rows.append(("warning", _does_not_fit(plan)))
    if seconds is not None and plan.rate is not None:
        rows.append(
            (
                f"within {_duration(seconds)}",
                f"time times rate is {seconds * plan.rate:.3g} operations, of which "
                f"{plan.utilisation_within(seconds):.0%} are the model's",
            )
        )
    return [run.name, *(f"  {name:<20} {value}" for name, value in rows)]


def _layout(layout: "Layout", plan: "Plan") -> str:
    number = "one device" if layout.devices == 1 else f"{layout.devices:,} devices, parallel: {layout.parallel}"
    recomputed = ", activations recomputed" if layout.recompute else ""
    return f"{number}{recomputed}: {_bytes(layout.bytes_a_device)} of {_bytes(plan.device.memory)} each"


def _too_much(plan: "Plan") -> str:
    count, run = plan.batch_sequences, plan.run
    what = f"one sequence of {run.target:,} tokens is" if count == 1 else f"{count:,} sequences at once are"
    whole = "" if run.has_separate_layers else ", which has the whole model (it cannot be sliced)"
    return f"no number of {plan.device.name} suffices: {what} too much for a device{whole}"


def _less_at_once(layout: "Layout", plan: "Plan") -> str:
    run = plan.run
    by = f"--batch {layout.sequences}"
    if run.batch_sequences is None:
        by = f"training.micro_batch_tokens: {layout.sequences * run.target}"
    return f"with {by}, {_layout(layout, plan)}"


def _does_not_fit(plan: "Plan") -> str:
    said = f"the run does not fit on {plan.devices:,} x {plan.device.name}"
    if plan.smallest is not None:
        said += ": the layout is what it takes"
    return said if plan.less_at_once else f"{said}; not even one sequence at once fits"


def _time(plan: "Plan") -> str:
    if plan.seconds is None:
        return f"none: no number of {plan.device.name} suffices"
    rate = plan.device.rate(plan.precision) / _TERA
    return (
        f"{_duration(plan.seconds)} on {plan.devices:,} x {plan.device.name} at {plan.utilisation:.0%} of "
        f"{rate:,.4g} TFLOP/s{', activations recomputed' if plan.recompute else ''}"
    )


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
