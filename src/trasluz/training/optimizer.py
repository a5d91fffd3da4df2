"""Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019), fused, and Muon; their state as named tensors.

No weight decay on norms and biases: whatever has one dimension. With layer-wise decay (Howard and Ruder 2018, section
3.2; Clark et al. 2020, ELECTRA) what lies deeper learns more slowly: by the share layer_decay^(layers above it).
"""

from typing import Any

import torch
from torch import Tensor, nn, optim

from trasluz.errors import ModelError
from trasluz.training.muon import Muon, state_matrices
from trasluz.training.recipe import TrainingSection
from trasluz.training.slices import slice_of

# What fused Adam keeps for each parameter (`step` is a tensor too), and what Muon keeps.
_ADAM, _MUON = ("step", "exp_avg", "exp_avg_sq"), ("momentum",)

_KINDS: dict[str, type[optim.Adam]] = {"adamw": optim.AdamW, "adam": optim.Adam, "muon": Muon}


def build_optimizer(model: nn.Module, training: TrainingSection, *, bf16: bool = False) -> optim.Optimizer:
    """Return the recipe's optimizer over all trainable parameters; `share` scales a group's learning rate.

    With `bf16`, so are Muon's products.
    """
    shares = _shares(model, training.layer_decay)
    orthogonal = state_matrices(model) if training.optimizer == "muon" else set()
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            place = shares.get(name, 1.0), parameter.dim() > 1, parameter in orthogonal
            groups.setdefault(place, []).append(parameter)
    return _KINDS[training.optimizer](
        [
            {
                "params": parameters,
                "weight_decay": training.weight_decay if decays else 0.0,
                "share": share,
                "orthogonal": is_orthogonal,
                "products": torch.bfloat16 if bf16 else torch.float32,
            }
            for (share, decays, is_orthogonal), parameters in sorted(
                groups.items(), key=lambda group: group[0], reverse=True
            )
        ],
        lr=training.learning_rate,
        betas=training.betas,
        eps=training.epsilon,
        fused=True,
    )


def _shares(model: Any, layer_decay: float) -> dict[str, float]:
    """Return the share of the learning rate that each parameter gets, by name."""
    if layer_decay == 1.0:
        return {}
    depths: dict[str, int] = model.depths()
    top = max(depths.values())
    return {name: layer_decay ** (top - depth) for name, depth in depths.items()}


def optimizer_state(optimizer: optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return all state as `exp_avg.<parameter name>` and so on; empty before the first update."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = value
    return tensors


def restore_optimizer(
    optimizer: optim.Optimizer,
    model: nn.Module,
    tensors: dict[str, Tensor],
    place: str,
) -> None:
    """Put back what `optimizer_state` gave, of sliced parameters a slice; ModelError where it is another model's."""
    left = dict(tensors)
    by_muon = {weight for group in optimizer.param_groups if group.get("orthogonal") for weight in group["params"]}
    for name, parameter in model.named_parameters():
        wanted = _MUON if parameter in by_muon else _ADAM
        state = {key: left.pop(f"{key}.{name}") for key in wanted if f"{key}.{name}" in left}
        if state:
            if len(state) < len(wanted) or state[wanted[-1]].shape != parameter.shape:
                raise ModelError(f"{place} holds the optimizer's state of another model: {name} does not fit")
            # The step counts stay where fused Adam wants them: beside the parameter, and never cut.
            beside = {key: value.to(parameter.device) for key, value in state.items()}
            optimizer.state[parameter] = {
                key: value if key == "step" else slice_of(value, parameter) for key, value in beside.items()
            }
    if left:
        raise ModelError(f"{place} holds the optimizer's state of another model: it knows {next(iter(left))}")
