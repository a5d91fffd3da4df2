"""Activations that the backward pass computes again, in place of keeping them (Chen et al. 2016, arXiv 1604.06174).

Of each layer only its input stays; the layer runs once more before its gradients are computed, with the same numbers
drawn. An update then takes a third more operations, and memory for the activations of one layer in place of all.
"""

import functools

from torch import nn
from torch.utils.checkpoint import checkpoint

from trasluz.errors import RequestError
from trasluz.layers.transformer_block import DecoderBlock, EncoderBlock


def recompute_activations(model: nn.Module) -> None:
    """Let every layer of a Transformer be computed again; RequestError where a model has no such layer."""
    layers = [part for part in model.modules() if isinstance(part, EncoderBlock | DecoderBlock)]
    if not layers:
        raise RequestError(
            "training.recompute_activations is for the layers of a Transformer; a recurrent model keeps its states"
        )
    for layer in layers:
        # A partial, not a function: what is copied with its layer computes with the copy's weights.
        again = functools.partial(checkpoint, layer.forward, use_reentrant=False)
        layer.forward = again  # type: ignore[method-assign]
