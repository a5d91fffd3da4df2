"""Texts that share a row are to every encoder what they are alone: states, gradients, and recorded attention."""

from typing import Any

import numpy as np
import pytest
import torch

from trasluz.inspection.recorder import record_attention
from trasluz.models.registry import find_architecture, make_config, model_of
from trasluz.objectives.masked_words import MaskedWordsObjective
from trasluz.text.batching import make_masked_batch
from trasluz.text.packing import make_packed_batch

FAMILIES = ("bert", "distilbert", "roberta")
VOCAB_SIZE = 40
Piece = tuple[Any, Any, Any]


def small_encoder(family: str, max_positions: int) -> Any:
    """Return a random encoder; its positions are wide apart, so that a wrong one shows."""
    sizes = {"model_dim": 16, "num_heads": 2, "feed_forward_dim": 24, "num_layers": 3, "max_positions": max_positions}
    fields = {"vocab_size": VOCAB_SIZE, "heads": ["fill-mask"], "dropout": 0.0, "attention_dropout": 0.0}
    model: Any = model_of(make_config(find_architecture(family), {**sizes, **fields}, family))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(20.0)
    return model.eval()


def random_pieces(lengths: list[int]) -> list[Piece]:
    """Return pieces of text with two places to guess each."""
    generator = np.random.default_rng(4)
    return [
        (generator.integers(5, VOCAB_SIZE, length), np.array([1, length - 2]), generator.integers(5, VOCAB_SIZE, 2))
        for length in lengths
    ]


# Rows longer than 128 go through the fused kernel, shorter ones are written out.
@pytest.mark.parametrize(
    ("lengths", "row_length"), [([7, 12, 5, 9, 4, 12, 3], 16), ([90, 60, 110, 30, 20, 5], 160)], ids=["short", "long"]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_states_and_gradients_are_those_of_the_texts_alone(family: str, lengths: list[int], row_length: int) -> None:
    model = small_encoder(family, max(lengths) + 2)
    pieces = random_pieces(lengths)
    packed = make_packed_batch(pieces, row_length=row_length, pad_id=1)
    assert len(packed.texts.ids) < len(pieces) and packed.texts.ids.shape[1] > max(lengths)
    states, numbers = model(packed.texts), packed.texts.text_numbers
    assert numbers is not None
    found = [
        states[row][numbers[row] == number]
        for row, length in enumerate(packed.texts.lengths.tolist())
        for number in range(1, int(numbers[row, length - 1]) + 1)
    ]
    assert len(found) == len(pieces)
    for (ids, places, targets), own in zip(pieces, found, strict=True):
        alone = model(make_masked_batch([(ids, places, targets)], pad_id=1).texts)[0]
        torch.testing.assert_close(own, alone, rtol=0, atol=1e-5)
    objective, parameters = MaskedWordsObjective(), list(model.parameters())
    losses = objective(model, packed), objective(model, make_masked_batch(pieces, pad_id=1))
    assert losses[0].count == losses[1].count == 2 * len(pieces)
    torch.testing.assert_close(losses[0].total, losses[1].total)
    ours, theirs = (
        torch.autograd.grad(loss.total, parameters, allow_unused=True, materialize_grads=True) for loss in losses
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_a_neighbour_is_seen(family: str) -> None:
    model = small_encoder(family, 20)
    pieces = random_pieces([7, 8])
    before = model(make_packed_batch(pieces, row_length=16, pad_id=1).texts)
    after = model(make_packed_batch([pieces[0], random_pieces([5, 8])[1]], row_length=16, pad_id=1).texts)
    assert torch.equal(before[:, :7], after[:, :7]) and not torch.allclose(before[:, 7:], after[:, 7:])


def test_recorded_attention_of_a_row_is_that_of_its_texts_side_by_side() -> None:
    model = small_encoder("bert", 20)
    pieces = random_pieces([7, 8])
    packed = make_packed_batch(pieces, row_length=16, pad_id=0).texts
    unwatched = model(packed)
    with record_attention(model) as record:
        assert torch.equal(model(packed), unwatched)
    with record_attention(model) as second:
        model(make_masked_batch(pieces[1:], pad_id=0).texts)
    for layer, recorded in record.encoder.items():
        weights = recorded.weights
        assert weights.shape == (1, 2, 15, 15)
        assert weights[..., :7, 7:].abs().max() == weights[..., 7:, :7].abs().max() == 0
        torch.testing.assert_close(weights[..., 7:, 7:], second.encoder[layer].weights, rtol=0, atol=1e-5)
