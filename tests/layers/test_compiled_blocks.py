"""The compiled step of blocks as their parts one after the other, on random shapes, for rows that move about."""

import copy
import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.threads import threads_of_torch
from torch import Tensor, nn

from trasluz.layers import compiled_blocks
from trasluz.layers.banded_attention import BandedSelfAttention
from trasluz.layers.encoder_decoder_attention import EncoderDecoderAttention, remember_for_steps
from trasluz.layers.feed_forward import ActivationName, FeedForward
from trasluz.layers.int8 import to_int8
from trasluz.layers.kernels import load_kernels
from trasluz.layers.kernels.block_step import blocks_step
from trasluz.layers.key_value_cache import KeyValueCache, Lineage
from trasluz.layers.linear import Linear
from trasluz.layers.masks import Mask
from trasluz.layers.residual import PostNorm, PreNorm
from trasluz.layers.self_attention import SelfAttention
from trasluz.layers.transformer_block import CausalBlock, DecoderBlock, EncoderBlock, read_through, step_through

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="the compiled kernels are not there")

ACTIVATIONS: tuple[ActivationName, ...] = ("relu", "gelu", "gelu_tanh", "swish")
# How wide, how many heads, how wide between.
SIZES = st.builds(
    lambda heads, of_a_head, between: (8 * heads * of_a_head, heads, 8 * between),
    *(st.integers(1, 4), st.integers(1, 3), st.integers(1, 17)),
)


def random_block(
    dim: int, num_heads: int, hidden_dim: int, activation: ActivationName = "gelu_tanh", band: int | None = None
) -> CausalBlock:
    norms = PreNorm(dim), PreNorm(dim)
    attention = SelfAttention(dim, num_heads) if band is None else BandedSelfAttention(dim, num_heads, band)
    block = CausalBlock(attention, FeedForward(dim, hidden_dim, activation), *norms).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.4)
    return block


def run(block: CausalBlock, inputs: list[Tensor], moves: dict[int, list[int]], prompt: Tensor) -> list[Tensor]:
    """Return the block's states of a search that reorders its rows now and then."""
    sources, prompt_length = prompt.shape[:2]
    lineage = Lineage(len(inputs[0]), len(inputs), torch.device("cpu"), prompt_length, sources)
    cache = block.self_attention.new_cache(lineage, prompt)
    if prompt_length:
        block.read_prompt(prompt, cache)
    found = []
    for step, x in enumerate(inputs):
        lineage.advance()
        found.append(step_through([block], x[: lineage.rows], [cache]))
        if step in moves:
            lineage.select_rows(torch.tensor(moves[step]))
    return found


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trasluz.layers.transformer_block.compiled_blocks", lambda *_: None)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("eight_bits", [False, True])
@given(sizes=SIZES, band=st.one_of(st.none(), st.integers(1, 8)), length=st.integers(0, 5))
@settings(max_examples=15)
@torch.no_grad()
def test_step(
    activation: ActivationName, eight_bits: bool, sizes: tuple[int, int, int], band: int | None, length: int
) -> None:
    torch.manual_seed(sum(sizes))
    block, dim = random_block(*sizes, activation, band), sizes[0]
    if eight_bits:
        to_int8(block)
    steps = []
    for sources, beams in ((1, 1), (2, 2)):
        inputs = list(torch.randn(6, sources * beams, 1, dim) * 2)
        moves = {2: [0], 3: [0]} if beams == 1 else {1: [1, 0, 3, 3], 3: [2, 1, 1]}
        prompt = torch.randn(sources, length, dim)
        steps.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled_blocks, "blocks_step", lambda *told: steps.append(told) or blocks_step(*told))
            compiled = run(block, inputs, moves, prompt)
            assert len(steps) == len(inputs)
            plain(patch)
            expected = run(block, inputs, moves, prompt)
        for one, other in zip(compiled, expected, strict=True):
            # In eight bits, what differs by a rounding before a product may fall on another whole number.
            torch.testing.assert_close(one, other, rtol=1e-4, atol=0.05 if eight_bits else 1e-4)


@pytest.mark.parametrize("residual", [PreNorm, PostNorm])
@pytest.mark.parametrize("eight_bits", [False, True])
@given(sizes=SIZES)
@settings(max_examples=15)
@torch.no_grad()
def test_a_step_that_looks_at_a_source(
    residual: type[PreNorm] | type[PostNorm], eight_bits: bool, sizes: tuple[int, int, int]
) -> None:
    torch.manual_seed(sum(sizes))
    dim, num_heads, hidden_dim = sizes
    attentions = SelfAttention(dim, num_heads), EncoderDecoderAttention(dim, num_heads)
    block = DecoderBlock(*attentions, FeedForward(dim, hidden_dim), residual(dim), residual(dim), residual(dim)).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.4)
    if eight_bits:
        to_int8(block)
    mask = Mask(torch.tensor([5, 3, 0]))
    memory = block.cross_attention.remember_for_steps(torch.randn(3, 5, dim))

    def search(beams: int) -> list[Tensor]:
        lineage = Lineage(3 * beams, 4, torch.device("cpu"))
        cache = block.self_attention.new_cache(lineage, torch.empty(0))
        found = []
        for step in range(4):
            lineage.advance()
            found.append(step_through([block], inputs[step][: 3 * beams], [cache], [memory], mask))
            if step == 1 and beams > 1:
                lineage.select_rows(torch.tensor([1, 1, 2, 3, 5, 4]))
        return found

    inputs = list(torch.randn(4, 6, 1, dim))
    for beams in (1, 2):
        compiled = search(beams)
        with pytest.MonkeyPatch.context() as patch:
            plain(patch)
            expected = search(beams)
        for one, other in zip(compiled, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=0.05 if eight_bits else 1e-4)


@pytest.mark.parametrize("threads", [2, 3, 5])
# Of few rows threads share every product, of many they share the rows.
@pytest.mark.parametrize(("sources", "eight_bits"), [(1, False), (1, True), (3, True), (12, False), (40, True)])
# Heads that threads share alone, two by two, and all of them.
@pytest.mark.parametrize(("dim", "heads"), [(256, 8), (144, 9), (160, 4)])
@torch.no_grad()
def test_how_many_threads_there_are_changes_nothing(
    threads: int, sources: int, eight_bits: bool, dim: int, heads: int
) -> None:
    torch.manual_seed(1)
    beams = 4
    blocks = [
        DecoderBlock(
            *(SelfAttention(dim, heads), EncoderDecoderAttention(dim, heads), FeedForward(dim, 520)),
            *(residual(dim), residual(dim), residual(dim)),
        ).eval()
        for residual in (PostNorm, PreNorm)
    ]
    if eight_bits:
        for block in blocks:
            to_int8(block)
    mask = Mask(torch.randint(1, 10, (sources,)))
    states = torch.randn(sources, 9, dim)
    memories = [block.cross_attention.remember_for_steps(states) for block in blocks]
    inputs, moves = torch.randn(5, sources * beams, 1, dim), torch.arange(sources * beams) // beams * beams

    def search(threads: int) -> Tensor:
        lineage = Lineage(sources * beams, 5, torch.device("cpu"))
        caches = [block.self_attention.new_cache(lineage, torch.empty(0)) for block in blocks]
        found = []
        with threads_of_torch(threads):
            for x in inputs:
                lineage.advance()
                found.append(step_through(blocks, x, caches, memories, mask))
                # As many rows of floats as these go through the kernel on some processors alone.
                taken = compiled_blocks.compiled_blocks(blocks, x, caches, memories) is not None
                assert taken or (not eight_bits and sources > 1)
                lineage.select_rows(moves + torch.randint(beams, moves.shape, generator=generator))
        return torch.stack(found)

    generator = torch.Generator().manual_seed(1)
    expected = search(1)
    generator.manual_seed(1)
    assert torch.equal(search(threads), expected)


@pytest.mark.parametrize("watched", [[], [0], [1], [3], [0, 1], [1, 3], [0, 1, 2, 3]])
@torch.no_grad()
def test_blocks_that_somebody_watches_go_the_usual_way_and_the_others_together(watched: list[int]) -> None:
    torch.manual_seed(2)
    blocks = [random_block(16, 2, 24, "relu", band) for band in (None, 2, None, 3)]
    seen: list[int] = []
    for place in watched:
        blocks[place].self_attention.tap = lambda weights, place=place: seen.append(place)
    inputs, moves = list(torch.randn(6, 4, 1, 16)), {1: [1, 0, 3, 3], 3: [2, 1, 1]}

    def search() -> list[Tensor]:
        lineage = Lineage(4, 6, torch.device("cpu"))
        caches = [block.self_attention.new_cache(lineage, torch.empty(0)) for block in blocks]
        found = []
        for step, x in enumerate(inputs):
            lineage.advance()
            found.append(step_through(blocks, x[: lineage.rows], caches))
            if step in moves:
                lineage.select_rows(torch.tensor(moves[step]))
        return found

    together = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_blocks, "blocks_step", lambda *told: together.append(len(told[0])) or blocks_step(*told))
        compiled = search()
        assert sum(together) == 6 * (4 - len(watched)) and seen == 6 * watched
        plain(patch)
        for one, other in zip(compiled, search(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("residual", [PreNorm, PostNorm])
@pytest.mark.parametrize("threads", [1, 2, 3])
@given(
    sizes=SIZES,
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=9).filter(any),
    activation=st.sampled_from(ACTIVATIONS),
)
@settings(max_examples=15)
@torch.no_grad()
def test_texts_are_read_as_by_the_parts_one_after_the_other(
    residual: type[PreNorm] | type[PostNorm],
    threads: int,
    sizes: tuple[int, int, int],
    lengths: list[int],
    activation: ActivationName,
) -> None:
    torch.manual_seed(sum(sizes) + sum(lengths))
    dim, num_heads, hidden_dim = sizes
    blocks = [
        EncoderBlock(
            SelfAttention(dim, num_heads), FeedForward(dim, hidden_dim, activation), residual(dim), residual(dim)
        ).eval()
        for _ in range(2)
    ]
    for block in blocks:
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=0.4)
        to_int8(block)
    numbers = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    padded = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    for x, mask, told in (
        (torch.randn(len(lengths), max(lengths), dim), Mask(torch.tensor(lengths)), padded),
        (torch.randn(1, sum(lengths), dim), Mask(texts=numbers[None]), torch.ones(1, sum(lengths), dtype=torch.bool)),
    ):
        with threads_of_torch(threads):
            assert compiled_blocks.reading_blocks(blocks, x, mask) is not None
            found = read_through(blocks, x, mask)
        assert found.isfinite().all()
        for block in blocks:
            x = block(x, mask)
        # What differs by a rounding before a product may fall on another whole number, now and then.
        away, expected = (found[told] - x[told]).abs(), x[told].abs()
        assert away.mean() < 0.005 * expected.mean() and away.max() < 0.1 * expected.max()


@torch.no_grad()
def test_who_reads_by_the_kernel() -> None:
    x, mask = torch.randn(2, 3, 16), Mask(torch.tensor([3, 2]))

    def reads(block: EncoderBlock, mask: Mask = mask) -> bool:
        return compiled_blocks.reading_blocks([block], x, mask) is not None

    def block(eight_bits: bool = True) -> EncoderBlock:
        made = EncoderBlock(SelfAttention(16, 2), FeedForward(16, 24), PostNorm(16), PostNorm(16)).eval()
        if eight_bits:
            to_int8(made)
        return made

    assert reads(block())
    assert not reads(block(eight_bits=False))
    assert not reads(block().train())
    assert not reads(block(), Mask(causal=True))
    assert not reads(block(), Mask(band=2))
    banded = block(eight_bits=False)
    banded.self_attention = BandedSelfAttention(16, 2, 2)
    to_int8(banded)
    assert not reads(banded)
    narrow = block(eight_bits=False)
    narrow.self_attention = SelfAttention(16, 4)
    to_int8(narrow)
    assert not reads(narrow)
    watched = block()
    watched.self_attention.tap = lambda _: None
    assert not reads(watched)
    with torch.enable_grad():
        assert not reads(block())
    assert read_through([], x, mask) is x
    assert read_through([block()], x[:0], Mask(torch.tensor([], dtype=torch.int64))).shape == (0, 3, 16)


class _Adapted(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@torch.no_grad()
def test_who_takes_the_compiled_step() -> None:
    def takes(block: CausalBlock, rows: int = 1) -> bool:
        dim = block.self_attention.query.in_features
        x = torch.randn(rows, 1, dim)
        cache = block.self_attention.new_cache(Lineage(rows, 1, x.device), x)
        return compiled_blocks.compiled_blocks([block], x, [cache]) is not None

    assert takes(random_block(16, 2, 24))
    assert not takes(random_block(16, 2, 24).train())
    assert not takes(random_block(16, 2, 24), rows=65)
    assert not takes(random_block(16, 2, 23))
    assert not takes(random_block(12, 3, 24))
    heard = random_block(16, 2, 24)
    heard.feed_forward.contract.register_forward_hook(lambda *_: None)
    assert not takes(heard)
    adapted = random_block(16, 2, 24)
    adapted.self_attention.query = _Adapted(16, 16)
    assert not takes(adapted)
    mixed = random_block(16, 2, 24)
    mixed.self_attention_residual = PostNorm(16)
    assert not takes(mixed)
    with torch.enable_grad():
        assert not takes(random_block(16, 2, 24))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.no_grad()
def test_what_is_no_number_stays_so(activation: ActivationName) -> None:
    block = random_block(16, 2, 24, activation)
    block.feed_forward.expand.bias[3] = torch.nan
    (found,) = run(block, [torch.randn(1, 1, 16)], {}, torch.empty(1, 0, 16))
    assert found.isnan().all()


@torch.no_grad()
def test_weights_that_are_replaced_meanwhile_stay_where_they_were() -> None:
    block = random_block(16, 2, 24)
    x = torch.randn(1, 1, 16)
    lineage = Lineage(1, 2, x.device)
    cache: KeyValueCache = block.self_attention.new_cache(lineage, x)
    other = copy.deepcopy(block)
    other_lineage = Lineage(1, 2, x.device)
    other_cache = other.self_attention.new_cache(other_lineage, x)
    for number in range(2):
        lineage.advance()
        other_lineage.advance()
        assert torch.equal(step_through([block], x, [cache]), step_through([other], x, [other_cache]))
        if not number:
            for parameter in other.parameters():
                parameter.data = torch.zeros_like(parameter)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("positions", [1, 7, 70])
@torch.no_grad()
def test_what_all_layers_look_at_is_projected_at_once(threads: int, positions: int) -> None:
    attentions = [EncoderDecoderAttention(24, 3).eval() for _ in range(3)]
    memory = torch.randn(2, positions, 24)
    for one in attentions:
        to_int8(one)
    with threads_of_torch(threads):
        together = remember_for_steps(attentions, memory)
    for found, one in zip(together, attentions, strict=True):
        expected = one.remember_for_steps(memory)
        assert one.lies_in_rows(found) and found.key.dtype == torch.bfloat16
        assert torch.equal(found.key, expected.key) and torch.equal(found.value, expected.value)


@torch.no_grad()
def test_what_a_search_remembered_goes_with_its_state() -> None:
    block, lineage = random_block(16, 2, 24), Lineage(1, 1, torch.device("cpu"))
    cache = block.self_attention.new_cache(lineage, torch.empty(0))
    lineage.advance()
    step_through([block], torch.randn(1, 1, 16), [cache])
    assert lineage.compiled is not None
    remembered = weakref.ref(cache.key)
    gc.disable()
    try:
        del cache, lineage
        assert remembered() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("eight_bits", [False, True])
@torch.no_grad()
def test_a_step_of_no_rows(eight_bits: bool) -> None:
    block, lineage = random_block(16, 2, 24), Lineage(2, 2, torch.device("cpu"))
    if eight_bits:
        to_int8(block)
    cache = block.self_attention.new_cache(lineage, torch.empty(0))
    lineage.select_rows(torch.tensor([], dtype=torch.int64))
    lineage.advance()
    assert step_through([block], torch.empty(0, 1, 16), [cache]).shape == (0, 1, 16)
