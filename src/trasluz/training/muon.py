"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): steps that stretch no direction over another.

    M = momentum M + (1 - momentum) G                              the mean of gradients so far
    O = orthogonal((1 - momentum) G + momentum M)                  U V^T of its singular value decomposition U S V^T
    W = (1 - lr decay) W - lr 0.2 sqrt(max(rows, columns)) O

A gradient's few large singular values would have the say; here all directions of a matrix learn equally fast. U V^T is
approached by X <- a X + b (X X^T) X + c (X X^T)^2 X, a few times over, which needs nothing but products. Each time the
three numbers are those that bring singular values nearest to 1, wherever the time before may have left them (Amsel et
al. 2025, arXiv 2505.16932): four times are enough for all above 1/200 of the matrix's length. The factor in the last
line makes a step as long as AdamW's usually are (Liu et al. 2025, arXiv 2502.16982), so that both go by one learning
rate.

Where the recipe trains in bf16, these products are, too, as the authors' are: a step is only about U V^T anyway.

Where every process holds a slice of each matrix (FSDP), it keeps the mean of its slice. Of as many matrices as there
are processes each puts one together, makes it orthogonal, and hands slices of it out; then come the next.

It is for matrices that map states to states. Embeddings, scores of words and labels, norms and biases learn by AdamW
beside them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn, optim

from trasluz.models.heads import ClassHead, TokenHead
from trasluz.training.slices import is_sliced, local_part

MOMENTUM = 0.95
# What minimises max |1 - (a s + b s^3 + c s^5)| over s from 0.005 to 1, then over the range that leaves, and so on.
_COEFFICIENTS = (
    (8.2987, -24.4305, 18.0903),
    (3.9152, -2.9211, 0.5592),
    (3.1746, -2.3804, 0.4978),
    (2.1895, -1.5672, 0.4079),
)
_LENGTH_OF_ADAM = 0.2


def orthogonalized(matrices: Float[Tensor, "matrices outputs inputs"]) -> Float[Tensor, "matrices outputs inputs"]:
    """Return about U V^T of each matrix U S V^T: singular values between 0.9 and 1.1, unless they were near 0."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / x.flatten(1).norm(dim=1)[:, None, None].clamp(min=1e-7)
    for a, b, c in _COEFFICIENTS:
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


def state_matrices(model: nn.Module) -> set[nn.Parameter]:
    """Return the matrices of a model that map states to states: those of its linear layers, if nothing shares them.

    Those that end in scores of labels are none of them.
    """
    linear: set[nn.Parameter] = set()
    others: set[nn.Parameter] = set()
    labels = {part.output for part in model.modules() if isinstance(part, (ClassHead, TokenHead))}
    for part in model.modules():
        own = part.parameters(recurse=False)
        (linear if isinstance(part, nn.Linear) and part not in labels else others).update(
            one for one in own if one.requires_grad
        )
    return {parameter for parameter in linear - others if parameter.dim() > 1}


class Muon(optim.AdamW):
    """AdamW for the groups of parameters that say `orthogonal` False, and Muon for the others.

    A group's `products` is the type in which its matrices are made orthogonal.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one update by the gradients; those of Muon's matrices are gone afterwards."""
        for group in self.param_groups:
            if group["orthogonal"]:
                self._update(group)
        # AdamW passes over what has no gradient.
        return super().step(closure)

    def _update(self, group: dict[str, Any]) -> None:
        # Matrices of one shape go through the products together.
        by_shape: dict[torch.Size, tuple[list[Tensor], list[Tensor]]] = {}
        for weight in group["params"]:
            if weight.grad is not None:
                weights, gradients = by_shape.setdefault(weight.shape, ([], []))
                weights.append(weight)
                gradients.append(weight.grad)
        for shape, (weights, gradients) in by_shape.items():
            for weight in weights:
                if "momentum" not in self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            means = [local_part(self.state[weight]["momentum"]) for weight in weights]
            own, own_gradients = [local_part(weight) for weight in weights], [local_part(one) for one in gradients]
            torch._foreach_lerp_(means, own_gradients, 1.0 - MOMENTUM)
            ahead = torch._foreach_lerp(own_gradients, means, MOMENTUM)
            steps = _steps([one.to(group["products"]) for one in ahead], weights[0])
            length = _LENGTH_OF_ADAM * max(shape) ** 0.5
            torch._foreach_mul_(own, 1.0 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(own, [step.to(own[0].dtype) for step in steps], alpha=-group["lr"] * length)
            for weight in weights:
                weight.grad = None


def _steps(ahead: list[Tensor], like: Tensor) -> Sequence[Tensor]:
    """Return the step of each matrix of one shape; of slices, which lie as those of `like`, slices."""
    if not is_sliced(like):
        return orthogonalized(torch.stack(ahead)).unbind()
    processes = like.device_mesh.get_group()  # type: ignore[attr-defined]
    size, rank, (rows, columns) = dist.get_world_size(processes), dist.get_rank(processes), like.shape
    steps: list[Tensor] = []
    for begin in range(0, len(ahead), size):
        own = ahead[begin : begin + size]
        # One slice for each process, of the matrix that is its; and so many rows of each, though the last have fewer.
        slices = own[0].new_zeros(size, -(-rows // size), columns)
        for room, part in zip(slices, own, strict=False):
            room[: len(part)] = part
        of_one = torch.empty_like(slices)
        dist.all_to_all_single(of_one, slices, group=processes)
        if rank < len(own):
            matrix = of_one.view(-1, columns)[:rows]
            matrix.copy_(orthogonalized(matrix[None])[0])
        dist.all_to_all_single(slices, of_one, group=processes)
        steps += [room[: len(part)] for room, part in zip(slices, own, strict=False)]
    return steps
