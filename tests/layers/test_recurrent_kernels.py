"""Recurrences with written gradients against the plain loop and against torch's own, on random shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from trasluz.layers.additive_attention import AdditiveAttention
from trasluz.layers.attentive_recurrence import attentive_recurrence
from trasluz.layers.masks import EVERYTHING, Mask
from trasluz.layers.recurrent import CELLS, RecurrentStack

SIZES = st.integers(1, 6)


def gradients_of(outputs: tuple[Tensor, ...], inputs: list[Tensor]) -> list[Tensor]:
    """Return the gradients of a sum in which every output element has a weight of its own."""
    draw = torch.Generator().manual_seed(5)
    total = sum((part * torch.randn(part.shape, generator=draw, dtype=part.dtype)).sum() for part in outputs)
    assert isinstance(total, Tensor)
    return list(torch.autograd.grad(total, inputs))


@given(cell_name=st.sampled_from(["gru", "lstm"]), padded=st.booleans(), sizes=st.tuples(*[SIZES] * 6))
@settings(max_examples=30)
def test_attention_in_the_loop(cell_name: str, padded: bool, sizes: tuple[int, ...]) -> None:
    batch, steps, keys, hidden, memory_dim, attention_dim = sizes
    torch.manual_seed(sum(sizes))
    cell = CELLS[cell_name](3, hidden).double()
    attention = AdditiveAttention(hidden, memory_dim, attention_dim).double()
    projected = torch.randn(batch, steps, cell.input.out_features, dtype=torch.double, requires_grad=True)
    annotations = torch.randn(batch, keys, memory_dim, dtype=torch.double, requires_grad=True)
    weight = torch.randn(cell.input.out_features, memory_dim, dtype=torch.double, requires_grad=True)
    state = tuple(torch.randn(batch, hidden, dtype=torch.double, requires_grad=True) for _ in range(cell.num_states))
    mask = Mask(torch.randint(1, keys + 1, (batch,))) if padded else EVERYTHING
    inputs = [projected, annotations, weight, *state, *attention.parameters(), *cell.recurrent_weights()]

    def run() -> tuple[tuple[Tensor, ...], list[Tensor]]:
        found = attentive_recurrence(projected, weight, attention, attention.remember(annotations), mask, cell, state)
        return found, gradients_of(found, inputs)

    fast, fast_gradients = run()
    # Whoever wants to see the weights gets the loop as it is written.
    seen: list[Tensor] = []
    attention.tap = seen.append
    plain, plain_gradients = run()
    assert len(seen) == steps
    for ours, expected in zip([*fast, *fast_gradients], [*plain, *plain_gradients], strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_sentence_without_words_gets_a_context_of_zeros() -> None:
    cell, attention = CELLS["gru"](3, 4), AdditiveAttention(4, 5, 6)
    projected, state = torch.randn(2, 3, 12), (torch.randn(2, 4),)
    memory, weight = attention.remember(torch.randn(2, 7, 5)), torch.randn(12, 5)
    mask = Mask(torch.tensor([0, 7]))
    contexts, _ = attentive_recurrence(projected, weight, attention, memory, mask, cell, state)
    assert torch.equal(contexts[0], torch.zeros(3, 5))
    assert contexts[1].abs().sum() > 0


@pytest.mark.parametrize("cell_name", ["gru", "lstm"])
def test_bfloat16_products_stay_near(cell_name: str) -> None:
    cell, attention = CELLS[cell_name](16, 32), AdditiveAttention(32, 24, 16)
    annotations, weight = torch.randn(4, 9, 24), nn.Parameter(0.2 * torch.randn(cell.input.out_features, 24))
    x = torch.randn(4, 5, 16)
    inputs = [weight, *attention.parameters(), *cell.parameters()]

    def run() -> tuple[Tensor, ...]:
        state = tuple(torch.zeros(4, 32) for _ in range(cell.num_states))
        memory = attention.remember(annotations)
        return attentive_recurrence(cell.input(x), weight, attention, memory, EVERYTHING, cell, state)

    plain = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halved = run()
    for ours, expected in zip(halved, plain, strict=True):
        torch.testing.assert_close(ours.float(), expected, atol=0.05, rtol=0.05)
    for ours, expected in zip(gradients_of(halved, inputs), gradients_of(plain, inputs), strict=True):
        assert (ours - expected).norm() < 0.05 * expected.norm() + 1e-4


@given(bidirectional=st.booleans(), layers=st.integers(1, 3), lengths=st.lists(SIZES, min_size=1, max_size=5))
@settings(max_examples=30)
def test_a_stack_equals_torchs(bidirectional: bool, layers: int, lengths: list[int]) -> None:
    torch.manual_seed(layers)
    stack = RecurrentStack("gru", 4, 3, layers, bidirectional).double()
    recurrence = stack.recurrence
    batch, steps = len(lengths), max(lengths)
    x = torch.randn(batch, steps, 4, dtype=torch.double, requires_grad=True)
    start = torch.randn(batch, layers * (1 + bidirectional), 3, dtype=torch.double, requires_grad=True)
    inputs = [x, start, *recurrence.parameters()]
    ours = stack(x, torch.tensor(lengths), (start,))
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    packed_outputs, last = recurrence(packed, start.transpose(0, 1).contiguous())
    outputs, _ = pad_packed_sequence(packed_outputs, batch_first=True)
    both = (ours[0], *ours[1]), (outputs, last.transpose(0, 1))
    for fast, expected in zip(*both, strict=True):
        torch.testing.assert_close(fast, expected)
    for fast, expected in zip(*(gradients_of(found, inputs) for found in both), strict=True):
        torch.testing.assert_close(fast, expected)


def test_a_stack_drops_out_between_layers_only_while_training() -> None:
    stack = RecurrentStack("gru", 4, 8, num_layers=2, dropout=0.5)
    x = torch.randn(3, 5, 4)
    drawn = [stack(x)[0] for _ in range(2)]
    assert not torch.equal(*drawn)
    stack.eval()
    assert torch.equal(stack(x)[0], stack(x)[0])
    with torch.no_grad():
        inference = stack(x)[0]
    torch.testing.assert_close(stack(x)[0], inference)
