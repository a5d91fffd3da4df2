"""The likeliest entries of rows of logits, in one pass over memory; what is computed stands in likeliest.cpp."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trasluz.layers.kernels import kernels_for


def log_sum_exp(logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, " rows"]:
    """Return log(sum(exp(logits))) of every row."""
    kernels = kernels_for(logits)
    if kernels is None or not logits.is_contiguous():
        return logits.logsumexp(-1)
    result = logits.new_empty(len(logits))
    kernels.trasluz_log_sum_exp(logits.data_ptr(), *logits.shape, result.data_ptr(), torch.get_num_threads())
    return result


def best_of_rows(
    logits: Float[Tensor, "rows vocab"], count: int
) -> tuple[Float[Tensor, "rows tried"], Int[Tensor, "rows tried"]]:
    """Return the `count` largest values of every row, largest first, and where they stand: as `torch.topk`."""
    kernels = kernels_for(logits)
    if kernels is None or not logits.is_contiguous() or not 0 < count <= logits.shape[1]:
        best, places = logits.topk(count, dim=-1)
        return best, places
    values = logits.new_empty(len(logits), count)
    found = logits.new_empty((len(logits), count), dtype=torch.int64)
    kernels.trasluz_best_of_rows(
        *(logits.data_ptr(), *logits.shape, count),
        *(values.data_ptr(), found.data_ptr(), torch.get_num_threads()),
    )
    return values, found
