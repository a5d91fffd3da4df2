"""Tensors of which every process holds a slice, cut along the first axis (torch's DTensor, as FSDP2 leaves weights)."""

from typing import Any

from torch import Tensor


def is_sliced(tensor: Tensor) -> bool:
    """Tell whether a tensor is cut over processes."""
    # Asked this way, since importing DTensor takes a while and most runs have none.
    return hasattr(tensor, "to_local")


def local_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor: its slice where it is cut over processes, else all of it."""
    local: Tensor = tensor.to_local() if is_sliced(tensor) else tensor  # type: ignore[attr-defined]
    return local


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor with the slices of all processes put together; all of them must ask."""
    whole: Tensor = tensor.full_tensor() if is_sliced(tensor) else tensor  # type: ignore[attr-defined]
    return whole


def slice_of(tensor: Tensor, like: Any) -> Tensor:
    """Return this process's slice of a whole tensor, cut as `like` is; whole where that is not cut.

    Nothing is exchanged: everybody has the whole one.
    """
    if not is_sliced(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    on_device = tensor.to(like.to_local().device)
    sliced: Tensor = distribute_tensor(on_device, like.device_mesh, like.placements, src_data_rank=None)
    return sliced
