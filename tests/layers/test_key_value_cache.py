"""What is remembered is found again, whoever moved: against lists that are copied about."""

import pytest
import torch

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
