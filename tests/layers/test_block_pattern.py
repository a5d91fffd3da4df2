"""Which blocks see which: as the paper draws it, the same at any room, in any company and on any machine."""

import pytest
import torch

from trasluz.layers.block_pattern import BlockPattern


def seen(pattern: BlockPattern, num_blocks: int, block: int, head: int = 0, room: int = 0) -> list[int]:
    """Return the blocks that a block sees, in the order of the slots."""
    slots = pattern.slots(torch.tensor([num_blocks]), 2, num_blocks + room)
    return slots.blocks[0, head, block][slots.used[0, head, block]].tolist()


def test_the_window_the_global_blocks_and_the_drawn_ones() -> None:
    pattern = BlockPattern(block_size=64, num_random=2)
    for block in range(2, 10):
        found = seen(pattern, 12, block)
        assert found[:5] == [0, block - 1, block, block + 1, 11]
        assert len(set(found)) == 7
    assert seen(pattern, 12, 1)[:4] == [0, 1, 2, 11]
    assert seen(pattern, 12, 10)[:4] == [0, 9, 10, 11]


@pytest.mark.parametrize("num_blocks", range(1, 9))
def test_no_block_is_seen_twice_and_short_texts_are_seen_whole(num_blocks: int) -> None:
    pattern = BlockPattern(block_size=4, num_random=3)
    for block in range(1, num_blocks - 1):
        found = seen(pattern, num_blocks, block)
        assert len(set(found)) == len(found)
        # At the edges the window is a global block in part: one slot fewer.
        if num_blocks <= 7:
            assert sorted(found) == list(range(num_blocks))


def test_room_and_company_change_nothing() -> None:
    pattern = BlockPattern(block_size=8, num_random=3, seed=5)
    together = pattern.slots(torch.tensor([30, 12]), 2, 40)
    for row, num_blocks in enumerate((30, 12)):
        alone = pattern.slots(torch.tensor([num_blocks]), 2, num_blocks)
        inner = slice(1, num_blocks - 1)
        assert torch.equal(together.blocks[row, :, inner], alone.blocks[0, :, inner])
        assert torch.equal(together.used[row, :, inner], alone.used[0, :, inner])


def test_heads_and_seeds_draw_differently_and_the_same_again() -> None:
    pattern = BlockPattern(block_size=8, num_random=3, seed=1)
    first = [seen(pattern, 60, block) for block in range(2, 58)]
    assert first == [seen(BlockPattern(8, 3, seed=1), 60, block) for block in range(2, 58)]
    assert first != [seen(pattern, 60, block, head=1) for block in range(2, 58)]
    assert first != [seen(BlockPattern(8, 3, seed=2), 60, block) for block in range(2, 58)]
    # Written down once: what a stored seed means must never change.
    assert seen(BlockPattern(8, 3, seed=0), 60, 20)[5:] == [11, 24, 49]


def test_draws_are_spread_evenly() -> None:
    pattern = BlockPattern(block_size=1, num_random=3)
    slots = pattern.slots(torch.tensor([40]), 64, 40)
    drawn = slots.blocks[0, :, 20, 5:].flatten()
    counts = torch.bincount(drawn, minlength=40)
    assert counts[[0, 19, 20, 21, 39]].sum() == 0
    # 192 draws over 35 blocks, 5.5 each in the mean.
    assert 1 <= int(counts[counts > 0].min()) and int(counts.max()) <= 16 and int((counts > 0).sum()) >= 30


def test_the_extended_construction_has_its_global_blocks_in_front_only() -> None:
    pattern = BlockPattern(block_size=4, num_random=0, num_first=2, num_last=0)
    assert seen(pattern, 9, 5) == [0, 1, 4, 5, 6]
    assert seen(pattern, 9, 8) == [0, 1, 7, 8]


def test_a_block_that_stands_several_times_is_a_global_one() -> None:
    with pytest.raises(AssertionError, match="huggingface-eval repeats a global block"):
        BlockPattern(block_size=4, num_random=1, num_first=0, random_plan="huggingface-eval")


def test_the_plan_of_hugging_face_takes_the_first_block_again() -> None:
    pattern = BlockPattern(block_size=4, num_random=3, random_plan="huggingface-eval")
    assert seen(pattern, 20, 9) == [0, 8, 9, 10, 19, 0, 0, 0]
