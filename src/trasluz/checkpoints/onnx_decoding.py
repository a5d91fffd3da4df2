"""Both halves of a `Stepper` as graphs: `start` of sources, `step` of one token.

    source, source_lengths -> state                 `start`, of one row a source
    ids, state -> logits, next state                `step`

The state is every tensor that the model's own state holds, named by its place there (`caches.0.key`). What is held once
a source stays as `start` gave it; what is carried from step to step comes back as `next.` and its name. Rows are
hypotheses: as many a source as whoever searches likes, those of one source side by side, so a beam repeats and
reorders the carried tensors and leaves the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from trasluz.checkpoints.onnx_graph import Graph, Sizes, forms
from trasluz.checkpoints.onnx_layers import PositionTable
from trasluz.checkpoints.state_parts import parts_of, with_parts

_NEXT = "next."


@dataclass(frozen=True)
class Examples:
    """Two runs of unlike sizes to draw graphs of.

    `sizes` name the axes: `sources`, `rows` and `source` are given to the model, `steps` are gone before the one that
    is drawn, and what a state holds may have any other of them. Sources that need not be equally long are not.
    """

    sizes: tuple[Sizes, Sizes]
    steps: tuple[int, int]
    equally_long: bool


class _Start(nn.Module):
    """`start` with one row a source; what the step takes of the state, as a row of tensors."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model: Any = model
        self.names = tuple(names)

    def forward(
        self, source: Int[Tensor, "sources source"], source_lengths: Int[Tensor, " sources"]
    ) -> tuple[Tensor, ...]:
        parts = parts_of(self.model.start(source, source_lengths, 1, 0))
        return tuple(parts[name] for name in self.names)


class _EquallyLongStart(_Start):
    """`start` of sources without padding, which need no lengths."""

    def forward(self, source: Int[Tensor, "sources source"]) -> tuple[Tensor, ...]:  # type: ignore[override]
        return super().forward(source, source.new_full(source.shape[:1], source.shape[1]))


class _Step(nn.Module):
    """`step`; the state before, and what it carries on, as rows of tensors."""

    def __init__(self, model: nn.Module, state: Any, carried: Sequence[str]) -> None:
        super().__init__()
        self.model: Any = model
        self.state, self.carried = state, tuple(carried)

    def forward(self, ids: Int[Tensor, " rows"], parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        logits, state = self.model.step(ids, with_parts(self.state, parts))
        after = parts_of(state)
        return logits, *(after[name] for name in self.carried)


@dataclass(frozen=True)
class _Run:
    """One example run through a model."""

    sources: dict[str, Tensor]
    first: dict[str, Tensor]
    ids: Tensor
    state: Any
    logits: Tensor
    after: dict[str, Tensor]


def _run(model: Any, sizes: Sizes, steps: int, equally_long: bool) -> _Run:
    source = torch.zeros(sizes["sources"], sizes["source"], dtype=torch.int64)
    lengths = torch.full((sizes["sources"],), sizes["source"]) if equally_long else torch.arange(sizes["sources"]) + 2
    ids = torch.zeros(sizes["rows"], dtype=torch.int64)
    state = model.start(source, lengths, sizes["rows"] // sizes["sources"], steps + 1)
    first = parts_of(model.start(source, lengths, 1, 0))
    for _ in range(steps):
        _, state = model.step(ids, state)
    state = with_parts(state, parts_of(state).values())
    logits, after = model.step(ids, with_parts(state, parts_of(state).values()))
    sources = {"source": source} if equally_long else {"source": source, "source_lengths": lengths}
    return _Run(sources, first, ids, state, logits, parts_of(after))


def decoding_graphs(model: Any, examples: Examples) -> tuple[Graph, Graph]:
    """Return the graphs of `start` and `step`."""
    names = examples.sizes[0]
    one, other = (
        _run(model, sizes, steps, examples.equally_long)
        for sizes, steps in zip(examples.sizes, examples.steps, strict=True)
    )
    before = forms(names, parts_of(one.state), parts_of(other.state))
    carried = [name for name, form in before.items() if form.axes[0] == "rows"]
    after = forms(names, one.after, other.after)
    # What only the first step takes, as a prompt's last token, is known to whoever gave it.
    first = {name: form for name, form in forms(names, one.first, other.first).items() if name in before}
    start = Graph(
        (_EquallyLongStart if examples.equally_long else _Start)(model, list(first)),
        tuple(one.sources.values()),
        forms(names, one.sources, other.sources),
        first,
    )
    step = Graph(
        _Step(model, one.state, carried),
        (one.ids, tuple(parts_of(one.state).values())),
        {**forms(names, {"ids": one.ids}, {"ids": other.ids}), **before},
        {
            **forms(names, {"logits": one.logits}, {"logits": other.logits}),
            **{_NEXT + name: after[name] for name in carried},
        },
    )
    return start, step


def parts_of_step(step: Graph) -> tuple[list[str], list[str]]:
    """Return the names of the parts that stay as `start` gave them, and of those that every step gives anew."""
    parts = [name for name in step.inputs if name != "ids"]
    carried = [name for name in parts if _NEXT + name in step.outputs]
    return [name for name in parts if name not in carried], carried


def num_positions(graph: Graph) -> int | None:
    """Return how many positions a model knows; None where it counts none."""
    tables = [part.get_buffer("table") for part in graph.module.modules() if isinstance(part, PositionTable)]
    return min(map(len, tables), default=None)
