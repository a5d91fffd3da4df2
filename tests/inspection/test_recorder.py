"""Recording: chosen layers and heads, everything put back, and refusals."""

import pytest
import torch
from tests.models.zoo import random_batch, small_model

from trasluz.errors import RequestError
from trasluz.inspection.recorder import record_attention


@torch.inference_mode()
def test_chosen_layers_and_heads() -> None:
    model = small_model("transformer-post")
    batch = random_batch([4, 2], [3, 5])
    with record_attention(model) as everything:
        model(batch)
    with record_attention(model, layers=[1], heads=[1]) as chosen:
        model(batch)
    assert set(everything.encoder) == set(everything.cross) == {0, 1}
    assert set(chosen.encoder) == set(chosen.decoder) == set(chosen.cross) == {1}
    assert torch.equal(chosen.decoder[1].weights, everything.decoder[1].weights[:, 1:])
    assert everything.encoder[0].weights.shape == (2, 2, 5, 5)
    assert everything.decoder[0].weights.shape == (2, 2, 6, 6)
    assert torch.equal(everything.decoder[0].weights.triu(1), torch.zeros(2, 2, 6, 6))


def test_nothing_stays_behind() -> None:
    model = small_model("rnnsearch")
    with pytest.raises(ZeroDivisionError), record_attention(model):
        raise ZeroDivisionError
    assert all(attention.tap is None for stack in model.attentions().values() for attention in stack)


def test_a_recurrent_decoder_is_recorded_step_by_step() -> None:
    model = small_model("rnnsearch")
    with record_attention(model) as record:
        model(random_batch([4, 2], [3, 5]))
    assert record.cross[0].weights.shape == (2, 1, 6, 5)
    assert not record.cross[0].weights.requires_grad


def test_refusals() -> None:
    model = small_model("transformer-post")
    with (
        pytest.raises(RequestError, match="no layer 7; this model's attention layers are 0 to 1"),
        record_attention(model, layers=[7]),
    ):
        pass
    with (
        pytest.raises(RequestError, match="no head 2; this model's heads are 0 to 1"),
        record_attention(model, heads=[0, 2]),
    ):
        pass
    with pytest.raises(RequestError, match="no attention to look at"), record_attention(small_model("rnn-encdec")):
        pass
    with record_attention(model) as record:
        pass
    with pytest.raises(RequestError, match="nothing was recorded"):
        _ = record.cross[0].weights
    for empty in ("layers", "heads"):
        with pytest.raises(RequestError, match=f"{empty} is empty, so nothing"), record_attention(model, **{empty: []}):
            pass


@torch.inference_mode()
def test_a_record_within_a_record_leaves_the_outer_one_at_work() -> None:
    model = small_model("transformer-post")
    batch = random_batch([4, 2], [3, 5])
    with record_attention(model) as outer:
        with record_attention(model, layers=[0], heads=[1]) as inner:
            model(batch)
        model(batch)
    assert [len(outer.encoder[layer].parts) for layer in (0, 1)] == [2, 2]
    assert len(inner.encoder[0].parts) == 1
    assert torch.equal(inner.encoder[0].weights, outer.encoder[0].parts[1][:, 1:])
    assert all(attention.tap is None for stack in model.attentions().values() for attention in stack)


@torch.inference_mode()
def test_calls_that_do_not_go_together_say_so() -> None:
    model = small_model("transformer-post")
    with record_attention(model) as record:
        model(random_batch([4, 2], [3, 5]))
        model(random_batch([7, 2], [3, 5]))
    with pytest.raises(RequestError, match=r"texts of different numbers or lengths.*record each call in a `with"):
        _ = record.encoder[0].weights
    assert len(record.encoder[0].parts) == 2
