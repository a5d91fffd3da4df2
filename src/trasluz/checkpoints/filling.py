"""How a model gets its weights: who holds them at which moment.

    1. the model is made without any numbers: `unfilled`
    2. every parameter is a piece of a file, of the type it has there; nothing has been read yet
    3. int8: one matrix after the other, the largest first, rounded rows take the place of the file's floats
    4. what is left becomes the model's own, in its number type, one parameter after the other

After each matrix what was read of the files is let go of. So there is never more in memory than what the model will
hold, and one matrix.
"""

import contextlib
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trasluz.devices import memory_for_weights, trim_heap
from trasluz.layers.int8 import to_int8


class _Unfilled(TorchFunctionMode):
    """Makes matrices that are addresses only, and lets nobody fill them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty:
            shape = func(*args, **{**kwargs, "device": "meta"})
            return _addresses(shape) if shape.numel() else func(*args, **kwargs)
        # What `nn.init` does, it does inside, where this is not asked again.
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _addresses(like: Tensor) -> Tensor:
    """Return a tensor on the CPU in memory of its own, of which there is nothing until somebody writes to it.

    The heap would keep its place free when it goes, and what is put there later would be spread over all of it.
    """
    memory = mmap.mmap(-1, like.numel() * like.element_size())
    return torch.frombuffer(memory, dtype=like.dtype).view(like.shape)


@contextlib.contextmanager
def unfilled() -> Iterator[None]:
    """Draw no numbers for models that are made within the block, and take no memory for their matrices."""
    # Whatever is still drawn is not taken from anybody else's random numbers.
    with torch.random.fork_rng(devices=[]), _Unfilled():
        yield


@torch.no_grad()
def fill(
    model: nn.Module, tensors: Mapping[str, Tensor], dtype: torch.dtype, let_go: Callable[[], None] = lambda: None
) -> None:
    """Give a model the tensors of files, by parameter and saved buffer, in a number type.

    `let_go` is called when what has been read of them is no longer needed.
    """

    def after_each() -> None:
        let_go()
        # What a matrix was rounded with lies between what stays of it.
        trim_heap()

    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    for name, tensor in tensors.items():
        if name in parameters:
            parameters[name].data = tensor
        else:
            buffers[name].copy_(tensor)
    parameters.clear()
    if dtype == torch.int8:
        to_int8(model, after_each)
    of_floats = float_dtype(dtype)
    for parameter in sorted(model.parameters(), key=Tensor.numel, reverse=True):
        # Into memory of the model's own: where numbers lie in a file, kernels may add them up in another order.
        parameter.data = memory_for_weights(parameter.shape, of_floats).copy_(parameter)
        after_each()
    model.to(of_floats)


def float_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type of all that is not rounded to eight bits."""
    return torch.float32 if dtype == torch.int8 else dtype
