"""The compiled step against attention written out, on random shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.threads import threads_of_torch

from trasluz.layers.kernels import load_kernels
from trasluz.layers.kernels.attention_step import attention_step

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="the compiled kernels are not there")


@pytest.mark.parametrize("threads", [1, 3])
@given(
    rows=st.integers(1, 13),
    heads=st.integers(1, 8),
    eights=st.integers(1, 12),
    length=st.integers(1, 200),
    group=st.integers(1, 4),
)
@settings(max_examples=40)
@torch.no_grad()
def test_context(threads: int, rows: int, heads: int, eights: int, length: int, group: int) -> None:
    head_dim = 8 * eights
    torch.manual_seed(length)
    query = torch.randn(rows, group * heads, head_dim) * 3
    key, value = torch.randn(2, length, rows, heads, head_dim)
    count = torch.randint(1, length + 1, (rows,))
    count[-1] = length
    origins = torch.randint(rows, (rows, length), dtype=torch.int32)
    table = origins + torch.arange(length, dtype=torch.int32) * rows
    with threads_of_torch(threads):
        moved = attention_step(query, key, value, count, table=table)
        own = attention_step(query, key, value, count, first=torch.arange(rows), step=rows)
    for row in range(rows):
        seen = int(count[row])
        for found, where in ((moved, origins[row, :seen].long()), (own, torch.full((seen,), row))):
            steps = torch.arange(seen)
            # In double: written out in floats it is less exact than the kernel.
            keys, values = (one[steps, where].repeat_interleave(group, dim=1).double() for one in (key, value))
            scores = torch.einsum("hd,thd->ht", query[row].double(), keys) / head_dim**0.5
            expected = torch.einsum("ht,thd->hd", scores.softmax(-1), values)
            torch.testing.assert_close(found[row].double(), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(beams=st.lists(st.integers(1, 9), min_size=1, max_size=5), eights=st.integers(1, 9), length=st.integers(1, 40))
@settings(max_examples=40)
@torch.no_grad()
def test_rows_that_see_the_same_get_what_each_would_alone(
    dtype: torch.dtype, beams: list[int], eights: int, length: int
) -> None:
    torch.manual_seed(length)
    sources = torch.tensor(beams)
    query = torch.randn(int(sources.sum()), 3, 8 * eights)
    key, value = torch.randn(2, length * len(beams), 3, 8 * eights).to(dtype)
    counts = torch.randint(length + 1, (len(beams),)).repeat_interleave(sources)
    first = (torch.arange(len(beams)) * length).repeat_interleave(sources)
    together = attention_step(query, key, value, counts, first=first)
    for row, found in enumerate(together.split(1)):
        one = slice(row, row + 1)
        assert torch.equal(attention_step(query[one], key, value, counts[one], first=first[one]), found)


@torch.no_grad()
def test_a_row_that_sees_nothing_gets_zeros() -> None:
    key, value = torch.randn(2, 4, 1, 8)
    context = attention_step(torch.randn(2, 1, 8), key, value, torch.tensor([0, 4]), first=torch.tensor([0, 0]))
    assert torch.equal(context[0], torch.zeros(1, 8)) and context[1].abs().min() > 0


@torch.no_grad()
def test_what_is_remembered_in_bfloat16() -> None:
    query, (key, value) = torch.randn(3, 2, 24), torch.randn(2, 7, 3, 2, 24).bfloat16()
    where = {"first": torch.arange(3), "step": 3}
    count = torch.tensor([7, 1, 4])
    found = attention_step(query, key, value, count, **where)
    torch.testing.assert_close(found, attention_step(query, key.float(), value.float(), count, **where))
