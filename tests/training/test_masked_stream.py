"""Updates of masked pieces: packed or not, cut up or shared, an update is one and the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_run import run, together
from small_text import prepare, text_recipe
from torch import Tensor

from trasluz.objectives.masked_words import MaskedWordsObjective
from trasluz.training.masked_stream import PackedStream
from trasluz.training.processes import ALONE, Processes
from trasluz.training.recipe import Recipe
from trasluz.training.run import run_recipe

PACKED = ("data.packing=true", "training.schedule=constant")


def summed(job: Any, data: Any, model: Any, processes: int) -> list[tuple[list[Tensor], int, int]]:
    """Return the gradients of an epoch's updates, summed over processes and pieces, with their counts and tokens."""
    streams = [job.stream(data, model, Processes(rank, processes)) for rank in range(processes)]
    objective, parameters = MaskedWordsObjective(), list(model.parameters())
    found = []
    for shares in zip(*(stream.updates(0, 0) for stream in streams), strict=True):
        assert len({len(share) for share in shares}) == 1
        batches = [batch for share in shares for batch in share if batch is not None]
        losses = [objective(model, batch) for batch in batches]
        gradients = torch.autograd.grad(sum(loss.total for loss in losses), parameters)
        counts = sum(loss.count for loss in losses), sum(batch.num_target_tokens for batch in batches)
        found.append((list(gradients), *counts))
    return found


def test_an_update_in_pieces_or_shared_is_the_same_update(tmp_path: Path) -> None:
    job, data = prepare(text_recipe(tmp_path, *PACKED))
    torch.manual_seed(0)
    model = job.build_model(data).eval()
    whole = summed(job, data, model, 1)
    micro, _ = prepare(text_recipe(tmp_path, *PACKED, "training.micro_batch_tokens=90"))
    for other in (summed(micro, data, model, 1), summed(job, data, model, 3), summed(micro, data, model, 2)):
        for (gradients, *counts), (expected, *expected_counts) in zip(other, whole, strict=True):
            assert counts == expected_counts
            for one, two in zip(gradients, expected, strict=True):
                torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    assert sum(tokens for _, _, tokens in whole) == data.cache.num_ids("ids") + 2 * len(data.cache)


def test_rows_are_full_and_every_text_comes_once_an_epoch(tmp_path: Path) -> None:
    job, data = prepare(text_recipe(tmp_path, *PACKED))
    stream = job.stream(data, job.build_model(data), ALONE)
    assert isinstance(stream, PackedStream)
    batches = [batch for update in stream.updates(0, 0) for batch in update if batch is not None]
    assert len(batches) == stream.num_updates(0)
    assert all(batch.texts.ids.shape[1] <= 30 and batch.texts.ids.numel() <= 400 for batch in batches)
    assert max(len(batch.texts.ids) for batch in batches) == 400 // 30
    begins = sum(int((batch.texts.ids == data.source_tokenizer.cls_id).sum()) for batch in batches)
    assert begins == len(data.cache) == stream.num_examples
    assert stream.stand_in().texts.ids.shape[0] == 1
    assert all(place.endswith(tuple("0123456789")) for place in stream.places(0, 1))


def test_masks_are_those_of_the_same_text_unpacked(tmp_path: Path) -> None:
    job, data = prepare(text_recipe(tmp_path, *PACKED))
    plain, _ = prepare(text_recipe(tmp_path))
    packed, padded = (one.stream(data, job.build_model(data), ALONE).batch(range(9), 3) for one in (job, plain))
    assert torch.equal(packed.targets, padded.targets) and packed.num_target_tokens == padded.num_target_tokens
    assert packed.padding_share < 0.2


def test_a_packed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    often = (*PACKED, "evaluation.every=8 steps")
    run(text_recipe(tmp_path, *often, "training.max_steps=16", name="whole"))
    run(text_recipe(tmp_path, *often, "training.max_steps=8", name="half"))
    list(run_recipe(text_recipe(tmp_path, *often, "training.max_steps=16", name="half"), resume=True))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "half"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def train(recipe: Recipe, file: Path | None) -> None:
    run(recipe)
    if file is not None:
        save_file(load_file(Path(recipe.output) / "model.safetensors"), file)


@pytest.mark.parametrize("micro", [(), ("training.micro_batch_tokens=60",)])
def test_two_processes_train_what_one_trains(tmp_path: Path, micro: tuple[str, ...]) -> None:
    options = (*PACKED, "training.max_steps=6", "evaluation.every=6 steps", *micro)
    train(text_recipe(tmp_path, *options, name="one"), tmp_path / "one.safetensors")

    def work(rank: int) -> None:
        shared = text_recipe(tmp_path, *options, "training.parallel=ddp", name="two")
        train(shared, None if rank else tmp_path / "two.safetensors")

    assert together(2, work) == [0, 0]
    one, two = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-3)
