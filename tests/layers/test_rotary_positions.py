"""Rotary positions against the paper's complex numbers, and what follows from them: only distances count."""

import cmath

import pytest
import torch

from trasluz.layers.key_value_cache import Lineage
from trasluz.layers.masks import CAUSAL, Mask
from trasluz.layers.rotary_positions import RotaryPositions
from trasluz.layers.self_attention import SelfAttention


@pytest.mark.parametrize("first", [0, 3, 500, 5000])
@pytest.mark.parametrize("base", [10_000.0, 37.0])
def test_pairs_of_features_are_turned_as_complex_numbers(base: float, first: int) -> None:
    positions = RotaryPositions(6, base, num_cached=503)
    x = torch.randn(2, 3, 4, 6)
    found = positions(x, first)
    for place in range(4):
        for pair in range(3):
            turn = cmath.exp(1j * (first + place) * base ** (-2 * pair / 6))
            expected = torch.complex(x[:, :, place, pair].double(), x[:, :, place, pair + 3].double()) * turn
            torch.testing.assert_close(found[:, :, place, pair].double(), expected.real, rtol=0, atol=1e-6)
            torch.testing.assert_close(found[:, :, place, pair + 3].double(), expected.imag, rtol=0, atol=1e-6)


def test_the_type_stays_and_nothing_is_stored() -> None:
    positions = RotaryPositions(8)
    assert positions(torch.randn(1, 1, 3, 8).bfloat16()).dtype == torch.bfloat16
    assert positions.bfloat16()(torch.randn(1, 1, 3, 8).bfloat16(), 600).dtype == torch.bfloat16
    assert not positions.state_dict() and not list(positions.parameters())


def rotary_attention(dim: int = 24) -> SelfAttention:
    return SelfAttention(dim, 3, positions=RotaryPositions(dim // 3, base=50.0, num_cached=9))


def test_scores_are_those_of_the_distances() -> None:
    """The product of query and key against a loop, in which only the query is turned, by the distance."""
    attention = rotary_attention()
    x = torch.randn(1, 7, 24)
    shown = attention.weights(attention.placed(attention.project_query(x), 0), attention.remember(x).key, CAUSAL)
    query, key = (part(x).unflatten(-1, (3, 8)) for part in (attention.query, attention.key))
    turn = RotaryPositions(8, base=50.0)
    for place in range(7):
        turned = [turn(query[:, place, :, None], place - seen)[0, :, 0] for seen in range(place + 1)]
        scores = torch.stack([(one * key[0, seen]).sum(-1) for seen, one in enumerate(turned)], dim=-1)
        torch.testing.assert_close(shown[0, :, place, : place + 1], (scores / 8**0.5).softmax(-1))


def test_texts_in_one_row_are_what_they_are_alone() -> None:
    attention = rotary_attention()
    x = torch.randn(1, 12, 24)
    packed = attention(x, Mask(causal=True, texts=torch.tensor([[1] * 5 + [2] * 7])))
    torch.testing.assert_close(packed[:, 5:], attention(x[:, 5:], CAUSAL))


# Heads of 8, for which there may be a compiled kernel, and of 4, for which there is none; longer than the table.
@pytest.mark.parametrize("dim", [12, 24])
@pytest.mark.parametrize("prompt_length", [0, 5])
@torch.no_grad()
def test_prompt_and_steps_equal_all_at_once(dim: int, prompt_length: int) -> None:
    attention = rotary_attention(dim)
    x = torch.randn(2, 12, dim)
    expected = attention(x, CAUSAL)
    lineage = Lineage(2, 12, x.device, prompt_length, 2)
    cache = attention.new_cache(lineage, x)
    if prompt_length:
        prompt = attention.read_prompt(x[:, :prompt_length], cache)
        torch.testing.assert_close(prompt, expected[:, :prompt_length])
    for place in range(prompt_length, 12):
        lineage.advance()
        stepped = attention.step(x[:, place : place + 1], cache)
        torch.testing.assert_close(stepped, expected[:, place : place + 1])


def test_a_tap_sees_turned_queries_and_changes_no_bit() -> None:
    attention = rotary_attention()
    x = torch.randn(2, 5, 24)
    unwatched = attention(x, CAUSAL)
    seen: list[torch.Tensor] = []
    attention.tap = seen.append
    assert torch.equal(attention(x, CAUSAL), unwatched)
    context = torch.einsum("bhqk,bhkd->bqhd", seen[0], attention.remember(x).value).flatten(2)
    torch.testing.assert_close(attention.output(context), unwatched)
