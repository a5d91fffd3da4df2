"""What holds for every model that translates: stepping = all at once, padding changes nothing, no look ahead."""

import dataclasses

import pytest
import torch
from tests.models.zoo import SMALL_MODELS, random_batch, random_sentences, small_model

from trasluz.inspection.recorder import record_attention
from trasluz.objectives.translation import TranslationObjective
from trasluz.text.batching import make_batch

every_model = pytest.mark.parametrize("name", SMALL_MODELS)


@every_model
@torch.inference_mode()
def test_stepping_through_a_target_equals_the_forward_pass(name: str) -> None:
    model = small_model(name)
    batch = random_batch([3, 8, 5], [6, 6, 6])
    logits = model.output_head(model(batch))
    num_beams = 2
    state = model.start(batch.source, batch.source_lengths, num_beams, 7)
    for t in range(7):
        stepped, state = model.step(batch.target_input[:, t].repeat_interleave(num_beams), state)
        torch.testing.assert_close(stepped, logits[:, t].repeat_interleave(num_beams, dim=0), rtol=0, atol=1e-5)


@every_model
@torch.inference_mode()
def test_stepping_in_mixed_precision_equals_the_forward_pass(name: str) -> None:
    """As training evaluates: weights of 32 bits, products of 16, whatever compiled kernels there are."""
    model = small_model(name)
    batch = random_batch([3, 8, 5], [6, 6, 6])
    exact = model.output_head(model(batch))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model.output_head(model(batch)).float()
        state = model.start(batch.source, batch.source_lengths, 1, 7)
        for t in range(7):
            stepped, state = model.step(batch.target_input[:, t], state)
            torch.testing.assert_close(stepped.float(), logits[:, t], rtol=0, atol=0.02 * float(exact.abs().max()))


@every_model
@torch.inference_mode()
def test_rows_and_sources_can_leave_and_change_places(name: str) -> None:
    model = small_model(name)
    batch = random_batch([3, 8, 5], [6, 6, 6])
    logits = model.output_head(model(batch))
    state = model.start(batch.source, batch.source_lengths, 2, 7)
    for t in range(3):
        _, state = model.step(batch.target_input[:, t].repeat_interleave(2), state)
    # Source 1 leaves; the rows of sources 0 and 2 are doubled from one of their beams.
    state.select_rows(torch.tensor([1, 1, 4, 5]), torch.tensor([0, 2]))
    stepped, state = model.step(batch.target_input[[0, 0, 2, 2], 3], state)
    torch.testing.assert_close(stepped, logits[[0, 0, 2, 2], 3], rtol=0, atol=1e-5)
    state.select_rows(torch.tensor([3, 2, 1, 0]) ^ 2)
    stepped, state = model.step(batch.target_input[[0, 0, 2, 2], 4], state)
    torch.testing.assert_close(stepped, logits[[0, 0, 2, 2], 4], rtol=0, atol=1e-5)


@every_model
@torch.inference_mode()
def test_padding_changes_nothing(name: str) -> None:
    model = small_model(name)
    sources, targets = random_sentences([2, 9, 5]), random_sentences([8, 3, 5])
    together = make_batch(sources, targets, pad_id=0, start_id=1, eos_id=2)
    hidden = model(together)
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        alone = model(make_batch([source], [target], pad_id=0, start_id=1, eos_id=2))
        torch.testing.assert_close(hidden[row : row + 1, : len(target) + 1], alone, rtol=0, atol=1e-5)


@every_model
@torch.inference_mode()
def test_what_stands_in_the_padding_does_not_matter(name: str) -> None:
    model = small_model(name)
    batch = random_batch([2, 9], [5, 5])
    noisy_source = batch.source.clone()
    noisy_source[0, 3:] = 7
    torch.testing.assert_close(model(dataclasses.replace(batch, source=noisy_source)), model(batch), rtol=0, atol=1e-6)


@every_model
@torch.inference_mode()
def test_later_tokens_change_no_earlier_state(name: str) -> None:
    model = small_model(name)
    batch = random_batch([4, 6], [7, 7])
    changed_input = batch.target_input.clone()
    changed_input[:, 4:] = 5
    before, after = model(batch), model(dataclasses.replace(batch, target_input=changed_input))
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


@every_model
@torch.inference_mode()
def test_recording_changes_no_bit_and_rows_sum_to_one(name: str) -> None:
    model = small_model(name)
    if not model.attentions():
        pytest.skip("no attention to record")
    batch = random_batch([3, 8, 5], [6, 2, 6])
    unwatched = model(batch)
    with record_attention(model) as record:
        assert torch.equal(model(batch), unwatched)
    for layers in (record.encoder, record.decoder, record.cross):
        for recorded in layers.values():
            torch.testing.assert_close(recorded.weights.sum(-1), torch.ones_like(recorded.weights[..., 0]))
    for recorded in record.cross.values():
        assert recorded.weights.shape[0] == 3 and recorded.weights.shape[2:] == (7, 9)
        assert recorded.weights[0, ..., 4:].abs().max() == 0


@every_model
def test_every_parameter_learns(name: str) -> None:
    model = small_model(name)
    TranslationObjective(0.1)(model, random_batch([3, 8, 5], [6, 2, 6])).total.backward()
    # Behind the softmax a key's bias adds the same to all scores of a query: its gradient is zero in theory.
    silent = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert not silent


@every_model
def test_a_batch_in_parts_gives_the_same_gradient(name: str) -> None:
    model = small_model(name)
    objective = TranslationObjective(0.1)
    sources, targets = random_sentences([2, 9, 5, 4]), random_sentences([8, 3, 5, 1])
    parameters = list(model.parameters())

    def summed(rows: slice) -> tuple[list[torch.Tensor], int]:
        loss = objective(model, make_batch(sources[rows], targets[rows], pad_id=0, start_id=1, eos_id=2))
        return list(torch.autograd.grad(loss.total, parameters)), loss.count

    whole, count = summed(slice(0, 4))
    first, first_count = summed(slice(0, 1))
    rest, rest_count = summed(slice(1, 4))
    assert count == first_count + rest_count == 21
    for expected, one, other in zip(whole, first, rest, strict=True):
        torch.testing.assert_close(one + other, expected, rtol=1e-4, atol=1e-4)
