"""Attention of many texts at once, none of which sees another; what is computed stands in text_attention.cpp."""

import torch
from jaxtyping import Float
from torch import Tensor

from trasluz.layers.kernels import kernels_for, load_kernels
from trasluz.layers.masks import Stretches

_DTYPES = (torch.float32, torch.bfloat16)
_EIGHT = 8


def takes_texts(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Tell whether the kernel is there for these."""
    return (
        kernels_for(query, _DTYPES) is not None
        and query.dtype == key.dtype == value.dtype
        and query.shape[1] == key.shape[1]
        and query.shape[-1] % _EIGHT == 0
    )


def attends_to_texts(device: torch.device) -> bool:
    """Tell whether the kernel is there on a device, so that rows of several texts cost no more than these."""
    return device.type == "cpu" and load_kernels() is not None


def text_attention(
    query: Float[Tensor, "batch heads query head_dim"],
    key: Float[Tensor, "batch heads key head_dim"],
    value: Float[Tensor, "batch heads key head_dim"],
    queries: Stretches,
    keys: Stretches,
) -> Float[Tensor, "batch heads query head_dim"]:
    """Return the context of every query of `queries` over the `keys` of its text; zeros where there are none."""
    kernels = load_kernels()
    assert kernels is not None
    # Positions before heads: so a projection leaves them, and nothing is copied.
    query, key, value = (x.transpose(1, 2).contiguous() for x in (query, key, value))
    context = torch.empty_like(query)
    kernels.trasluz_text_attention(
        *(query.data_ptr(), key.data_ptr(), value.data_ptr(), len(queries[0])),
        *(part.data_ptr() for part in (*queries, *keys)),
        *(query.shape[2], query.shape[3], query.dtype == torch.bfloat16, context.data_ptr(), torch.get_num_threads()),
    )
    return context.transpose(1, 2)
