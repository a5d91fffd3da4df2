"""Additive attention against a loop over positions, as the paper writes it."""

import torch

from trasluz.layers.additive_attention import AdditiveAttention
from trasluz.layers.masks import EVERYTHING, Mask


def test_is_the_papers_formula() -> None:
    attention = AdditiveAttention(query_dim=3, memory_dim=4, attention_dim=5)
    states, annotations = torch.randn(2, 6, 3), torch.randn(2, 7, 4)
    remembered = attention.remember(annotations)
    context = attention.attend(states, remembered, EVERYTHING)
    weights = attention.weights(attention.project_query(states), remembered.key, EVERYTHING)
    w, u, b = attention.query.weight, attention.key.weight, attention.key.bias
    v = attention.score.weight[0]
    for sentence in range(2):
        for t in range(6):
            scores = torch.stack([v @ torch.tanh(w @ states[sentence, t] + u @ h + b) for h in annotations[sentence]])
            expected = scores.softmax(0)
            torch.testing.assert_close(weights[sentence, 0, t], expected)
            torch.testing.assert_close(context[sentence, t], expected @ annotations[sentence])


def test_padding_gets_no_weight_and_changes_nothing() -> None:
    attention = AdditiveAttention(3, 4, 5)
    states, annotations = torch.randn(1, 2, 3), torch.randn(1, 6, 4)
    alone = attention.attend(states, attention.remember(annotations[:, :4]), EVERYTHING)
    padded = attention.attend(states, attention.remember(annotations), Mask(torch.tensor([4])))
    torch.testing.assert_close(padded, alone)
