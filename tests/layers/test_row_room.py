"""Matrices with room behind their last row, and products made of a few more rows than there are."""

import pytest
import torch

from trasluz.layers import row_room
from trasluz.layers.row_room import empty_rows, whole_rows, with_room


@pytest.fixture(autouse=True)
def _onednn_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_room, "onednn_leads", lambda dtype: dtype == torch.bfloat16)


@pytest.mark.parametrize("rows", [511, 512, 700, 1023, 4097])
def test_there_is_room_up_to_a_size_among_few(rows: int) -> None:
    made = empty_rows((rows, 8), torch.bfloat16)
    assert made.shape == (rows, 8) and made.is_contiguous()
    assert not made._is_view()
    roomy = with_room(made)
    assert roomy.data_ptr() == made.data_ptr()
    assert rows <= len(roomy) <= rows * 17 / 16 + 1
    # Sixteen sizes an octave, wherever the matrix comes from.
    assert len(with_room(torch.zeros(rows, 8, dtype=torch.bfloat16))) == len(roomy)
    assert len({row_room._rounded(count, torch.bfloat16) for count in range(1024, 2048)}) == 17


def test_rows_of_several_axes() -> None:
    made = empty_rows((30, 20, 2, 4), torch.bfloat16, row_axes=2)
    assert made.shape == (30, 20, 2, 4)
    assert with_room(made.view(600, 8)).data_ptr() == made.data_ptr()


def test_what_has_no_room_is_copied_and_stays_as_it_is() -> None:
    whole = torch.randn(1_400, 8).bfloat16()
    first = whole[:700]
    roomy = with_room(first)
    # What stands behind these rows is only read, never written.
    assert torch.equal(roomy[:700], first)
    last = whole[700:]
    assert torch.equal(with_room(last)[:700], last)
    turned = torch.randn(8, 700).bfloat16().t()
    assert torch.equal(with_room(turned)[:700], turned)


@pytest.mark.parametrize("rows", [3, 512, 700, 1_024])
def test_whole_rows(rows: int) -> None:
    whole, step = whole_rows(rows, torch.bfloat16)
    assert whole <= rows <= whole + step
    assert len(with_room(torch.zeros(rows, 8, dtype=torch.bfloat16))) == whole + step


def test_where_sizes_do_not_matter_nothing_is_added() -> None:
    assert len(with_room(empty_rows((700, 8), torch.float32))) == 700
    assert whole_rows(700, torch.float32) == (700, 0)
