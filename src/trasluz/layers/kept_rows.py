"""Some positions out of all of a batch: those whose states are asked for.

A head often asks for few: masked words for 15 positions in 100, a text's class for its first. The last layer then has
to look at all positions, but to mix, normalise and transform those few alone, which saves most of its work; nothing
that is asked for changes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.devices import onednn_leads
from trasluz.layers.linear import as_rows

# Numbers of rows are multiples of the one, up to it of the other: oneDNN compiles its products for each that it meets
# (`row_room`). Of very few, such as a single text's, there are few sizes anyway.
_MANY, _FEW = 64, 16


def kept_rows(
    x: Float[Tensor, "*positions dim"], kept: Int[Tensor, " kept"] | None
) -> Float[Tensor, "*positions dim"] | Float[Tensor, "kept dim"]:
    """Return the rows at these places, counted over all rows; None: all, as they lie."""
    return x if kept is None else as_rows(x).index_select(0, kept)


def in_few_sizes(kept: Int[Tensor, " kept"], dtype: torch.dtype) -> Int[Tensor, " _"]:
    """Return places whose number is one of few, for products of this type: the last one is there several times."""
    if len(kept) <= _FEW or not kept.is_cpu or not onednn_leads(dtype):
        return kept
    missing = -len(kept) % (_MANY if len(kept) > _MANY else _FEW)
    return torch.cat([kept, kept[-1:].expand(missing)]) if missing else kept
