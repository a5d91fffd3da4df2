"""The states of a few places are those that the whole encoder computes there: so are gradients and what is recorded."""

from typing import Any

import pytest
import torch

from trasluz.inspection.recorder import record_attention
from trasluz.layers.kept_rows import in_few_sizes
from trasluz.models.registry import find_architecture, make_config, model_of
from trasluz.text.batching import Places, TextBatch, make_text_batch, make_text_row

VOCAB_SIZE = 40
LENGTHS = [9, 40, 3, 17]
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": {},
    "roberta": {},
    "bigbird": {"block_size": 4, "num_random_blocks": 1},
    "bigbird with global tokens": {"block_size": 4, "num_random_blocks": 1, "global_tokens": 4},
    "bigbird, full": {"attention": "full", "block_size": 4, "global_tokens": 4},
}


def small_encoder(name: str) -> Any:
    family = name.partition(" ")[0].strip(",")
    sizes = {"model_dim": 32, "num_heads": 2, "feed_forward_dim": 48, "num_layers": 3, "max_positions": 48}
    fields = {"vocab_size": VOCAB_SIZE, "dropout": 0.0, "attention_dropout": 0.0, "initial_deviation": 0.4}
    torch.manual_seed(3)
    config = make_config(find_architecture(family), {**sizes, **fields, **ENCODERS[name]}, family)
    model: Any = model_of(config)
    return model.eval()


def random_texts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(4, VOCAB_SIZE, (length,), generator=generator).tolist() for length in LENGTHS]


def batch_of(texts: list[list[int]]) -> TextBatch:
    return make_text_batch(texts, [[0] * len(text) for text in texts], pad_id=1)


# Out of order, one of them twice, none of the third text.
SOME = Places(torch.tensor([1, 0, 3, 1, 1, 0]), torch.tensor([39, 0, 5, 2, 2, 8]))


@pytest.mark.parametrize("name", ENCODERS)
def test_states_and_gradients_of_some_places_are_those_of_all(name: str) -> None:
    model, batch = small_encoder(name), batch_of(random_texts())
    all_states, states = model(batch), model(batch, SOME)
    expected = all_states[SOME.rows, SOME.columns]
    assert states.shape == (6, 32)
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5)
    parameters = list(model.parameters())
    wanted = torch.randn(6, 32)
    ours, theirs = (
        torch.autograd.grad((one * wanted).sum(), parameters, allow_unused=True, materialize_grads=True)
        for one in (states, expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_places_of_texts_that_share_a_row_are_found_there() -> None:
    model, texts = small_encoder("bert"), random_texts()
    row = make_text_row(texts, [[0] * len(text) for text in texts], pad_id=1, multiple=8)
    begins = torch.tensor([0, 9, 49, 52])
    there = model(row, Places(torch.zeros(6, dtype=torch.long), SOME.columns + begins[SOME.rows]))
    torch.testing.assert_close(there, model(batch_of(texts), SOME), rtol=0, atol=1e-5)


def test_first_places_are_the_beginnings() -> None:
    model, batch = small_encoder("roberta"), batch_of(random_texts())
    torch.testing.assert_close(model(batch, batch.first_places), model(batch)[:, 0], rtol=0, atol=1e-5)


def test_no_place_is_no_state() -> None:
    nowhere = Places(*(torch.zeros(0, dtype=torch.long) for _ in range(2)))
    assert small_encoder("bert")(batch_of(random_texts()), nowhere).shape == (0, 32)


def test_recorded_attention_is_that_of_all_positions() -> None:
    model, batch = small_encoder("bert"), batch_of(random_texts())
    with record_attention(model) as whole:
        model(batch)
    with record_attention(model) as some:
        model(batch, SOME)
    assert len(whole.encoder) == 3
    for layer, recorded in whole.encoder.items():
        assert torch.equal(recorded.weights, some.encoder[layer].weights)


def test_rows_come_in_few_sizes_where_products_are_compiled_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {0: 0, 1: 1, 16: 16, 17: 32, 63: 64, 64: 64, 65: 128, 640: 640}
    for leads in (True, False):
        monkeypatch.setattr("trasluz.layers.kept_rows.onednn_leads", lambda _, leads=leads: leads)
        for count, size in sizes.items():
            kept = torch.arange(count) * 3
            rounded = in_few_sizes(kept, torch.bfloat16)
            assert torch.equal(rounded[:count], kept)
            assert len(rounded) == (size if leads else count)
            assert not count or (rounded[count:] == kept[-1]).all()
