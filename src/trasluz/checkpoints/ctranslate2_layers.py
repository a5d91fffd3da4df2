"""What our Transformers are called in CTranslate2's specifications, and how these get their weights.

Queries, keys and values of self-attention are one matrix there, keys and values of encoder-decoder attention another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from trasluz.models.key_map import Row

# Names in the engine's list of activations.
ACTIVATIONS = {"relu": "RELU", "gelu": "GELU", "gelu_tanh": "GELUTanh", "swish": "SWISH"}

SELF_ATTENTION_LAYER = {
    "self_attention/linear_0": ("self_attention.query", "self_attention.key", "self_attention.value"),
    "self_attention/linear_1": ("self_attention.output",),
    "self_attention/layer_norm": ("self_attention_residual.norm",),
    "ffn/linear_0": ("feed_forward.expand",),
    "ffn/linear_1": ("feed_forward.contract",),
    "ffn/layer_norm": ("feed_forward_residual.norm",),
}
DECODER_LAYER = SELF_ATTENTION_LAYER | {
    "attention/linear_0": ("cross_attention.query",),
    "attention/linear_1": ("cross_attention.key", "cross_attention.value"),
    "attention/linear_2": ("cross_attention.output",),
    "attention/layer_norm": ("cross_attention_residual.norm",),
}
_PARTS = {"weight": "weight", "bias": "bias"}
_NORM_PARTS = {"gamma": "weight", "beta": "bias"}


def part_rows(theirs: str, ours: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a key map for weight and bias of a layer; several of ours are one of theirs."""
    for part, kind in (_NORM_PARTS if theirs.endswith("layer_norm") else _PARTS).items():
        names = tuple(f"{name}.{kind}" for name in ours)
        yield Row(f"{theirs}/{part}", names if len(names) > 1 else names[0])


def layer_rows(stack: str, layer: Mapping[str, Sequence[str]], ours: str) -> Iterator[Row]:
    """Yield the rows of every layer of a stack, and of the norm above it; `ours` is what we call the stack."""
    yield from part_rows(f"{stack}/layer_norm", [f"{ours}_norm"])
    for theirs, names in layer.items():
        yield from part_rows(f"{stack}/layer_{{}}/{theirs}", [f"{ours}.{{}}.{name}" for name in names])


def activation_of(name: str) -> Any:
    """Return the engine's own word for an activation."""
    from ctranslate2.specs.common_spec import Activation

    return Activation[ACTIVATIONS[name]]


def put_weights(specification: Any, tensors: Mapping[str, Tensor]) -> None:
    """Give a specification weights under its own names."""
    from ctranslate2.specs.model_spec import index_spec

    for name, tensor in tensors.items():
        scope, part = name.rsplit("/", 1)
        # The engine's package rounds weights where they lie.
        setattr(index_spec(specification, scope), part, tensor.clone())


def vocabulary(names: Sequence[str], id_of: Callable[[str], int | None]) -> list[str]:
    """Return the token of every id; a model may have more rows than its tokenizer has tokens."""
    return [name if id_of(name) == index else f"<unused {index}>" for index, name in enumerate(names)]
