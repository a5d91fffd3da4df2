"""How the processes of a run share a model: not at all, as equal copies (DDP), or in slices (FSDP2).

Whatever the way, the gradient of an update is the *sum* over all processes; the trainer divides it once, by the number
of tokens of the whole update, so that unequal shares weigh what they should.

DDP (Li et al. 2020, arXiv 2006.15704) exchanges gradients while the backward pass runs. FSDP2 (after ZeRO stage 3,
Rajbhandari et al. 2020, arXiv 1910.02054) keeps a slice of every weight, gradient and moment in each process, cut along
the first axis, and puts weights together layer by layer when they are needed.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trasluz.checkpoints.weights import model_tensors
from trasluz.errors import RequestError
from trasluz.training.checkpoint import restore_model
from trasluz.training.processes import Processes, told_of_loss
from trasluz.training.slices import local_part, slice_of, whole_tensor


class WholeModel:
    """One process has the whole model."""

    sharded = False

    def __init__(self, model: nn.Module, objective: Callable[[Any, Any], Any]) -> None:
        self.model = model
        self._loss = _WithLoss(model, objective)
        self._forward: nn.Module = self._loss

    @contextmanager
    def accumulating(self, last: bool) -> Iterator[Callable[[Any], Any]]:
        """Give the function from batch to loss; gradients of all but the last piece of an update only add up."""
        yield self._forward

    @contextmanager
    def whole(self) -> Iterator[nn.Module]:
        """Give the model with its whole weights, for evaluation and for writing."""
        yield self.model

    def restore(self, tensors: dict[str, Tensor], place: str) -> None:
        """Put whole weights in; raises ModelError where they are another model's."""
        restore_model(self.model, tensors, place)


class CopiedModel(WholeModel):
    """Equal copies in all processes, whose gradients are added up while the backward pass runs."""

    def __init__(self, model: nn.Module, objective: Callable[[Any, Any], Any]) -> None:
        super().__init__(model, objective)
        copied = nn.parallel.DistributedDataParallel(self._loss, broadcast_buffers=False)
        copied.register_comm_hook(None, _add_up)
        self._copied = copied
        self._forward = copied

    @contextmanager
    def accumulating(self, last: bool) -> Iterator[Callable[[Any], Any]]:
        """Exchange gradients at the last piece only."""
        with told_of_loss():
            if last:
                yield self._copied
            else:
                with self._copied.no_sync():
                    yield self._copied


class SlicedModel(WholeModel):
    """A slice of every weight in each process; `replica` gets the whole weights when they are wanted."""

    sharded = True

    def __init__(
        self, model: nn.Module, objective: Callable[[Any, Any], Any], processes: Processes, device: torch.device
    ) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        if any(isinstance(part, nn.RNNBase) for part in model.modules()):
            raise RequestError(
                "training.parallel is fsdp, which slices the layers of a Transformer; recurrent layers cannot be "
                "sliced, and are small enough for ddp"
            )
        replica = copy.deepcopy(model).cpu()
        super().__init__(model, objective)
        self._replica, self._device, self._processes = replica, device, processes
        mesh = init_device_mesh(device.type, (processes.size,))
        for part in model.modules():
            if isinstance(part, nn.ModuleList):
                for layer in part:
                    fully_shard(layer, mesh=mesh)
        fully_shard(self._loss, mesh=mesh)
        for part in self._loss.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)
                part.set_force_sum_reduction_for_comms(True)

    @contextmanager
    def accumulating(self, last: bool) -> Iterator[Callable[[Any], Any]]:
        """Exchange gradients at every piece: whole ones would not fit."""
        with told_of_loss():
            yield self._forward

    @contextmanager
    def whole(self) -> Iterator[nn.Module]:
        """Put the slices together in every process, and give the plain model that holds them."""
        # Who is slower, with a file perhaps, is waited for here: the exchange of weights has a time limit.
        self._processes.wait()
        with told_of_loss():
            tensors = {name: whole_tensor(tensor) for name, tensor in model_tensors(self.model).items()}
        self._replica.to(self._device)
        restore_model(self._replica, tensors, "the model")
        del tensors
        try:
            yield self._replica
        finally:
            self._replica.cpu()

    def restore(self, tensors: dict[str, Tensor], place: str) -> None:
        """Put this process's slices of whole weights in."""
        restore_model(self._replica, tensors, place)
        for name, own in model_tensors(self.model).items():
            local_part(own).copy_(local_part(slice_of(tensors[name], own)))


class _WithLoss(nn.Module):
    """Model and objective as one module: the engines hook its forward pass, and the output head lies inside it."""

    def __init__(self, model: nn.Module, objective: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Any) -> Any:
        return self.objective(self.model, batch)


def share_model(
    model: nn.Module,
    objective: Callable[[Any, Any], Any],
    parallel: str,
    processes: Processes,
    device: torch.device,
) -> WholeModel:
    """Return the model as the recipe's `training.parallel` shares it; alone, it is whole whatever that says."""
    if processes.size == 1 or parallel == "none":
        return WholeModel(model, objective)
    # Data and model take some longer to read than others; what follows has a time limit.
    processes.wait()
    if parallel == "ddp":
        return CopiedModel(model, objective)
    return SlicedModel(model, objective, processes, device)


def _add_up(_, bucket):  # type: ignore[no-untyped-def]
    # The engine's own way would divide by the number of processes. It looks at annotations, and wants one that its own
    # futures do not satisfy: hence none.
    return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda future: future.value()[0])
