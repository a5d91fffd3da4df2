"""A sum of means: exact, in however many pieces and by however many processes an update is made."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_run import run, together
from small_text import document_recipe, prepare

from trasluz.objectives.next_sentence import NextSentenceObjective
from trasluz.training.further_losses import weighted_total, weights_of_further
from trasluz.training.processes import ALONE
from trasluz.training.reports import Update

SHORT = ("training.max_steps=4", "evaluation.every=4 steps", "training.schedule=constant", "model.head_dropout=0")


def test_an_update_in_pieces_has_the_gradient_of_both_means(tmp_path: Path) -> None:
    job, data = prepare(document_recipe(tmp_path))
    torch.manual_seed(0)
    model = job.build_model(data).eval()
    parameters = list(model.parameters())
    stream, objective = job.stream(data, model, ALONE), NextSentenceObjective()
    batches = [stream.batch(range(begin, end), 0) for begin, end in ((0, 3), (3, 10), (10, 11))]
    whole = objective(model, stream.batch(range(11), 0))
    (sentences,) = whole.further
    written_out = torch.autograd.grad(whole.total / whole.count + sentences.total / sentences.count, parameters)
    weights = weights_of_further(objective, [*batches, None], ALONE)
    assert weights == [whole.count / 11]
    total = sum(weighted_total(objective(model, batch), weights) for batch in batches)
    for one, other in zip(torch.autograd.grad(total / whole.count, parameters), written_out, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_an_objective_of_one_mean_has_no_weights(tmp_path: Path) -> None:
    assert weights_of_further(lambda model, batch: None, [None], ALONE) == []


@pytest.mark.parametrize("micro", [(), ("training.micro_batch_tokens=90",)])
def test_two_processes_train_what_one_trains(tmp_path: Path, micro: tuple[str, ...]) -> None:
    reports = run(document_recipe(tmp_path, *SHORT, name="one"))
    losses = [report.loss for report in reports if isinstance(report, Update)]

    def work(rank: int) -> None:
        shared = document_recipe(tmp_path, *SHORT, *micro, "training.parallel=ddp", name="two")
        reports = run(shared)
        if rank == 0:
            found = [report.loss for report in reports if isinstance(report, Update)]
            save_file({"losses": torch.tensor(found)}, tmp_path / "losses.safetensors")

    assert together(2, work) == [0, 0]
    found = load_file(tmp_path / "losses.safetensors")["losses"]
    torch.testing.assert_close(found, torch.tensor(losses), rtol=1e-4, atol=1e-4)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-3)
