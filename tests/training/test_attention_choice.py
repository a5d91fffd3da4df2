"""Model 1 finds which word goes with which; the head that agrees is chosen."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trasluz.layers.multi_head_attention import MultiHeadAttention
from trasluz.training.attention_choice import choose_attention, model_one


def reversed_pairs(count: int = 300) -> list[tuple[list[int], list[int]]]:
    """Token s is written as 100 + s, in reverse; both sides end with the same end token."""
    generator = np.random.default_rng(0)
    sources = [generator.choice(20, size=6, replace=False) for _ in range(count)]
    return [([*source.tolist(), 50], [*(100 + source[::-1]).tolist(), 50]) for source in sources]


def test_model_one_learns_a_permuted_dictionary() -> None:
    examples = reversed_pairs()
    links = model_one(examples)
    for (source, target), link in zip(examples, links, strict=True):
        assert link.shape == (len(target), len(source))
        assert link.sum(1) == pytest.approx(np.ones(len(target)))
        assert link.argmax(1).tolist() == [5, 4, 3, 2, 1, 0, 6]


def test_model_one_of_lengths_that_differ() -> None:
    links = model_one([([1, 2], [7]), ([1], [7, 8, 9])])
    assert [link.shape for link in links] == [(1, 2), (3, 1)]


class Heads:
    """Stands in for a model: two layers of cross-attention whose weights are given."""

    def __init__(self, *layers: torch.Tensor) -> None:
        self.layers = layers
        self.cross = [MultiHeadAttention(8 * len(weights), len(weights)) for weights in layers]

    def attentions(self) -> dict[str, list[MultiHeadAttention]]:
        return {"encoder": [], "decoder": [], "cross": self.cross}

    def eval(self) -> None:
        pass

    def __call__(self, batch: SimpleNamespace) -> None:
        for attention, weights in zip(self.cross, self.layers, strict=True):
            tap: Callable[[torch.Tensor], None] | None = attention.tap
            assert tap
            tap(weights.expand(len(batch.source), -1, -1, -1))


def test_the_head_that_looks_at_the_word_being_written_is_chosen() -> None:
    true = torch.eye(7)[[5, 4, 3, 2, 1, 0, 6]]
    behind = true.roll(1, dims=0)
    uniform = torch.full((7, 7), 1 / 7)
    batches = [SimpleNamespace(source=torch.zeros(20, 7)) for _ in range(3)]
    model = Heads(torch.stack([behind, uniform]), torch.stack([uniform, 0.9 * true + 0.1 * uniform]))
    assert choose_attention(model, batches, reversed_pairs()) == (1, 1)
    halves = torch.stack([torch.cat([true[:4], uniform[4:]]), torch.cat([uniform[:4], true[4:]])])
    blurred = Heads(torch.stack([behind, uniform]), 0.8 * halves + 0.2 * halves.flip(0))
    assert choose_attention(blurred, batches, reversed_pairs())[0] == 1  # type: ignore[index]
    assert all(attention.tap is None for attention in model.cross)


def test_a_model_without_cross_attention_has_none_to_choose() -> None:
    assert choose_attention(Heads(), [], reversed_pairs(5)) is None


def test_of_long_pairs_fewer_are_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    true = torch.eye(7)[[5, 4, 3, 2, 1, 0, 6]]
    model = Heads(torch.stack([torch.full((7, 7), 1 / 7), true]))
    learnt: list[int] = []

    def counted(examples: Sequence[tuple[list[int], list[int]]]) -> list[np.ndarray]:
        learnt.append(len(examples))
        return model_one(examples)

    monkeypatch.setattr("trasluz.training.attention_choice.model_one", counted)
    # Each pair has 7 * 7 links; the last batch that is looked at has only one pair that was learnt from.
    monkeypatch.setattr("trasluz.training.attention_choice._MOST_LINKS", 21 * 49 + 48)
    batches = [SimpleNamespace(source=torch.zeros(20, 7)) for _ in range(3)]
    assert choose_attention(model, batches, reversed_pairs()) == (0, 1)
    assert learnt == [21]
    monkeypatch.setattr("trasluz.training.attention_choice._MOST_LINKS", 1)
    assert choose_attention(model, [SimpleNamespace(source=torch.zeros(20, 7))], reversed_pairs()) is not None
    assert learnt == [21, 1]
