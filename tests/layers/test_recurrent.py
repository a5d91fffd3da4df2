"""Recurrent cells against the papers' formulas, stacks against sentences alone."""

import pytest
import torch
from torch import nn

from trasluz.layers.recurrent import CellName, GRUCell, LSTMCell, MaxoutReadout, RecurrentStack


def test_gated_recurrent_unit_is_the_papers() -> None:
    cell = GRUCell(4, 3)
    x, s = torch.randn(2, 4), torch.randn(2, 3)
    w_z, w_r, w = cell.input.weight.split(3)
    b_z, b_r, b = cell.input.bias.split(3)
    u_z, u_r = cell.gates.weight.split(3)
    u = cell.proposal.weight
    z = torch.sigmoid(x @ w_z.T + b_z + s @ u_z.T)
    r = torch.sigmoid(x @ w_r.T + b_r + s @ u_r.T)
    proposal = torch.tanh(x @ w.T + b + (r * s) @ u.T)
    (after,) = cell(cell.input(x), (s,))
    torch.testing.assert_close(after, (1 - z) * s + z * proposal)


def test_long_short_term_memory_equals_torchs() -> None:
    cell, twin = LSTMCell(4, 3), nn.LSTMCell(4, 3)
    order = [0, 1, 3, 2]  # torch: input, forget, cell, output
    with torch.no_grad():
        for ours, theirs in ((cell.input.weight, twin.weight_ih), (cell.input.bias, twin.bias_ih)):
            theirs.copy_(torch.cat([ours.split(3)[part] for part in order]))
        twin.weight_hh.copy_(torch.cat([cell.gates.weight.split(3)[part] for part in order]))
        twin.bias_hh.zero_()
    x, state = torch.randn(2, 4), (torch.randn(2, 3), torch.randn(2, 3))
    for ours, theirs in zip(cell(cell.input(x), state), twin(x, state), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_each_sentence_ends_at_its_own_last_word(cell: CellName, bidirectional: bool) -> None:
    stack = RecurrentStack(cell, 4, 3, num_layers=2, bidirectional=bidirectional)
    x = torch.randn(2, 6, 4)
    outputs, last = stack(x, torch.tensor([4, 6]))
    alone, alone_last = stack(x[:1, :4])
    torch.testing.assert_close(outputs[:1, :4], alone)
    assert torch.equal(outputs[0, 4:], torch.zeros_like(outputs[0, 4:]))
    for together, single in zip(last, alone_last, strict=True):
        assert together.shape == (2, 4 if bidirectional else 2, 3)
        torch.testing.assert_close(together[:1], single)


def test_a_stack_goes_on_from_a_state() -> None:
    stack = RecurrentStack("gru", 4, 3)
    x = torch.randn(2, 6, 4)
    whole, _ = stack(x)
    _, middle = stack(x[:, :3])
    torch.testing.assert_close(stack(x[:, 3:], state=middle)[0], whole[:, 3:])


def test_maxout_takes_the_larger_of_each_pair() -> None:
    readout = MaxoutReadout(3, 4, 5, readout_dim=2)
    state, embedding, context = torch.randn(1, 2, 3), torch.randn(1, 2, 4), torch.randn(1, 1, 5)
    t = readout.state(state) + readout.embedding(embedding) + readout.context(context)
    expected = torch.stack([torch.maximum(t[..., 0], t[..., 1]), torch.maximum(t[..., 2], t[..., 3])], dim=-1)
    torch.testing.assert_close(readout(state, embedding, context), expected)
