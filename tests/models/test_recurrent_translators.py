"""The deep recurrent translators against their papers' formulas, written out layer by layer and step by step."""

from typing import Any

import pytest
import torch
from tests.models.zoo import random_batch, small_model
from torch import Tensor
from torch.nn.functional import linear


def lstm(layer: Any, x: Tensor, state: tuple[Tensor, Tensor], number: int = 0, back: bool = False) -> Any:
    """Return the next state of one layer of torch's long short-term memory."""
    of_input, of_state, bias, other = (
        getattr(layer, f"{kind}_l{number}{'_reverse' if back else ''}")
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    enter, forget, proposal, leave = (linear(x, of_input, bias) + linear(state[0], of_state, other)).chunk(4, -1)
    cell = forget.sigmoid() * state[1] + enter.sigmoid() * proposal.tanh()
    return leave.sigmoid() * cell.tanh(), cell


def zeros(dim: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(dim), torch.zeros(dim)


def run(layer: Any, words: list[Tensor], dim: int, number: int = 0, back: bool = False) -> list[Tensor]:
    state, found = zeros(dim), []
    for word in reversed(words) if back else words:
        state = lstm(layer, word, state, number, back)
        found.append(state[0])
    return found[::-1] if back else found


@pytest.mark.parametrize("grad", [False, True])
def test_gnmt_is_what_the_paper_says(grad: bool) -> None:
    model: Any = small_model("gnmt")
    dim, batch = model.config.hidden_dim, random_batch([5, 3], [4, 6])
    with torch.set_grad_enabled(grad):
        found = model(batch).detach()
    with torch.no_grad():
        for row in range(2):
            words = [*model.source_embedding(batch.source[row : row + 1, : batch.source_lengths[row]])[0]]
            both = model.bottom_encoder.recurrence
            ways = [run(both, words, dim, back=back) for back in (False, True)]
            x = [torch.cat(pair) for pair in zip(*ways, strict=True)]
            for number, layer in enumerate(model.encoder.layers):
                new = run(layer.recurrence, x, dim)
                x = [a + b for a, b in zip(new, x, strict=True)] if number else new
            attention, cell = model.attention, model.bottom_decoder
            bottom: Any = tuple(part[None] for part in zeros(dim))
            others = [zeros(dim) for _ in model.decoder.layers]
            for place, word in enumerate(model.target_embedding(batch.target_input[row : row + 1])[0]):
                query = attention.query(bottom[0][0])
                scores = torch.stack([attention.score((query + attention.key(h)).tanh())[0] for h in x])
                context = sum((w * h for w, h in zip(scores.softmax(0), x, strict=True)), torch.zeros(dim))
                bottom = cell(cell.input(torch.cat([word, context])[None]), bottom)
                y = bottom[0][0]
                for number, layer in enumerate(model.decoder.layers):
                    others[number] = lstm(layer.recurrence, torch.cat([y, context]), others[number])
                    y = others[number][0] + y if number else others[number][0]
                if place < batch.target_lengths[row]:
                    torch.testing.assert_close(found[row, place], y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["luong", "luong-unfed"])
def test_luong_is_what_the_paper_says(name: str) -> None:
    model: Any = small_model(name)
    dim, batch, layers = model.config.hidden_dim, random_batch([5, 3], [4, 6]), model.config.num_layers
    encoder, decoder = model.encoder.recurrence, model.decoder.recurrence
    with torch.no_grad():
        found = model(batch)
        for row in range(2):
            states = [zeros(dim) for _ in range(layers)]
            memory = []
            for word in model.source_embedding(batch.source[row : row + 1, : batch.source_lengths[row]])[0]:
                x = word
                for number in range(layers):
                    states[number] = lstm(encoder, x, states[number], number)
                    x = states[number][0]
                memory.append(x)
            fed = torch.zeros(dim)
            for place, word in enumerate(model.target_embedding(batch.target_input[row : row + 1])[0]):
                x = torch.cat([word, fed]) if model.config.input_feeding else word
                for number in range(layers):
                    states[number] = lstm(decoder, x, states[number], number)
                    x = states[number][0]
                scores = torch.stack([x @ model.attention.key.weight @ h for h in memory])
                context = sum((w * h for w, h in zip(scores.softmax(0), memory, strict=True)), torch.zeros(dim))
                fed = model.combine(torch.cat([context, x])).tanh()
                if place < batch.target_lengths[row]:
                    torch.testing.assert_close(found[row, place], fed, rtol=1e-4, atol=1e-5)
