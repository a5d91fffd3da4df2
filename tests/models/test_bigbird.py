"""BigBird as a model: texts alone and together, both constructions, lengthening, and what it refuses."""

from typing import Any

import pytest
import torch

from trasluz.errors import ModelError
from trasluz.inspection.recorder import record_attention
from trasluz.models.bert import Bert
from trasluz.models.bigbird import BigBird, lengthened
from trasluz.models.registry import find_architecture, make_config, model_of
from trasluz.text.batching import TextBatch, make_text_batch

SIZES = {"vocab_size": 40, "model_dim": 16, "num_heads": 2, "feed_forward_dim": 24, "num_layers": 2}


def small(family: str, **fields: Any) -> Any:
    """Return a random encoder whose choices are clear."""
    model = model_of(make_config(find_architecture(family), {**SIZES, **fields}, family))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(20.0)
    return model.eval()


def bigbird(**fields: Any) -> BigBird:
    model = small("bigbird", block_size=4, num_random_blocks=1, max_positions=200, **fields)
    assert isinstance(model, BigBird)
    return model


def batch_of(*lengths: int) -> TextBatch:
    texts = [torch.randint(5, 40, (length,)).tolist() for length in lengths]
    return make_text_batch(texts, [[0] * length for length in lengths], pad_id=0)


@pytest.mark.parametrize("fields", [{}, {"global_tokens": 8}, {"full_up_to": 30}, {"attention": "full"}])
@torch.inference_mode()
def test_a_text_is_what_it_is_alone(fields: dict[str, Any]) -> None:
    model, batch = bigbird(**fields), batch_of(90, 41, 13, 1)
    together = model(batch)
    for row, length in enumerate(batch.lengths.tolist()):
        part = slice(row, row + 1)
        alone = model(TextBatch(batch.ids[part, :length], batch.lengths[part], batch.segments[part, :length]))
        torch.testing.assert_close(together[row, :length], alone[0], rtol=0, atol=2e-5)


@torch.inference_mode()
def test_layers_draw_blocks_of_their_own() -> None:
    config = bigbird().config
    counts = torch.tensor([40])
    first, second = (config.pattern(layer).slots(counts, 2, 40).blocks for layer in (0, 1))
    assert not torch.equal(first, second)


def test_layers_that_are_kept_see_what_they_saw() -> None:
    model = bigbird(num_layers=4)
    patterns = [model.config.pattern(layer) for layer in range(4)]
    thinner = model.with_layers([1, 3])
    assert [thinner.config.pattern(layer) for layer in (0, 1)] == [patterns[1], patterns[3]]
    assert thinner.with_layers([1]).config.pattern(0) == patterns[3]
    with pytest.raises(ModelError, match=r"`layer_seeds` must be one a layer, 2 of them, but are \[1\]"):
        bigbird(layer_seeds=[1])


@torch.inference_mode()
def test_a_seed_draws_other_blocks() -> None:
    model, batch = bigbird(), batch_of(150)
    other = BigBird(model.config.model_copy(update={"random_seed": 1})).eval()
    other.load_state_dict(model.state_dict())
    assert not torch.allclose(model(batch), other(batch), atol=1e-3)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
@torch.inference_mode()
def test_lengthened_it_reads_short_texts_as_before_and_longer_ones(family: str) -> None:
    fields = {"heads": ["classify"], "labels": ["a", "b"], "max_positions": 34 if family == "roberta" else 32}
    model = small(family, **fields)
    assert isinstance(model, Bert)
    longer = lengthened(model, 100, block_size=8, full_up_to=32).eval()
    assert longer.config.longest_text == 100
    batch = batch_of(32, 20)
    before, after = model(batch), longer(batch)
    for row, length in enumerate(batch.lengths.tolist()):
        torch.testing.assert_close(after[row, :length], before[row, :length], rtol=0, atol=2e-5)
    torch.testing.assert_close(longer.heads["classify"](after), model.heads["classify"](before), rtol=0, atol=2e-5)
    assert longer(batch_of(100)).shape == (1, 100, 16)
    table = longer.positions.weight
    assert torch.equal(table[:32], table[32:64]) and torch.equal(table[:4], table[96:])


@torch.inference_mode()
def test_lengthened_with_global_tokens() -> None:
    longer = lengthened(small("bert", max_positions=32), 64, block_size=8, global_tokens=16).eval()
    assert longer(batch_of(60)).shape == (1, 60, 16) and sum(longer.depths().values()) > 0


@torch.inference_mode()
def test_a_bigbird_with_full_attention_is_lengthened_as_any_bert() -> None:
    fields: dict[str, Any] = {"heads": ["classify"], "labels": ["a", "b"], "random_plan": "huggingface-eval"}
    model, batch = bigbird(attention="full", **fields), batch_of(150, 20)
    longer = lengthened(model, 300, block_size=8, full_up_to=200).eval()
    assert (longer.config.attention, longer.config.random_plan) == ("block-sparse", "paper")
    before, after = model(batch), longer(batch)
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(longer.heads["classify"](after), model.heads["classify"](before), rtol=0, atol=2e-5)
    assert longer(batch_of(300)).shape == (1, 300, 16)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ModelError, match="is a BigBird already, and cannot be lengthened again"):
        lengthened(bigbird(attention="full", global_tokens=8), 400)
    with pytest.raises(ModelError, match="is a BigBird already, and cannot be lengthened again"):
        lengthened(bigbird(), 400)
    with pytest.raises(ModelError, match="reads 32 tokens already; `max_positions` must be more, but is 32"):
        lengthened(small("bert", max_positions=32), 32)
    with pytest.raises(ModelError, match=r"`global_tokens` must be a multiple of `block_size` \(4\), but is 6"):
        bigbird(global_tokens=6)
    batch = batch_of(9)
    packed = TextBatch(batch.ids, batch.lengths, batch.segments, positions=torch.arange(9)[None] % 5)
    with pytest.raises(ModelError, match="reads one text a row, but several are packed into each here"):
        bigbird()(packed)
    with pytest.raises(ModelError, match="global tokens stand before one text a row, but several are packed"):
        bigbird(attention="full", global_tokens=8)(packed)
    assert not bigbird().reads_rows and not bigbird(attention="full", global_tokens=8).reads_rows
    bert = small("bert", max_positions=32)
    for name in ("num_heads", "num_layers", "first_position", "vocab_size", "model_dim", "activation"):
        with pytest.raises(ModelError, match=f"`lengthen` takes no '{name}', since the weights stay"):
            lengthened(bert, 64, **{name: 4})
    with pytest.raises(ModelError, match=r"takes no 'blok_size'.* did you mean 'block_size'"):
        lengthened(bert, 64, blok_size=4)


@torch.inference_mode()
def test_global_tokens_go_along_under_other_heads_and_in_fewer_layers() -> None:
    model, batch = bigbird(global_tokens=8, heads=["fill-mask"]), batch_of(40)
    classifier = model.with_heads(["classify"], ["a", "b"]).eval()
    assert torch.equal(classifier(batch), model(batch))
    thinner = model.with_layers([1])
    assert torch.equal(thinner.global_embedding, model.global_embedding)


@pytest.mark.parametrize("fields", [{}, {"global_tokens": 8}])
@torch.inference_mode()
def test_the_longest_text_that_is_looked_over_whole_counts_its_own_words(fields: dict[str, Any]) -> None:
    model = bigbird(full_up_to=30, **fields)
    extra = model.config.global_tokens
    for length, whole in ((30, True), (31, False)):
        with record_attention(model) as record:
            model(batch_of(length))
        weights = record.encoder[0].weights
        assert weights.shape[-1] == length + extra
        assert bool((weights[0] > 0).all()) == whole


def test_a_large_seed_draws_blocks() -> None:
    assert bigbird(random_seed=20_000_000_000_000)(batch_of(60)).isfinite().all()
