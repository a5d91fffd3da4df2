"""ONNX graphs drawn of a model: a module, examples of what goes in and comes out, and a name for every axis.

Two examples of unlike sizes tell which axes may have any size: those that differ between them. Their size in the first
example names them.
"""

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trasluz.errors import RequestError

OPSET = 20

_PACKAGES = ("onnx", "onnxscript")

Sizes = Mapping[str, int]
"""The axes of an example by name."""


@dataclass(frozen=True)
class Form:
    """What is known of a tensor: names of the axes that may have any size, sizes of the others, and its type."""

    axes: tuple[str | int, ...]
    kind: str


@dataclass(frozen=True)
class Graph:
    """What a file is drawn from: a module, example arguments (tensors or tuples of them), and names for all."""

    module: nn.Module
    arguments: tuple[Any, ...]
    inputs: dict[str, Form]
    outputs: dict[str, Form]


def check_packages() -> None:
    """Raise RequestError where a package is missing that graphs are drawn with."""
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise RequestError(
                f"the format onnx is written with the package {package}, which is not installed: "
                "pip install 'trasluz[onnx]'."
            )


def forms(sizes: Sizes, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Form]:
    """Return the forms of named tensors of two examples; `sizes` are those of the first."""
    names = {size: name for name, size in sizes.items()}
    return {name: _form(names, tensor, other[name]) for name, tensor in one.items()}


def _form(names: Mapping[int, str], one: Tensor, other: Tensor) -> Form:
    sizes = zip(one.shape, other.shape, strict=True)
    axes = tuple(size if size == another else names[size] for size, another in sizes)
    return Form(axes, str(one.dtype).removeprefix("torch."))


def draw(graph: Graph, path: Path) -> None:
    """Write one graph to a file; weights of more than 2 GB go into a file beside it."""
    names = iter(
        {place: axis for place, axis in enumerate(form.axes) if isinstance(axis, str)} for form in graph.inputs.values()
    )
    dynamic_shapes = tuple(
        next(names) if isinstance(argument, Tensor) else tuple(next(names) for _ in argument)
        for argument in graph.arguments
    )
    with _quiet():
        program = torch.onnx.export(
            graph.module,
            graph.arguments,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        # Where in which file each node comes from: of no use to others, and longer than the graph.
        node.metadata_props.clear()
    program.save(path, external_data=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # The exporter warns of axes that several inputs share, which is meant, and of packages that nothing here needs.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def table(graph: Graph) -> str:
    """Return what goes in and comes out as a table of Markdown."""
    rows = ["| | name | axes | type |", "|---|---|---|---|"]
    for side, found in (("in", graph.inputs), ("out", graph.outputs)):
        for name, form in found.items():
            rows.append(f"| {side} | `{name}` | {', '.join(map(str, form.axes))} | {form.kind} |")
    return "\n".join(rows)
