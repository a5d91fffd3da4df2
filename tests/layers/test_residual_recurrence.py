"""A stack with shortcuts against its layers one by one, and its states against reading on from them."""

import torch

from trasluz.layers.residual_recurrence import ResidualRecurrentStack


def test_every_layer_but_the_first_adds_to_what_it_reads() -> None:
    stack = ResidualRecurrentStack("lstm", 6, 5, 3, beside_dim=4)
    x, beside = torch.randn(2, 7, 6), torch.randn(2, 7, 4)
    found, last = stack(x, beside)
    expected, states = x, []
    for number, layer in enumerate(stack.layers):
        new, state = layer(torch.cat([expected, beside], -1))
        expected = new + expected if number else new
        states.append(state)
    torch.testing.assert_close(found, expected)
    assert [part.shape for part in last] == [(2, 3, 5), (2, 3, 5)]
    for part, number in ((part, number) for part in (0, 1) for number in range(3)):
        torch.testing.assert_close(last[part][:, number], states[number][part][:, 0])


def test_reading_on_from_its_states_is_reading_all() -> None:
    stack = ResidualRecurrentStack("gru", 5, 5, 3)
    x = torch.randn(2, 7, 5)
    whole, last = stack(x)
    first, between = stack(x[:, :4])
    second, end = stack(x[:, 4:], state=between)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(end[0], last[0])
