"""Multiplicative attention against its formula, written out position by position."""

import torch

from trasluz.layers.attention import KeyValue
from trasluz.layers.masks import Mask
from trasluz.layers.multiplicative_attention import MultiplicativeAttention


def test_the_formula() -> None:
    attention = MultiplicativeAttention(5, 7)
    states, queries = torch.randn(2, 4, 7), torch.randn(2, 3, 5)
    lengths = torch.tensor([4, 2])
    memory = attention.remember(states)
    weights = attention.weights(queries, memory.key, Mask(lengths))
    contexts = attention.attend(queries, memory, Mask(lengths))
    for row, length in enumerate(lengths.tolist()):
        for place in range(3):
            scores = torch.stack([queries[row, place] @ attention.key.weight @ states[row, i] for i in range(length)])
            expected = scores.softmax(0)
            torch.testing.assert_close(weights[row, 0, place, :length], expected)
            assert not weights[row, 0, place, length:].any()
            context = sum((expected[i] * states[row, i] for i in range(length)), torch.zeros(7))
            torch.testing.assert_close(contexts[row, place], context)


def test_wide_scores_are_compared_in_float32() -> None:
    """As wide as the paper's: in bfloat16 scores lie an eighth apart, and weights would be off by some per cent."""
    attention, width = MultiplicativeAttention(1000, 1000), 1000
    states, queries = (torch.randn(1, count, width).bfloat16() for count in (12, 3))
    key = (states + 0.5 * torch.randn(1, 12, width)).bfloat16() * 0.15
    exact = (queries.double() @ key.double().transpose(1, 2)).softmax(-1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights = attention.weights(queries, key, Mask(torch.tensor([12])))
        context = attention.context(queries, KeyValue(key, states), Mask(torch.tensor([12])))
    torch.testing.assert_close(weights[:, 0].double(), exact, rtol=1e-4, atol=1e-6)
    assert context.dtype == torch.bfloat16
    torch.testing.assert_close(context.double(), exact @ states.double(), rtol=0, atol=0.03)


def test_rows_look_as_queries_of_their_source() -> None:
    attention = MultiplicativeAttention(5, 7)
    memory, mask = attention.remember(torch.randn(2, 4, 7)), Mask(torch.tensor([4, 2]))
    hidden = torch.randn(6, 5)
    together = attention.attend_from_rows(hidden, memory, mask)
    torch.testing.assert_close(together, attention.attend(hidden.view(2, 3, 5), memory, mask).view(6, 7))
