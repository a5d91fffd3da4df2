"""One vector of a text's states (Reimers and Gurevych 2019, section 3); padding takes no part.

cls: the first state      mean: the mean of all states of the text      max: the largest of each feature
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.layers.masks import Mask

PoolingKind = Literal["cls", "mean", "max"]
POOLINGS: tuple[str, ...] = get_args(PoolingKind)


def pool(
    hidden: Float[Tensor, "batch positions dim"], lengths: Int[Tensor, " batch"], kind: PoolingKind
) -> Float[Tensor, "batch dim"]:
    """Return one vector a text of its states."""
    if kind == "cls":
        return hidden[:, 0]
    real = Mask(lengths).dense(1, hidden.shape[1], hidden.device).transpose(1, 2)
    if kind == "max":
        return hidden.masked_fill(~real, -torch.inf).amax(1)
    return hidden.masked_fill(~real, 0.0).sum(1) / lengths[:, None]
