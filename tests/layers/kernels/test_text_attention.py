"""Attention of many texts at once, compiled, as PyTorch's of each text alone."""

import random

import pytest
import torch

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


def test_who_goes_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(module, "text_attention", never)
    query, key, value = projected(2, 2, 6, 16, torch.float32)
    dot_product_attention(query.requires_grad_(), key, value, Mask()).sum().backward()
    with torch.no_grad():
        dot_product_attention(query, key, value, Mask(causal=True))
        dot_product_attention(query, key, value, Mask(band=2))
        dot_product_attention(query, key, value, Mask(), dropout_probability=0.5)
        dot_product_attention(query.half(), key.half(), value.half(), Mask())
        dot_product_attention(query, key[:, :1], value[:, :1], Mask())
        dot_product_attention(query[..., :4], key[..., :4], value[..., :4], Mask())


@torch.no_grad()
def test_several_threads_find_the_same() -> None:
    parts = projected(20, 3, 30, 16, torch.float32)
    stretches = Mask().stretches(20, 30, 30)
    alone, threads = text_attention(*parts, *stretches), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(text_attention(*parts, *stretches), alone)
    finally:
        torch.set_num_threads(threads)
