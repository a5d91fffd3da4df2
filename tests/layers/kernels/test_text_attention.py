"""Attention of many texts at once, compiled, as PyTorch's of each text alone."""

import random
from collections.abc import Callable

import pytest
import torch
from tests.threads import threads_of_torch

from trasluz.layers import dot_product_attention as module
from trasluz.layers.dot_product_attention import dot_product_attention, dot_product_weights
from trasluz.layers.kernels import load_kernels
from trasluz.layers.kernels.text_attention import takes_texts, text_attention
from trasluz.layers.masks import Mask

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="the kernels were not compiled")
ERRORS = {torch.float32: 1e-5, torch.bfloat16: 0.03}


def projected(batch: int, heads: int, positions: int, head_dim: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return queries, keys and values as projections leave them."""
    return [torch.randn(batch, positions, heads, head_dim).to(dtype).transpose(1, 2) for _ in range(3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "head_dim"), [(1, 8), (3, 24), (2, 32), (2, 64)])
@torch.no_grad()
def test_texts_of_a_row(heads: int, head_dim: int, dtype: torch.dtype) -> None:
    draw = random.Random(head_dim)
    lengths = [*(draw.randint(1, 40) for _ in range(8)), 150, 1]
    query, key, value = projected(1, heads, sum(lengths), head_dim, dtype)
    numbers = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]
    assert takes_texts(query, key, value)
    found = dot_product_attention(query, key, value, Mask(texts=numbers))
    weights = dot_product_weights(query.float(), key.float(), Mask(texts=numbers))
    torch.testing.assert_close(found.float(), weights @ value.float(), rtol=0, atol=ERRORS[dtype])
    begin = sum(lengths[:3])
    own = slice(begin, begin + lengths[3])
    alone = dot_product_attention(query[:, :, own], key[:, :, own], value[:, :, own], Mask(texts=numbers[:, own]))
    assert torch.equal(found[:, :, own], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_padded_texts_and_memories(dtype: torch.dtype) -> None:
    query = projected(4, 2, 5, 16, dtype)[0]
    _, key, value = projected(4, 2, 37, 16, dtype)
    mask = Mask(torch.tensor([37, 1, 20, 0]))
    found = dot_product_attention(query, key, value, mask)
    expected = dot_product_weights(query.float(), key.float(), mask) @ value.float()
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=ERRORS[dtype])
    assert not found[3].any()


@torch.no_grad()
def test_great_scores_and_what_is_no_number() -> None:
    query, key, value = projected(1, 1, 12, 8, torch.float32)
    query[..., 3, :] *= 1e4
    found = dot_product_attention(query, key, value, Mask())
    torch.testing.assert_close(found, dot_product_weights(query, key, Mask()) @ value, rtol=1e-4, atol=1e-4)
    key[..., 5, 0] = float("nan")
    assert dot_product_attention(query, key, value, Mask()).isnan().all()


def refuse(*_: object) -> None:
    raise AssertionError


def test_keys_of_other_shapes_than_the_kernel_reads() -> None:
    query, key, value = projected(2, 2, 6, 16, torch.float32)
    assert takes_texts(query, key, value)
    assert not takes_texts(query, key[:1], value[:1])
    assert not takes_texts(query, key, value[:, :, 1:])


def test_who_goes_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "text_attention", refuse)
    query, key, value = projected(2, 2, 6, 16, torch.float32)
    with torch.no_grad():
        dot_product_attention(query, key, value, Mask(band=2))
        dot_product_attention(query[:, :, :1], key, value, Mask(causal=True))
        dot_product_attention(query.half(), key.half(), value.half(), Mask())
        dot_product_attention(query, key[:, :1], value[:, :1], Mask())
        dot_product_attention(query[..., :4], key[..., :4], value[..., :4], Mask())


@torch.no_grad()
def test_several_threads_find_the_same() -> None:
    parts = projected(20, 3, 30, 16, torch.float32)
    stretches = Mask().stretches(20, 30, 30)
    alone = text_attention(*parts, *stretches)
    with threads_of_torch(3):
        assert torch.equal(text_attention(*parts, *stretches), alone)


def drawn(
    draw: random.Random, batch: int, heads: int, queries: int, keys: int, head_dim: int, dtype: torch.dtype
) -> list[torch.Tensor]:
    """Return the same, sometimes as slices of what one projection left, or two."""
    if queries == keys and draw.random() < 0.5:
        parts = torch.randn(batch, keys, 3 * heads * head_dim).to(dtype).chunk(3, -1)
    elif draw.random() < 0.5:
        parts = torch.randn(batch, queries, heads * head_dim).to(dtype), *joint(batch, keys, heads * head_dim, dtype)
    else:
        shapes = ((batch, heads, length, head_dim) for length in (queries, keys, keys))
        return [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    return [x.unflatten(-1, (heads, head_dim)).transpose(1, 2).detach().requires_grad_() for x in parts]


def joint(batch: int, positions: int, dim: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    return torch.randn(batch, positions, 2 * dim).to(dtype).chunk(2, -1)


def mask_drawn(draw: random.Random, batch: int, queries: int, keys: int) -> Mask:
    """Return a mask of any kind that the kernel knows."""
    causal = draw.random() < 0.5 and 1 < queries <= keys
    kind = draw.choice(["all", "padded", "texts"])
    if kind == "texts" and queries == keys:
        return Mask(causal=causal, texts=(torch.rand(batch, keys) < 0.1).cumsum(1))
    lengths = torch.randint(0, keys + 1, (batch,)) if kind == "padded" else None
    return Mask(lengths, causal)


def gradients(
    attend: Callable[..., torch.Tensor], parts: list[torch.Tensor], given: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Return the context and the gradients of all that it is made of."""
    context = attend(*parts)
    return context, *torch.autograd.grad(context, parts, given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [8, 24, 32, 64])
def test_gradients(monkeypatch: pytest.MonkeyPatch, head_dim: int, dtype: torch.dtype) -> None:
    draw = random.Random(head_dim)
    for nth in range(20):
        # The last are of so many queries that they are not held at once.
        batch, heads, keys = (
            draw.choice([1, 2, 5]),
            draw.choice([1, 3]),
            draw.randint(*((1, 128) if nth < 16 else (400, 700))),
        )
        queries = draw.choice([keys, draw.randint(1, 60) if nth < 16 else draw.randint(150, 300)])
        parts = drawn(draw, batch, heads, queries, keys, head_dim, dtype)
        mask = mask_drawn(draw, batch, queries, keys)
        given = torch.randn(batch, heads, queries, head_dim).to(dtype)

        def attend(*parts: torch.Tensor, mask: Mask = mask) -> torch.Tensor:
            return dot_product_attention(*parts, mask)

        with monkeypatch.context() as patch:
            patch.setattr(module, "has_matrix_unit", lambda: False)
            patch.setattr(module, "scaled_dot_product_attention", refuse)
            patch.setattr(module, "dot_product_weights", refuse)
            found = gradients(attend, parts, given)
        with monkeypatch.context() as patch:
            patch.setattr(module, "text_attention", refuse)
            patch.setattr(module, "takes_texts", lambda *_: False)
            usual = gradients(attend, [x.detach().float().requires_grad_() for x in parts], given.float())
        for one, other in zip(found, usual, strict=True):
            assert one.dtype == dtype
            most = max(1e-3, other.abs().max().item())
            torch.testing.assert_close(
                one.float(), other, rtol=0 if dtype == torch.float32 else 2**-8, atol=1e-5 * most
            )


def test_gradients_are_slopes() -> None:
    parts = [x.requires_grad_() for x in projected(2, 2, 9, 16, torch.float32)]
    along, given = [torch.randn_like(x) for x in parts], torch.randn(2, 2, 9, 16)

    def height(by: float) -> torch.Tensor:
        torch.manual_seed(1)
        moved = [x + by * to for x, to in zip(parts, along, strict=True)]
        return (dot_product_attention(*moved, Mask(torch.tensor([9, 4]), causal=True), 0.3) * given).sum()

    found = torch.autograd.grad(height(0.0), parts)
    slope = sum((one * to).sum() for one, to in zip(found, along, strict=True))
    with torch.no_grad():
        torch.testing.assert_close((height(5e-3) - height(-5e-3)) / 1e-2, slope, rtol=5e-3, atol=0)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        squared = dot_product_attention(*parts, Mask()).square().sum()
        torch.autograd.grad(squared, parts, create_graph=True)[0].sum().backward()


def what_is_kept(query: torch.Tensor, key: torch.Tensor, mask: Mask, probability: float) -> torch.Tensor:
    """Return the weights after dropout: each value is a column of its own."""
    batch, heads, keys, head_dim = key.shape
    ones = torch.eye(keys, head_dim, dtype=key.dtype).expand(batch, heads, -1, -1)
    torch.manual_seed(1)
    return dot_product_attention(query, key, ones, mask, probability)[..., :keys]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", [Mask(), Mask(causal=True), Mask(torch.tensor([50, 0, 31]))])
def test_dropout(mask: Mask, dtype: torch.dtype) -> None:
    probability = 0.3
    query, key, value = (x.requires_grad_() for x in projected(3, 2, 50, 64, dtype))
    weights = dot_product_weights(query, key, mask)
    kept = what_is_kept(query, key, mask, probability) != 0
    share = kept[weights > 1e-20].float().mean().item()
    assert abs(share - (1 - probability)) < 0.02
    # No head and no query has the choice of another.
    if mask.key_lengths is None and not mask.causal:
        assert len(kept.flatten(0, 2).unique(dim=0)) == 3 * 2 * 50
    given = torch.randn(3, 2, 50, 64).to(dtype)

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return dot_product_attention(query, key, value, mask, probability)

    def usual(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return (dot_product_weights(query, key, mask) * kept / (1 - probability)) @ value

    floats = [x.detach().float().requires_grad_() for x in (query, key, value)]
    for one, other in zip(
        gradients(attend, [query, key, value], given), gradients(usual, floats, given.float()), strict=True
    ):
        most = other.abs().max().item()
        rtol = 0 if dtype == torch.float32 else 2**-8
        torch.testing.assert_close(one.float(), other, rtol=rtol, atol=1e-5 * most)


@torch.no_grad()
def test_the_same_is_dropped_by_every_width_and_in_every_call() -> None:
    found = []
    # Eight numbers at a time, and sixteen.
    for head_dim in (24, 32):
        query, key, _ = projected(3, 2, 20, head_dim, torch.float32)
        found.append(what_is_kept(query, key, Mask(), 0.4) != 0)
    assert torch.equal(*found)
    assert not torch.equal(*(dot_product_attention(query, key, key, Mask(), 0.4) for _ in range(2)))


def test_several_threads_find_the_same_gradients() -> None:
    parts = [x.requires_grad_() for x in projected(20, 3, 30, 16, torch.float32)]
    found = []

    def attend(*parts: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return dot_product_attention(*parts, Mask(torch.arange(20) + 5, causal=True), 0.2)

    for count in (1, 2):
        with threads_of_torch(count):
            found.append(gradients(attend, parts, torch.ones(20, 3, 30, 16)))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_positions_of_no_text(dtype: torch.dtype) -> None:
    parts = [x.requires_grad_() for x in projected(2, 2, 10, 16, dtype)]
    stretches = torch.tensor([2, 7, 13]), torch.tensor([4, 0, 6])
    found = gradients(lambda *parts: text_attention(*parts, stretches, stretches), parts, torch.ones_like(parts[0]))
    own = torch.tensor([2, 3, 4, 5, 13, 14, 15, 16, 17, 18])
    others = torch.ones(20, dtype=torch.bool).index_fill(0, own, False)
    for x in found:
        rows = x.transpose(1, 2).flatten(0, 1)
        assert not rows[others].any()
    assert found[0].transpose(1, 2).flatten(0, 1)[own].all()


@pytest.mark.parametrize("head_dim", [12, 16, 24])
def test_without_queries_nothing_is_learnt(head_dim: int) -> None:
    parts = [torch.randn(1, 2, positions, head_dim, requires_grad=True) for positions in (0, 40, 40)]
    context, *found = gradients(lambda *parts: dot_product_attention(*parts, Mask()), parts, parts[0].detach())
    assert context.shape == found[0].shape == (1, 2, 0, head_dim)
    assert not any(x.any() for x in found)


def test_a_text_at_which_nobody_looks_gets_zeros() -> None:
    parts = [torch.randn(1, 2, positions, 16, requires_grad=True) for positions in (3, 80, 80)]
    stretches = (torch.tensor([0, 3]), torch.tensor([3, 0])), (torch.tensor([0, 40]), torch.tensor([40, 40]))
    found = gradients(lambda *parts: text_attention(*parts, *stretches), parts, torch.ones(1, 2, 3, 16))
    for of_memory in found[2:]:
        assert of_memory[:, :, :40].any() and not of_memory[:, :, 40:].any()


def test_gradients_lie_as_what_they_are_of() -> None:
    whole = torch.randn(2, 5, 3, 2, 8).unbind(2)
    query, key, value = (x.transpose(1, 2).detach().requires_grad_() for x in whole)
    found = torch.autograd.grad(dot_product_attention(query, key, value, Mask()).sum(), (query, key, value))
    assert len({x.untyped_storage().data_ptr() for x in found}) == 1
    assert [x.storage_offset() for x in found] == [0, 16, 32]
    alone = torch.randn(2, 2, 7, 8, requires_grad=True)
    found = torch.autograd.grad(dot_product_attention(alone, key, value, Mask()).sum(), (alone, key, value))
    assert len({x.untyped_storage().data_ptr() for x in found}) == 3
    two = torch.randn(2, 5, 2, 2, 8).unbind(2)
    key, value = (x.transpose(1, 2).detach().requires_grad_() for x in two)
    found = torch.autograd.grad(dot_product_attention(alone, key, value, Mask()).sum(), (alone, key, value))
    assert found[1].untyped_storage().data_ptr() == found[2].untyped_storage().data_ptr()
    assert found[0].is_contiguous() or found[0].transpose(1, 2).is_contiguous()


def test_under_autocast() -> None:
    parts = [x.requires_grad_() for x in projected(2, 2, 9, 16, torch.bfloat16)]
    with torch.autocast("cpu", torch.bfloat16):
        context = dot_product_attention(*parts, Mask(), 0.1)
    assert context.dtype == torch.bfloat16
    assert all(x.dtype == torch.bfloat16 for x in torch.autograd.grad(context.float().sum(), parts))
