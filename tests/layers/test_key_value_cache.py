"""What is remembered is found again, whoever moved: against lists that are copied about."""

import random

import pytest
import torch
from torch import Tensor

from trasluz.layers.attention import KeyValue
from trasluz.layers.key_value_cache import KeyValueCache, Lineage


@pytest.mark.parametrize(
    ("num_sources", "num_beams", "prompt_length"), [(1, 1, 4), (3, 1, 4), (1, 3, 4), (3, 2, 5), (2, 2, 0)]
)
@pytest.mark.parametrize("seed", range(3))
def test_every_row_finds_its_prompt_and_its_past(
    num_sources: int, num_beams: int, prompt_length: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    rows, capacity = num_sources * num_beams, 6
    lineage = Lineage(rows, capacity, torch.device("cpu"), prompt_length, num_sources)
    assert lineage.num_slots == num_sources * prompt_length + rows * capacity
    cache = KeyValueCache(*(torch.full((lineage.num_slots, 2, 3), torch.nan) for _ in range(2)), lineage)
    prompts = torch.randn(num_sources, 2, prompt_length, 3)
    cache.write_prompt(KeyValue(prompts, -prompts))
    pasts = [list(prompts[row // num_beams].unbind(1)) for row in range(rows)]
    for step in range(capacity):
        lineage.advance()
        new = torch.randn(len(pasts), 2, 3)
        cache.write(KeyValue(new, -new))
        pasts = [[*past, own] for past, own in zip(pasts, new, strict=True)]
        found = cache.read()
        expected = torch.stack([torch.stack(past, dim=1) for past in pasts])
        assert torch.equal(found.key, expected) and torch.equal(found.value, -expected)
        assert lineage.num_positions == prompt_length + step + 1
        if step >= seed:
            # Some come twice, some leave; the first time, perhaps nobody moves.
            kept = torch.randint(0, len(pasts), (max(1, len(pasts) - step // 2),), generator=draw)
            lineage.select_rows(kept)
            pasts = [pasts[row] for row in kept.tolist()]


@pytest.mark.parametrize("seed", range(30))
def test_rows_that_come_later_find_their_past_in_a_ring(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Little room at first, so that the ring closes, and grows whether closed or not.
    monkeypatch.setattr("trasluz.layers.key_value_cache.FIRST_STEPS", 3)
    draw = random.Random(seed)
    rows = draw.randint(1, 6)
    lineage = Lineage(rows, 50, torch.device("cpu"))
    cache = KeyValueCache(*(torch.zeros(lineage.num_slots, 2, 3) for _ in range(2)), lineage)
    pasts: list[list[Tensor]] = [[] for _ in range(rows)]
    sizes = set()
    for _ in range(120):
        lineage.advance()
        new = torch.randn(len(pasts), 2, 3)
        cache.write(KeyValue(new, -new))
        pasts = [[*past, own] for past, own in zip(pasts, new, strict=True)]
        found, mask = cache.read(), lineage.mask()
        longest = max(map(len, pasts))
        assert lineage.length == longest and found.key.shape == (len(pasts), 2, longest, 3)
        seen = mask.dense(1, longest)[:, 0].expand(len(pasts), -1)
        for row, past in enumerate(pasts):
            assert seen[row].tolist() == [place < len(past) for place in range(longest)]
            assert torch.equal(found.key[row, :, : len(past)], torch.stack(past, dim=1))
            assert torch.equal(found.value[row, :, : len(past)], -torch.stack(past, dim=1))
        assert lineage.spans()[1].tolist() == [len(past) for past in pasts]
        sizes.add(lineage.num_slots)
        # The oldest leave more often than others, as they do in a search.
        if draw.random() < 0.4:
            kept = [row for row in range(len(pasts)) if draw.random() > min(len(pasts[row]), 20) / 25]
            kept = draw.sample(kept, len(kept)) if draw.random() < 0.3 else kept
            lineage.select_rows(torch.tensor(kept, dtype=torch.int64))
            pasts = [list(pasts[row]) for row in kept]
        if not pasts or draw.random() < 0.3:
            come = draw.randint(1, 3)
            lineage.join(come)
            pasts += [[] for _ in range(come)]
    assert len(sizes) > 1


def test_a_ring_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trasluz.layers.key_value_cache.FIRST_STEPS", 8)
    lineage = Lineage(4, 100, torch.device("cpu"))
    for step in range(1000):
        lineage.advance()
        if step % 5 == 4:
            # The two oldest leave, two others come: nobody is older than ten steps.
            lineage.select_rows(torch.tensor([2, 3]))
            lineage.join(2)
    assert lineage.num_slots <= 64
