"""Room behind the last row of a matrix, so that oneDNN's products come in few sizes.

oneDNN compiles code for every size it has not met, which takes longer than the product itself, and forgets old sizes;
and no two batches have equally many positions. So products are made of some more rows than there are, up to the next of
sixteen sizes an octave; what comes out in those rows means nothing and is never read. Where a row's numbers are summed
up over all rows, the last ones are filled with zeros instead.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from trasluz.devices import onednn_leads

# Fewer rows come from loops, in which a size does not change.
_FEWEST = 512


def _step(rows: int) -> int:
    return (1 << (rows.bit_length() - 1)) // 16


def _rounded(rows: int, dtype: torch.dtype) -> int:
    return rows if rows < _FEWEST or not onednn_leads(dtype) else -(-rows // _step(rows)) * _step(rows)


def whole_rows(rows: int, dtype: torch.dtype) -> tuple[int, int]:
    """Return the largest of the few sizes that `rows` fill, and how many more the next has at least."""
    wanted = _rounded(rows, dtype)
    return (rows, 0) if wanted == rows else (wanted - _step(rows), _step(rows))


def empty_rows(shape: Sequence[int], dtype: torch.dtype, row_axes: int = 1) -> Tensor:
    """Return an empty tensor on the CPU with room behind it; a row is what lies along its last `row_axes` axes."""
    rows, size = math.prod(shape[:-row_axes]), math.prod(shape[-row_axes:])
    # Made smaller in place, which keeps the memory: a view of it is what FSDP warns of where a layer returns it.
    return torch.empty(_rounded(rows, dtype) * size, dtype=dtype, device="cpu").resize_(*shape)


def with_room(x: Float[Tensor, "places dim"]) -> Float[Tensor, "rows dim"]:
    """Return a matrix of a size among few, whose first rows are those of `x`; a copy where there is no room behind."""
    rows, dim = x.shape
    wanted = _rounded(rows, x.dtype)
    if wanted == rows:
        return x
    has_room = x.untyped_storage().nbytes() >= (x.storage_offset() + wanted * dim) * x.element_size()
    if has_room and x.is_contiguous():
        return x.as_strided((wanted, dim), (dim, 1))
    copied = x.new_empty(wanted, dim)
    copied[:rows] = x
    return copied
