"""Attention within a band against a loop over positions, in every kernel, with and without a cache."""

import pytest
import torch

from trasluz.layers import dot_product_attention
from trasluz.layers.banded_attention import BandedSelfAttention
from trasluz.layers.key_value_cache import Lineage
from trasluz.layers.masks import CAUSAL, Mask
from trasluz.layers.self_attention import SelfAttention


def by_hand(attention: SelfAttention, x: torch.Tensor, band: int, texts: torch.Tensor | None = None) -> torch.Tensor:
    """Return what each position finds, one after the other."""
    query, memory = attention.project_query(x), attention.remember(x)
    rows = []
    for row in range(len(x)):
        found = []
        for place in range(x.shape[1]):
            near = range(max(0, place - band + 1), place + 1)
            seen = [key for key in near if texts is None or texts[row, key] == texts[row, place]]
            scores = torch.einsum("hd,hkd->hk", query[row, :, place], memory.key[row][:, seen])
            weights = (scores / attention.head_dim**0.5).softmax(-1)
            found.append(torch.einsum("hk,hkd->hd", weights, memory.value[row][:, seen]).flatten())
        rows.append(torch.stack(found))
    return attention.output(torch.stack(rows))


@pytest.mark.parametrize("short", [0, 10**9], ids=["fused", "written-out"])
@pytest.mark.parametrize("band", [1, 2, 3, 5, 11, 40])
def test_each_position_sees_a_few_before_it(band: int, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dot_product_attention, "_SHORT", short)
    attention = BandedSelfAttention(12, 3, band)
    x = torch.randn(2, 11, 12)
    torch.testing.assert_close(attention(x, CAUSAL), by_hand(attention, x, band))
    texts = torch.tensor([[1, 1, 1, 2, 3, 3, 3, 3, 3, 3, 3], [4] * 11])
    packed = Mask(causal=True, texts=texts)
    torch.testing.assert_close(attention(x, packed), by_hand(attention, x, band, texts))
    # And with padding, which goes through whole.
    padded = Mask(torch.tensor([11, 7]), causal=True)
    torch.testing.assert_close(attention(x, padded)[1, :7], by_hand(attention, x[1:, :7], band)[0])


def test_gradients_are_those_of_the_dense_form() -> None:
    attention = BandedSelfAttention(12, 3, 4)
    x = torch.randn(2, 10, 12, requires_grad=True)
    ours, theirs = (
        torch.autograd.grad(y.square().sum(), [x, *attention.parameters()])
        for y in (attention(x, CAUSAL), by_hand(attention, x, 4))
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# Heads of 8, for which there may be a compiled kernel, and of 4, for which there is none.
@pytest.mark.parametrize("dim", [12, 24])
@pytest.mark.parametrize("prompt_length", [0, 2, 6])
@pytest.mark.parametrize("band", [1, 3, 20])
@torch.no_grad()
def test_prompt_and_steps_equal_all_at_once(dim: int, prompt_length: int, band: int) -> None:
    attention = BandedSelfAttention(dim, 3, band)
    x = torch.randn(3, 12, dim)
    lineage = Lineage(6, 8, x.device, prompt_length, 3)
    cache = attention.new_cache(lineage, x)
    if prompt_length:
        expected = attention(x[:, :prompt_length], CAUSAL)
        torch.testing.assert_close(attention.read_prompt(x[:, :prompt_length], cache), expected)
    rows = torch.arange(3).repeat_interleave(2)
    for place in range(prompt_length, min(12, prompt_length + 8)):
        lineage.advance()
        stepped = attention.step(x[rows, place : place + 1], cache)
        torch.testing.assert_close(stepped, attention(x[rows, : place + 1], CAUSAL)[:, -1:])
        if place % 3 == 2:
            order = torch.randint(0, len(rows), (len(rows),))
            lineage.select_rows(order)
            rows = rows[order]


def test_a_tap_sees_the_band_and_changes_no_bit() -> None:
    attention = BandedSelfAttention(12, 3, 3)
    x = torch.randn(2, 7, 12)
    unwatched = attention(x, CAUSAL)
    seen: list[torch.Tensor] = []
    attention.tap = seen.append
    assert torch.equal(attention(x, CAUSAL), unwatched)
    (weights,) = seen
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 7))
    assert weights.tril(-3).abs().max() == weights.triu(1).abs().max() == 0
