"""Multi-head attention against torch's own, in every kernel, with and without a cache, watched and unwatched."""

import pytest
import torch
from torch import nn

from trasluz.layers import dot_product_attention
from trasluz.layers.encoder_decoder_attention import EncoderDecoderAttention
from trasluz.layers.key_value_cache import KeyValueCache, Lineage
from trasluz.layers.masks import CAUSAL, EVERYTHING, Mask
from trasluz.layers.self_attention import SelfAttention

MASKS = {
    "everything": EVERYTHING,
    "causal": CAUSAL,
    "padded": Mask(torch.tensor([2, 5, 6])),
    "both": Mask(torch.tensor([2, 5, 6]), causal=True),
}


def torchs_twin(attention: SelfAttention) -> nn.MultiheadAttention:
    twin = nn.MultiheadAttention(attention.query.in_features, attention.num_heads, batch_first=True)
    parts = (attention.query, attention.key, attention.value)
    with torch.no_grad():
        twin.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        twin.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        twin.out_proj.weight.copy_(attention.output.weight)
        twin.out_proj.bias.copy_(attention.output.bias)
    return twin


@pytest.mark.parametrize("short", [0, 10**9], ids=["fused", "written-out"])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_equals_torchs(mask: Mask, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dot_product_attention, "_SHORT", short)
    attention = SelfAttention(dim=12, num_heads=3)
    x = torch.randn(3, 6, 12)
    hidden = ~mask.dense(6, 6).expand(3, 6, 6).repeat_interleave(3, dim=0)
    expected, weights = torchs_twin(attention)(x, x, x, attn_mask=hidden, average_attn_weights=False)
    torch.testing.assert_close(attention(x, mask), expected)
    shown = attention.weights(attention.project_query(x), attention.remember(x).key, mask)
    torch.testing.assert_close(shown, weights)


@pytest.mark.parametrize("short", [0, 10**9], ids=["fused", "written-out"])
def test_a_query_that_may_see_nothing_gets_zeros(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dot_product_attention, "_SHORT", short)
    query, key, value = (torch.randn(2, 1, 3, 4) for _ in range(3))
    context = dot_product_attention.dot_product_attention(query, key, value, Mask(torch.tensor([0, 3])))
    assert torch.equal(context[0], torch.zeros(1, 3, 4))
    assert context[1].abs().min() > 0


def step(attention: SelfAttention, x: torch.Tensor, cache: KeyValueCache) -> torch.Tensor:
    cache.lineage.advance()
    return attention.step(x, cache)


# Heads of 8, for which there may be a compiled kernel, and of 4, for which there is none; it runs without gradients.
@pytest.mark.parametrize("dim", [12, 24])
@pytest.mark.parametrize("gradients", [False, True])
def test_steps_with_a_cache_equal_all_at_once(dim: int, gradients: bool) -> None:
    attention = SelfAttention(dim, 3)
    x = torch.randn(2, 7, dim)
    with torch.set_grad_enabled(gradients):
        cache = attention.new_cache(Lineage(2, 9, x.device), x)
        stepped = torch.cat([step(attention, x[:, t : t + 1], cache) for t in range(7)], dim=1)
    torch.testing.assert_close(stepped, attention(x, CAUSAL))


@pytest.mark.parametrize("dim", [12, 24])
@pytest.mark.parametrize("rows", [[1, 1, 0], [2, 0], [1], [0, 1, 2]])
@torch.no_grad()
def test_selected_rows_take_their_past_along(dim: int, rows: list[int]) -> None:
    attention = SelfAttention(dim, 3)
    x = torch.randn(3, 6, dim)
    past = x.clone()
    cache = attention.new_cache(Lineage(3, 6, x.device), x)
    for t in range(3):
        step(attention, x[:, t : t + 1], cache)
    cache.lineage.select_rows(torch.tensor(rows))
    past = past[rows]
    for t in (3, 4):
        torch.testing.assert_close(
            step(attention, past[:, t : t + 1], cache), attention(past[:, : t + 1], CAUSAL)[:, t:]
        )
        # And once more, the other way round.
        order = torch.arange(len(rows)).flip(0)
        cache.lineage.select_rows(order)
        past = past[order]


@pytest.mark.parametrize("dim", [12, 24])
@pytest.mark.parametrize("gradients", [False, True])
def test_beams_are_extra_queries_of_their_source(dim: int, gradients: bool) -> None:
    attention = EncoderDecoderAttention(dim, 3, memory_dim=8)
    memory, x = torch.randn(2, 5, 8), torch.randn(6, 1, dim)
    mask = Mask(torch.tensor([5, 3]))
    with torch.set_grad_enabled(gradients):
        remembered = attention.remember_for_steps(memory)
        together = attention.step(x, remembered, mask)
        turned = attention.step(x[3:], remembered.select(torch.tensor([1])), Mask(mask.key_lengths[1:]))
    torch.testing.assert_close(turned, together[3:])
    for row in range(6):
        source = row // 3
        one_mask = Mask(mask.key_lengths[source : source + 1]) if mask.key_lengths is not None else EVERYTHING
        torch.testing.assert_close(
            together[row : row + 1], attention(x[row : row + 1], memory[source : source + 1], one_mask)
        )


def widened(attention: SelfAttention) -> SelfAttention:
    """Return attention with a head of keys and values for every head: copies of those that a group shares."""
    whole = SelfAttention(attention.query.in_features, attention.num_heads)
    group = attention.num_heads // attention.num_memory_heads
    with torch.no_grad():
        for name, parameter in attention.named_parameters():
            if name.startswith(("key", "value")):
                by_head = parameter.unflatten(0, (attention.num_memory_heads, -1))
                parameter = by_head.repeat_interleave(group, dim=0).flatten(0, 1)
            whole.get_parameter(name).copy_(parameter)
    return whole


@pytest.mark.parametrize("short", [0, 10**9], ids=["fused", "written-out"])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("num_memory_heads", [1, 2, 3])
def test_a_group_of_queries_shares_keys_and_values(
    num_memory_heads: int, mask: Mask, short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dot_product_attention, "_SHORT", short)
    attention = SelfAttention(24, 6, num_memory_heads=num_memory_heads)
    whole = widened(attention)
    x = torch.randn(3, 6, 24, requires_grad=True)
    found, expected = attention(x, mask), whole(x, mask)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(y.square().sum(), x)[0] for y in (found, expected))
    torch.testing.assert_close(ours, theirs)
    shown, copied = (one.weights(one.project_query(x), one.remember(x).key, mask) for one in (attention, whole))
    torch.testing.assert_close(shown, copied)


# Heads of 8, for which there may be a compiled kernel, and of 4, for which there is none.
@pytest.mark.parametrize("dim", [24, 48])
@torch.no_grad()
def test_steps_of_groups_equal_all_at_once(dim: int) -> None:
    attention = SelfAttention(dim, 6, num_memory_heads=2, bias=False)
    assert [name for name, _ in attention.named_parameters() if "bias" in name] == []
    x = torch.randn(2, 7, dim)
    cache = attention.new_cache(Lineage(2, 9, x.device), x)
    assert cache.key.shape == (18, 2, dim // 6)
    stepped = torch.cat([step(attention, x[:, t : t + 1], cache) for t in range(7)], dim=1)
    torch.testing.assert_close(stepped, attention(x, CAUSAL))


def test_a_tap_sees_the_weights_and_changes_no_bit() -> None:
    attention = SelfAttention(12, 3)
    x = torch.randn(2, 5, 12)
    unwatched = attention(x, CAUSAL)
    seen = []
    attention.tap = seen.append
    assert torch.equal(attention(x, CAUSAL), unwatched)
    (weights,) = seen
    assert weights.shape == (2, 3, 5, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5))
