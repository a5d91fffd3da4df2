"""Attention of one new position a row, read where the memory lies; what is computed stands in attention_step.cpp."""

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from trasluz.layers.kernels import kernels_for, load_kernels


def can_step(query: Tensor, head_dim: int) -> bool:
    """Tell whether the kernel takes these queries: it wants heads of whole eights."""
    return head_dim % 8 == 0 and kernels_for(query) is not None


def attention_step(
    query: Float[Tensor, "rows heads head_dim"],
    key: Float[Tensor, "*slots memory_heads head_dim"],
    value: Float[Tensor, "*slots memory_heads head_dim"],
    count: Int[Tensor, " rows"],
    *,
    first: Int[Tensor, " rows"] | None = None,
    step: int = 1,
    table: Int32[Tensor, "rows table_width"] | None = None,
) -> Float[Tensor, "rows heads head_dim"]:
    """Return each row's context over its first `count` positions.

    Position t of row r lies in the slot table[r, t] or, without a table, first[r] + t * step; slots are counted through
    all leading axes of `key` and `value`, which must be contiguous, floats or bfloat16. Each of their heads serves a
    group of the query's.
    """
    kernels = load_kernels()
    assert kernels is not None and key.is_contiguous() and value.is_contiguous()
    assert query.shape[1] % key.shape[-2] == 0
    # The kernel knows no other types: it would read, and write, past the end of narrower ones.
    assert query.dtype == torch.float32 and key.dtype == value.dtype
    assert key.dtype in (torch.float32, torch.bfloat16)
    assert all(one.dtype == torch.int64 for one in (count, first) if one is not None)
    assert table is None or table.dtype == torch.int32
    query = query.contiguous()
    context = torch.empty_like(query)
    kernels.trasluz_attention_step(
        *(query.data_ptr(), *query.shape, key.data_ptr(), value.data_ptr(), key.dtype == torch.bfloat16, key.shape[-2]),
        *((None, 0) if table is None else (table.data_ptr(), table.stride(0))),
        *(None if first is None else first.data_ptr(), step),
        *(count.data_ptr(), context.data_ptr(), torch.get_num_threads()),
    )
    return context
