"""Activations computed again: the same losses and gradients, and nothing kept of what is inside a layer."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import run, small_recipe
from torch import Tensor, nn

from trasluz.errors import RequestError
from trasluz.models.registry import build_model
from trasluz.objectives.translation import TranslationObjective
from trasluz.text.batching import make_batch
from trasluz.training.recomputation import recompute_activations

TINY = {"model_dim": 16, "num_heads": 2, "feed_forward_dim": 24, "num_layers": 3, "dropout": 0.2}


def tiny(preset: str, **changes: Any) -> nn.Module:
    torch.manual_seed(1)
    sizes = {"source_vocab_size": 30, "target_vocab_size": 30}
    return build_model({"preset": preset, **TINY, **changes}, **sizes).train()


def gradients(model: nn.Module) -> list[Tensor]:
    """Return the gradients of one update."""
    torch.manual_seed(2)
    batch = make_batch([[5, 6, 7, 8], [9, 4]], [[6, 6, 5], [8, 9, 10, 11, 12]], pad_id=0, start_id=1, eos_id=2)
    hidden = model(batch)
    hidden.square().sum().backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_are_the_same_to_the_bit(norm: str, bf16: bool) -> None:
    model = tiny("transformer-tiny", norm=norm, attention_dropout=0.2, activation_dropout=0.1)
    other = copy.deepcopy(model)
    recompute_activations(other)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        expected = gradients(model)
    # As it trains: without copies of all weights.
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
        found = gradients(other)
    assert len(found) == len(expected) > 50
    assert all(torch.equal(one, another) for one, another in zip(found, expected, strict=True))


@pytest.mark.parametrize("again", [False, True])
def test_copies_of_weights_are_kept_only_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    kept: set[bool] = set()
    loss_of = TranslationObjective.__call__

    def noting(self: TranslationObjective, *arguments: Any) -> Any:
        if torch.is_grad_enabled():
            kept.add(torch.is_autocast_cache_enabled())
        return loss_of(self, *arguments)

    monkeypatch.setattr(TranslationObjective, "__call__", noting)
    run(small_recipe(tmp_path, f"training.recompute_activations={str(again).lower()}", "training.max_steps=2"))
    assert kept == {not again}


def test_a_copy_computes_with_its_own_weights() -> None:
    model = tiny("transformer-tiny")
    recompute_activations(model)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(gradient.isfinite().all() for gradient in gradients(copied))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_inside_a_layer_is_not_kept() -> None:
    kept = []
    for again in (False, True):
        model = tiny("transformer-tiny")
        if again:
            recompute_activations(model)
        sizes: list[int] = []

        def note(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel() if tensor.grad_fn is not None else 0)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(make_batch([[5, 6, 7, 8]], [[6, 6, 5]], pad_id=0, start_id=1, eos_id=2))
        kept.append(sum(sizes))
    assert kept[1] < 0.2 * kept[0]


def test_a_run_learns_the_same(tmp_path: Path) -> None:
    for name in ("once", "again"):
        options = ("model.dropout=0.1", f"training.recompute_activations={'true' if name == 'again' else 'false'}")
        run(small_recipe(tmp_path, *options, "training.max_steps=6", "evaluation.average=null", name=name))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("once", "again")]
    assert weights[0] == weights[1]


def test_a_recurrent_model_has_no_such_layers() -> None:
    with pytest.raises(RequestError, match="is for the layers of a Transformer"):
        recompute_activations(build_model("rnnsearch", source_vocab_size=30, target_vocab_size=30))
