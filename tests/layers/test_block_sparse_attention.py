"""Gathered blocks give what the definition gives, forward and backward, at any length; neighbours change nothing."""

import random

import pytest
import torch

from trasluz.layers import gathered_blocks as module
from trasluz.layers.block_pattern import BlockPattern
from trasluz.layers.block_sparse_attention import (
    BlockSparseAttention,
    block_sparse_weights,
)
from trasluz.layers.block_weights import BlockWeights
from trasluz.layers.gathered_blocks import block_sparse_attention, held_weights
from trasluz.layers.masks import EVERYTHING, Mask
from trasluz.layers.self_attention import SelfAttention


def drawn_pattern(draw: random.Random, most_blocks: int) -> BlockPattern:
    return BlockPattern(
        block_size=draw.choice([1, 2, 3, 8, 16, 64]) if most_blocks < 400 else 64,
        num_random=draw.randint(0, 4),
        num_first=draw.randint(1, 2),
        num_last=draw.randint(0, 2),
        window=draw.choice([1, 3, 5]),
        random_plan=draw.choice(["paper", "huggingface-eval"]),
        seed=draw.randint(0, 99),
    )


@pytest.mark.parametrize("case", range(50))
def test_gathered_blocks_equal_the_definition(case: int) -> None:
    draw = random.Random(case)
    # One case in ten is long.
    positions = draw.choice([1, 2, 5, 17, 64, 100, 333]) if case % 10 else draw.choice([2000, 3333, 5000])
    long = positions > 400
    pattern = drawn_pattern(draw, positions)
    shape = (1 if long else draw.randint(1, 3), 1 if long else draw.choice([1, 3]), positions, draw.choice([4, 8]))
    query, key, value = (torch.randn(shape, requires_grad=True) for _ in range(3))
    lengths = torch.randint(1, positions + 1, shape[:1])
    lengths[0] = positions
    expected = block_sparse_weights(query, key, lengths, pattern) @ value
    found = block_sparse_attention(query, key, value, lengths, pattern)
    assert float((found - expected).detach().abs().max()) < 1e-5
    gradient = torch.randn_like(expected)
    there = torch.autograd.grad(expected, (query, key, value), gradient)
    here = torch.autograd.grad(found, (query, key, value), gradient)
    for one, other in zip(here, there, strict=True):
        assert float((one - other).abs().max()) < 1e-5 * max(1.0, float(other.abs().max()))


@pytest.mark.parametrize("head_dim", [4, 16])
@pytest.mark.parametrize("lengths", [[40, 13], [3, 1]])
def test_without_global_blocks(head_dim: int, lengths: list[int]) -> None:
    pattern = BlockPattern(4, 2, num_first=0, num_last=0)
    parts = [torch.randn(2, 2, max(lengths), head_dim, requires_grad=True) for _ in range(3)]
    query, key, value = parts
    weights = block_sparse_weights(query, key, torch.tensor(lengths), pattern)
    found = block_sparse_attention(*parts, torch.tensor(lengths), pattern)
    torch.testing.assert_close(found, weights @ value, rtol=0, atol=1e-5)
    expected = torch.autograd.grad((weights @ value).square().sum(), parts)
    for one, other in zip(torch.autograd.grad(found.square().sum(), parts), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    held = held_weights(query, key, torch.tensor(lengths), pattern)
    torch.testing.assert_close(held.dense(), weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", range(20))
def test_weights_held_as_blocks_are_the_definition_too(case: int) -> None:
    draw = random.Random(case)
    positions = draw.choice([1, 2, 5, 17, 64, 100, 333])
    pattern = drawn_pattern(draw, positions)
    shape = (draw.randint(1, 3), draw.choice([1, 3]), positions, 8)
    query, key = torch.randn(shape), torch.randn(shape)
    lengths = torch.randint(1, positions + 1, shape[:1])
    expected = block_sparse_weights(query, key, lengths, pattern)
    found = held_weights(query, key, lengths, pattern)
    torch.testing.assert_close(found.dense(), expected, rtol=0, atol=1e-6)
    heads = draw.choices(range(shape[1]), k=2)
    torch.testing.assert_close(found.of_heads(heads).dense(), expected[:, heads], rtol=0, atol=1e-6)


def test_a_long_text_is_recorded_in_a_fraction_of_the_square() -> None:
    attention = BlockSparseAttention(16, 2, BlockPattern(64, 3)).eval()
    x = torch.randn(1, 4096, 16)
    weights = attention.weights_held(attention.project_query(x), attention.remember(x).key, EVERYTHING)
    assert isinstance(weights, BlockWeights)
    assert weights.values.numel() < 0.17 * 2 * 4096**2


@pytest.mark.parametrize("lengths", [[60, 23, 3], [20, 7, 1], [60, 60, 60]])
def test_short_texts_looked_over_whole_are_held_as_blocks_too(lengths: list[int]) -> None:
    attention, x = layer(dense_up_to=25), torch.randn(3, 60, 12)
    looking = attention.project_query(x), attention.remember(x).key, Mask(torch.tensor(lengths))
    held, written = attention.weights_held(*looking), attention.weights(*looking)
    assert isinstance(held, BlockWeights)
    for row, length in enumerate(lengths):
        there = row, slice(None), slice(length), slice(length)
        torch.testing.assert_close(held.dense()[there], written[there], rtol=0, atol=1e-6)


@pytest.mark.gpu
def test_weights_on_a_gpu_are_those_on_a_cpu() -> None:
    attention, x = layer(dense_up_to=25), torch.randn(3, 60, 12)
    lengths = torch.tensor([60, 41, 3])

    def seen(device: str, mask: Mask) -> list[torch.Tensor]:
        there = attention.to(device)
        looking = there.project_query(x.to(device)), there.remember(x.to(device)).key, mask
        held = there.weights_held(*looking)
        assert isinstance(held, BlockWeights)
        return [there.weights(*looking).cpu(), held.dense().cpu(), there(x.to(device), mask).cpu()]

    for cpu, gpu in ((Mask(lengths), Mask(lengths.cuda())), (EVERYTHING, EVERYTHING)):
        for one, other in zip(seen("cpu", cpu), seen("cuda", gpu), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def layer(dense_up_to: int = 0, dropout: float = 0.0) -> BlockSparseAttention:
    return BlockSparseAttention(12, 2, BlockPattern(4, 1), dense_up_to, dropout).eval()


def test_the_rows_of_weights_sum_to_one_and_padding_sees_nothing() -> None:
    attention, x = layer(), torch.randn(2, 50, 12)
    weights = attention.weights(attention.project_query(x), attention.remember(x).key, Mask(torch.tensor([50, 21])))
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, 50))
    torch.testing.assert_close(weights[1, :, :21].sum(-1), torch.ones(2, 21))
    assert weights[1, :, 21:].abs().max() == 0 and weights[1, :, :, 21:].abs().max() == 0


@pytest.mark.parametrize("dense_up_to", [0, 25, 100])
@torch.inference_mode()
def test_a_text_is_what_it_is_alone(dense_up_to: int) -> None:
    attention, x = layer(dense_up_to), torch.randn(4, 60, 12)
    lengths = [60, 41, 23, 3]
    together = attention(x, Mask(torch.tensor(lengths)))
    for row, length in enumerate(lengths):
        alone = attention(x[row : row + 1, :length], EVERYTHING)
        torch.testing.assert_close(together[row, :length], alone[0], rtol=0, atol=1e-6)


@torch.inference_mode()
def test_where_every_block_is_seen_it_is_full_attention() -> None:
    sparse = layer()
    full = SelfAttention(12, 2)
    full.load_state_dict(sparse.state_dict())
    x = torch.randn(2, 20, 12)
    mask = Mask(torch.tensor([20, 14]))
    for found, expected, length in zip(sparse(x, mask), full(x, mask), (20, 14), strict=True):
        torch.testing.assert_close(found[:length], expected[:length], rtol=0, atol=1e-6)
    long = torch.randn(1, 90, 12)
    assert not torch.allclose(sparse(long, EVERYTHING), full(long, EVERYTHING), atol=1e-3)
    sparse.dense_up_to = 90
    torch.testing.assert_close(sparse(long, EVERYTHING), full(long, EVERYTHING), rtol=0, atol=1e-6)


def test_the_size_of_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [torch.randn(2, 2, 70, 8, requires_grad=True) for _ in range(3)]
    results = []
    for scores in (1, 1 << 30):
        monkeypatch.setattr(module, "_SCORES_ON_CPU", scores)
        query, key, value = parts
        found = block_sparse_attention(query, key, value, torch.tensor([70, 33]), BlockPattern(4, 2))
        results.append([found, *torch.autograd.grad(found.square().sum(), parts)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_dropout_falls_on_every_row_and_its_gradient_is_that_of_what_was_kept() -> None:
    query, key, value = (torch.randn(1, 1, 40, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    lengths, pattern = torch.tensor([40]), BlockPattern(4, 1)

    def attend(*parts: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return block_sparse_attention(*parts, lengths, pattern, 0.4)

    assert torch.autograd.gradcheck(attend, (query, key, value), fast_mode=True)
    torch.manual_seed(0)
    drawn = torch.stack([block_sparse_attention(query, key, value, lengths, pattern, 0.4) for _ in range(400)])
    plain = block_sparse_attention(query, key, value, lengths, pattern)
    # Of global rows (the first and last block) and of the others.
    assert ((drawn[0] - plain).abs().amax(-1) > 1e-3).all()
    assert float((drawn.mean(0) - plain).detach().abs().mean()) < 0.06


def test_dropout_by_the_compiled_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    # One row a piece: none has the choice of another.
    monkeypatch.setattr(module, "_SCORES_ON_CPU", 1)
    parts = [torch.randn(1, 1, 48, 16, requires_grad=True) for _ in range(3)]
    along, given = [torch.randn_like(x) for x in parts], torch.randn(1, 1, 48, 16)
    lengths, pattern = torch.tensor([46]), BlockPattern(4, 1)

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return block_sparse_attention(query, key, value, lengths, pattern, 0.4)

    def height(by: float) -> torch.Tensor:
        return (attend(*(x + by * to for x, to in zip(parts, along, strict=True))) * given).sum()

    found = torch.autograd.grad(height(0.0), parts)
    slope = sum((one * to).sum() for one, to in zip(found, along, strict=True))
    with torch.no_grad():
        torch.testing.assert_close((height(5e-3) - height(-5e-3)) / 1e-2, slope, rtol=5e-3, atol=0)
        # Equal weights: a context is the share of what it sees that was kept.
        kept = attend(*(torch.full_like(x, value) for x, value in zip(parts, (0.0, 0.0, 1.0), strict=True)))[
            0, 0, :46, 0
        ]
    assert abs(float(kept.mean()) - 1.0) < 0.1
    assert len(kept[4:-2].round(decimals=4).unique()) > 5
    assert not torch.equal(kept[4:8], kept[8:12])


def test_mixed_precision_learns_what_full_precision_does() -> None:
    x, gradients = torch.randn(2, 50, 12), []
    attention = layer().train()
    for mixed in (False, True):
        attention.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            found = attention(x, Mask(torch.tensor([50, 30])))
        found.float().square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in attention.parameters() if p.grad is not None]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999
