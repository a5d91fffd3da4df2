"""Compiled recurrences against the same in PyTorch's words: values and gradients of everything, on random shapes."""

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.threads import threads_of_torch
from torch import Tensor

from trasluz.layers import attentive_recurrence as attentive
from trasluz.layers import recurrent_kernels
from trasluz.layers.additive_attention import AdditiveAttention
from trasluz.layers.kernels import load_kernels
from trasluz.layers.kernels.int8_training import int8_rows, rounds_rows
from trasluz.layers.masks import EVERYTHING, Mask
from trasluz.layers.products import RepeatedProduct, eight_bit_products
from trasluz.layers.recurrent import CELLS, RecurrentStack

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="the compiled kernels are not there")

# Below, at and above the widths of the vectors, and with rests of every kind.
SIZES = st.integers(1, 70)
FEW = st.integers(1, 6)


@pytest.fixture(params=[1, 2], autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run with one thread and with two."""
    with threads_of_torch(request.param):
        yield


def outcome(run: Callable[[], tuple[Tensor, ...]], inputs: list[Tensor]) -> list[Tensor]:
    """Return what comes out, and the gradients of a sum in which every element of it has a weight of its own."""
    draw, found = torch.Generator().manual_seed(5), run()
    totals = [(part * torch.randn(part.shape, generator=draw)).sum() for part in found]
    return [*found, *torch.autograd.grad(sum(totals[1:], totals[0]), inputs)]


def both_ways(run: Callable[[], tuple[Tensor, ...]], inputs: list[Tensor], dtype: torch.dtype) -> None:
    """Compare what runs compiled, in a type, with what does not, in float32."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        compiled = outcome(run, inputs)
    with pytest.MonkeyPatch.context() as patch:
        for module in (attentive, recurrent_kernels):
            patch.setattr(module, "compiled_recurrence_takes", lambda x: False)
        plain = outcome(run, inputs)
    assert compiled[0].dtype == dtype
    for ours, expected in zip(compiled, plain, strict=True):
        if dtype == torch.float32:
            torch.testing.assert_close(
                ours, expected, atol=1e-5 * max(1.0, float(expected.detach().abs().max())), rtol=1e-5
            )
        else:
            # Some gradients are small differences of what is large.
            error, size = ((one.square().mean().sqrt()) for one in (ours.float() - expected, expected))
            assert error < 0.05 * size + 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(
    cell_name=st.sampled_from(["gru", "lstm"]),
    padded=st.booleans(),
    few=st.tuples(FEW, FEW, FEW),
    sizes=st.tuples(SIZES, SIZES, SIZES),
)
@settings(max_examples=25)
def test_attention_in_the_loop(
    dtype: torch.dtype, cell_name: str, padded: bool, few: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    (batch, steps, keys), (hidden, memory_dim, attention_dim) = few, sizes
    torch.manual_seed(sum(sizes))
    cell, attention = CELLS[cell_name](3, hidden), AdditiveAttention(hidden, memory_dim, attention_dim)
    projected = torch.randn(batch, steps, cell.input.out_features, requires_grad=True)
    annotations = torch.randn(batch, keys, memory_dim, requires_grad=True)
    weight = (0.2 * torch.randn(cell.input.out_features, memory_dim)).requires_grad_()
    state = tuple(torch.randn(batch, hidden, requires_grad=True) for _ in range(cell.num_states))
    mask = Mask(torch.randint(1, keys + 1, (batch,))) if padded else EVERYTHING
    both_ways(
        lambda: attentive.attentive_recurrence(
            projected, weight, attention, attention.remember(annotations), mask, cell, state
        ),
        [projected, annotations, weight, *state, *attention.parameters(), *cell.recurrent_weights()],
        dtype,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(
    bidirectional=st.booleans(),
    layers=st.integers(1, 2),
    lengths=st.lists(FEW, min_size=1, max_size=5),
    sizes=st.tuples(SIZES, SIZES),
)
@settings(max_examples=25)
def test_a_stack(
    dtype: torch.dtype, bidirectional: bool, layers: int, lengths: list[int], sizes: tuple[int, int]
) -> None:
    torch.manual_seed(layers)
    input_dim, hidden = sizes
    stack = RecurrentStack("gru", input_dim, hidden, layers, bidirectional)
    x = torch.randn(len(lengths), max(lengths), input_dim, requires_grad=True)
    start = torch.randn(len(lengths), layers * (1 + bidirectional), hidden, requires_grad=True)

    def run() -> tuple[Tensor, ...]:
        output, last = stack(x, torch.tensor(lengths), (start,))
        return output, *last

    both_ways(run, [x, start, *stack.parameters()], dtype)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_torchs_default_type_changes_nothing(default: torch.dtype) -> None:
    cell, attention, stack = CELLS["gru"](3, 8), AdditiveAttention(8, 16, 5), RecurrentStack("gru", 4, 8, 1, True)
    x, projected, weight = torch.randn(3, 6, 4), torch.randn(3, 2, 24), torch.randn(24, 16)
    lengths, state = torch.tensor([6, 2, 4]), (torch.randn(3, 8),)

    def run() -> tuple[Tensor, ...]:
        annotations, _ = stack(x, lengths)
        memory = attention.remember(annotations)
        return attentive.attentive_recurrence(projected, weight, attention, memory, Mask(lengths), cell, state)

    inputs, before = (
        [*attention.parameters(), *stack.parameters(), *cell.recurrent_weights()],
        torch.get_default_dtype(),
    )
    expected = [*run(), *torch.autograd.grad(sum(part.sum() for part in run()), inputs)]
    torch.set_default_dtype(default)
    try:
        others = [*run(), *torch.autograd.grad(sum(part.sum() for part in run()), inputs)]
    finally:
        torch.set_default_dtype(before)
    for one, other in zip(expected, others, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_many_rows_are_shared_among_threads() -> None:
    cell, attention = CELLS["gru"](3, 40), AdditiveAttention(40, 24, 48)
    projected, annotations = torch.randn(300, 3, 120), torch.randn(300, 7, 24)
    weight, mask = torch.randn(120, 24, requires_grad=True), Mask(torch.randint(1, 8, (300,)))
    state = (torch.randn(300, 40),)
    both_ways(
        lambda: attentive.attentive_recurrence(
            projected, weight, attention, attention.remember(annotations), mask, cell, state
        ),
        [weight, *attention.parameters(), *cell.recurrent_weights()],
        torch.float32,
    )


@pytest.mark.skipif(not rounds_rows(), reason="the processor has no VNNI")
@pytest.mark.parametrize("cell_name", ["gru", "lstm"])
def test_products_of_steps_in_eight_bits(cell_name: str) -> None:
    cell, attention = CELLS[cell_name](3, 72), AdditiveAttention(72, 96, 64)
    projected = torch.randn(40, 4, cell.input.out_features, requires_grad=True)
    annotations = torch.randn(40, 7, 96, requires_grad=True)
    weight = (0.2 * torch.randn(cell.input.out_features, 96)).requires_grad_()
    state = tuple(torch.randn(40, 72, requires_grad=True) for _ in range(cell.num_states))
    stack, x = RecurrentStack("gru", 80, 72, 1, True), torch.randn(40, 6, 80, requires_grad=True)

    def run() -> tuple[Tensor, ...]:
        memory = attention.remember(annotations)
        found = attentive.attentive_recurrence(projected, weight, attention, memory, EVERYTHING, cell, state)
        output, last = stack(x, torch.full((40,), 6))
        return *found, output, *last

    inputs = [projected, annotations, weight, *state, *attention.parameters(), *stack.parameters(), x]
    plain = outcome(run, inputs)
    with eight_bit_products():
        rounded = outcome(run, inputs)
    assert not torch.equal(plain[0], rounded[0]) and not torch.equal(plain[-1], rounded[-1])
    for ours, expected in zip(rounded, plain, strict=True):
        assert (ours - expected).norm() < 0.03 * expected.norm() + 1e-4


@pytest.mark.skipif(not rounds_rows(), reason="the processor has no VNNI")
def test_a_way_back_that_is_not_rounded() -> None:
    weight, x, y = torch.randn(70, 80), torch.randn(9, 80), torch.randn(9, 70)
    with eight_bit_products():
        rounded, half = (
            RepeatedProduct(weight, torch.float32),
            RepeatedProduct(weight, torch.float32, rounds_back=False),
        )
    plain = RepeatedProduct(weight, torch.float32)
    assert torch.equal(rounded(x), int8_rows(x, weight)) and torch.equal(half(x), rounded(x))
    assert torch.equal(rounded.back(y), int8_rows(y, weight.t()))
    assert torch.equal(half.back(y), plain.back(y)) and not torch.equal(rounded.back(y), plain.back(y))
    torch.testing.assert_close(plain(x), x @ weight.t())
    torch.testing.assert_close(plain.back(y), y @ weight)
