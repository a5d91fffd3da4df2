"""Muon: what is orthogonal, which matrices it takes, and its update against the formula written out."""

import copy

import pytest
import torch
from stand_in import Predictor
from torch import nn

from trasluz.checkpoints.weights import model_tensors
from trasluz.errors import ModelError
from trasluz.models.registry import build_model
from trasluz.training.muon import MOMENTUM, Muon, orthogonalized, state_matrices
from trasluz.training.optimizer import build_optimizer, optimizer_state, restore_optimizer
from trasluz.training.recipe import TrainingSection


@pytest.mark.parametrize(("outputs", "inputs"), [(6, 6), (5, 12), (12, 5), (1, 4)])
def test_singular_values_come_near_one_and_directions_stay(outputs: int, inputs: int) -> None:
    matrices = torch.randn(3, outputs, inputs, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    matrices = left @ torch.diag_embed(values.clamp(min=0.1 * values.amax())) @ right
    found = orthogonalized(matrices)
    in_their_frame = left.mT @ found @ right.mT
    made = in_their_frame.diagonal(dim1=-2, dim2=-1)
    assert ((made > 0.9) & (made < 1.1)).all()
    torch.testing.assert_close(in_their_frame, torch.diag_embed(made))


def test_a_matrix_of_zeros_stays_one() -> None:
    assert torch.equal(orthogonalized(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def test_matrices_of_linear_layers_that_are_no_embeddings() -> None:
    model = Predictor()
    assert state_matrices(model) == {model.hidden.weight}
    model.requires_grad_(False)
    assert not state_matrices(model)


@pytest.mark.parametrize("head", ["classify", "tag"])
def test_scores_of_labels_are_not_states(head: str) -> None:
    model = build_model("bert-tiny", vocab_size=30, heads=[head], labels=["a", "b", "c"])
    names = {name for name, parameter in model.named_parameters() if parameter in state_matrices(model)}
    assert {name for name in names if name.startswith("heads.")} <= {"heads.classify.pooler.dense.weight"}
    assert "encoder.0.feed_forward.expand.weight" in names


def test_updates_are_the_formula_and_the_rest_is_adamw() -> None:
    training = TrainingSection(optimizer="muon", learning_rate=0.1, weight_decay=0.5)
    model = Predictor(0.0)
    other = copy.deepcopy(model)
    optimizer = build_optimizer(model, training)
    adamw = build_optimizer(other, TrainingSection(learning_rate=0.1, weight_decay=0.5))
    assert isinstance(optimizer, Muon)
    expected, mean = model.hidden.weight.detach().clone(), torch.zeros(8, 8)
    for _ in range(3):
        gradients = [torch.randn_like(parameter) for parameter in model.parameters()]
        for one in (model, other):
            for parameter, gradient in zip(one.parameters(), gradients, strict=True):
                parameter.grad = gradient.clone()
        gradient = model.hidden.weight.grad.clone()
        optimizer.step()
        adamw.step()
        mean = MOMENTUM * mean + (1 - MOMENTUM) * gradient
        step = orthogonalized(((1 - MOMENTUM) * gradient + MOMENTUM * mean)[None])[0]
        expected = (1 - 0.1 * 0.5) * expected - 0.1 * 0.2 * 8**0.5 * step
        torch.testing.assert_close(model.hidden.weight.detach(), expected)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, other.get_parameter(name)) == (name != "hidden.weight")


def test_products_in_bf16_give_nearly_the_same_step() -> None:
    training = TrainingSection(optimizer="muon", learning_rate=0.1)
    models = [nn.Linear(48, 96, bias=False) for _ in range(2)]
    gradient = torch.randn(96, 48)
    steps = []
    for model, bf16 in zip(models, (False, True), strict=True):
        before = model.weight.detach().clone()
        model.weight.grad = gradient.clone()
        build_optimizer(model, training, bf16=bf16).step()
        steps.append(model.weight.detach() - before)
    assert steps[0].dtype == steps[1].dtype == torch.float32
    assert not torch.equal(*steps)
    assert torch.cosine_similarity(steps[0].flatten(), steps[1].flatten(), dim=0) > 0.999


def test_state_comes_back_and_that_of_adamw_does_not_fit() -> None:
    training = TrainingSection(optimizer="muon", learning_rate=0.1)

    def trained(training: TrainingSection) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = Predictor(0.0)
        optimizer = build_optimizer(model, training)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        return model, optimizer

    model, optimizer = trained(training)
    again = copy.deepcopy(model)
    restored = build_optimizer(again, training)
    kept = {name: tensor.clone() for name, tensor in optimizer_state(optimizer, model).items()}
    restore_optimizer(restored, again, kept, "there")
    for one, its in ((model, optimizer), (again, restored)):
        torch.manual_seed(1)
        for parameter in one.parameters():
            parameter.grad = torch.randn_like(parameter)
        its.step()
    assert all(torch.equal(one, model_tensors(again)[name]) for name, one in model_tensors(model).items())
    other, adamw = trained(TrainingSection())
    with pytest.raises(ModelError, match=r"optimizer's state of another model: it knows"):
        restore_optimizer(restored, again, optimizer_state(adamw, other), "there")
