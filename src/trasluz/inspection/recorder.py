"""Recording attention: the weights are computed beside the kernel that runs, so outputs are the same to the bit.

with record_attention(model, layers=[3]) as record:
    model(batch)
record.encoder[3].weights
"""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from trasluz.errors import RequestError
from trasluz.layers.attention import Attention, tapped
from trasluz.layers.block_weights import BlockWeights


@runtime_checkable
class Attentive(Protocol):
    """A model that names its attentions by kind ("encoder", "decoder", "cross"), each a list by layer."""

    def attentions(self) -> dict[str, list[Attention]]:
        """Return every attention of the model."""
        ...


@dataclass
class RecordedAttention:
    """What one attention layer looked at while recording."""

    heads: tuple[int, ...] | None = None
    parts: list[Tensor | BlockWeights] = field(default_factory=list)

    def add(self, weights: Float[Tensor, "batch heads query key"] | BlockWeights) -> None:
        """Take the weights of one call; a recurrent decoder makes one call a target position."""
        if isinstance(weights, BlockWeights):
            self.parts.append(weights if self.heads is None else weights.of_heads(self.heads))
        else:
            self.parts.append((weights if self.heads is None else weights[:, list(self.heads)]).float())

    @property
    def weights(self) -> Float[Tensor, "batch heads query key"]:
        """All queries recorded, in the order of the calls; block-sparse attention is written out here."""
        if not self.parts:
            raise RequestError("nothing was recorded: call the model inside the `with record_attention(...)` block.")
        written = [part.dense().float() if isinstance(part, BlockWeights) else part for part in self.parts]
        if len({(*part.shape[:2], part.shape[3]) for part in written}) > 1:
            raise RequestError(
                "the recorded calls had texts of different numbers or lengths, which one tensor cannot hold: record "
                "each call in a `with record_attention(...)` block of its own, or take `parts`."
            )
        return written[0] if len(written) == 1 else torch.cat(written, dim=2)


@dataclass
class AttentionRecord:
    """Recorded layers by kind; each a mapping from layer number to what it looked at."""

    encoder: dict[int, RecordedAttention] = field(default_factory=dict)
    decoder: dict[int, RecordedAttention] = field(default_factory=dict)
    cross: dict[int, RecordedAttention] = field(default_factory=dict)


@contextlib.contextmanager
def record_attention(
    model: Attentive, layers: Collection[int] | None = None, heads: Collection[int] | None = None
) -> Iterator[AttentionRecord]:
    """Record what a model attends to within the block; `layers` and `heads` count from 0, None takes all.

    Blocks may lie within each other: all of them record. Raises RequestError for a layer or head that no attention of
    the model has, and where there are none of them to record.
    """
    record = AttentionRecord()
    attentions = model.attentions()
    _refuse_unknown(attentions, layers, heads)
    with contextlib.ExitStack() as taps:
        for kind, stack in attentions.items():
            for layer, attention in enumerate(stack):
                if layers is not None and layer not in layers:
                    continue
                recorded = RecordedAttention(None if heads is None else tuple(heads))
                getattr(record, kind)[layer] = recorded
                taps.enter_context(tapped(attention, recorded.add))
        yield record


def is_recorded(model: Attentive) -> bool:
    """Return whether anybody records what the model attends to."""
    return any(attention.tap is not None for stack in model.attentions().values() for attention in stack)


def _refuse_unknown(
    attentions: dict[str, list[Attention]], layers: Collection[int] | None, heads: Collection[int] | None
) -> None:
    num_layers = max((len(stack) for stack in attentions.values()), default=0)
    if num_layers == 0:
        raise RequestError("this model has no attention to look at: everything its decoder knows is one vector.")
    for name, chosen in (("layers", layers), ("heads", heads)):
        if chosen is not None and not chosen:
            raise RequestError(f"{name} is empty, so nothing would be recorded; name some, or leave it out for all.")
    for layer in layers or ():
        if not 0 <= layer < num_layers:
            raise RequestError(f"there is no layer {layer}; this model's attention layers are 0 to {num_layers - 1}.")
    num_heads = min(attention.num_heads for stack in attentions.values() for attention in stack)
    for head in heads or ():
        if not 0 <= head < num_heads:
            raise RequestError(f"there is no head {head}; this model's heads are 0 to {num_heads - 1}.")
