"""What models are said to compute, against what PyTorch counts while they do."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.models.zoo import SMALL_MODELS, VOCAB_SIZE, random_batch, small_model
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import linear
from torch.nn.utils.rnn import PackedSequence
from torch.utils.flop_counter import FlopCounterMode

from trasluz.layers import dot_product_attention, kept_rows, products
from trasluz.models.registry import architectures, build_model
from trasluz.text.batching import Places, TextBatch, make_causal_batch


@pytest.fixture(autouse=True)
def products_that_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nor what goes on inside ours, or what oneDNN is asked for directly.
    monkeypatch.setattr(dot_product_attention, "takes_texts", lambda *_: False)
    for module in (products, kept_rows):
        monkeypatch.setattr(module, "onednn_leads", lambda dtype: False)


def counted(work: Any) -> int:
    # What goes on inside its fused kernel for a CPU, PyTorch does not count; written out it does.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


_lstm_forward = nn.LSTM.forward


def _with_products(self: nn.LSTM, x: Any, state: Any = None) -> Any:
    """Do the products of a long short-term memory beside its kernel, inside which PyTorch does not count."""
    positions = len(x.data) if isinstance(x, PackedSequence) else x.shape[0] * x.shape[1]
    for name, weight in self.named_parameters():
        if name.startswith("weight"):
            linear(torch.zeros(positions, weight.shape[1]), weight)
    return _lstm_forward(self, x, state)


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_translators(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.LSTM, "forward", _with_products)
    model: Any = small_model(name)
    # Sources have their end as well.
    batch = random_batch([8, 8, 8], [11, 11, 11])
    source, target = batch.source.shape[1], batch.target_input.shape[1]
    workload = next(one.workload(model.config) for one in architectures().values() if one.model_class is type(model))
    assert workload.reads_a_source and workload.head_vocab_size == VOCAB_SIZE
    expected = 3 * workload.forward_operations(source, target)
    found = counted(lambda: model.output_head(model(batch)))
    # Additive attention is sums and not products; how a recurrent model begins is left out.
    assert found == pytest.approx(expected, rel=0.12 if name.startswith(("rnn", "gnmt")) else 1e-9)


@pytest.mark.parametrize("preset", ["bert-tiny", "distilbert"])
def test_encoders(preset: str) -> None:
    shape = {"num_layers": 3, "model_dim": 20, "num_heads": 4, "feed_forward_dim": 28, "max_positions": 30}
    model: Any = build_model({"preset": preset, **shape}, vocab_size=50, heads=["fill-mask"])
    batch = TextBatch(torch.randint(1, 50, (2, 20)), torch.tensor([20, 20]), torch.zeros(2, 20, dtype=torch.int64))
    workload = architectures()["bert"].workload(model.config)
    # The head sees 3 of 20 positions: 15 %.
    judged = Places(torch.arange(2).repeat_interleave(3), torch.arange(3).repeat(2))
    found = counted(lambda: model.heads["fill-mask"](model(batch, judged)))
    assert found == 2 * workload.forward_operations(0, 20)
    assert not workload.reads_a_source


@pytest.mark.parametrize("length", [15, 20, 64])
@pytest.mark.parametrize(
    "choices",
    [{}, {"global_tokens": 8}, {"full_up_to": 20}, {"attention": "full"}, {"num_random_blocks": 0}],
    ids=lambda choices: next(iter(choices), "plain"),
)
def test_encoders_of_long_texts(length: int, choices: dict[str, Any]) -> None:
    shape = {"num_layers": 3, "model_dim": 20, "num_heads": 4, "feed_forward_dim": 28, "max_positions": 64}
    preset = {"preset": "bigbird-base", "block_size": 4, "num_random_blocks": 1, **shape, **choices}
    model: Any = build_model(preset, vocab_size=50, heads=["fill-mask"]).eval()
    segments = torch.zeros(2, length, dtype=torch.int64)
    batch = TextBatch(torch.randint(1, 50, (2, length)), torch.tensor([length] * 2), segments)
    encoder = replace(architectures()["bigbird"].workload(model.config), head_dim=0, judged_share=1.0)
    assert counted(lambda: model(batch)) == 2 * encoder.forward_operations(0, length)


@pytest.mark.parametrize("band", [None, 1, 4, 7, 20, 25])
def test_decoders_alone(band: int | None) -> None:
    shape = {"num_layers": 3, "model_dim": 20, "num_heads": 4, "feed_forward_dim": 28, "max_positions": 30}
    model: Any = build_model({"preset": "gpt2", "band": band, **shape}, vocab_size=50)
    batch = make_causal_batch(torch.randint(0, 50, (2, 21)).tolist(), pad_id=0)
    workload = architectures()["gpt"].workload(model.config)
    assert counted(lambda: model.output_head(model(batch))) == 2 * workload.forward_operations(0, 20)
    assert not workload.reads_a_source


@pytest.mark.parametrize("num_memory_heads", [1, 2, 4])
def test_modern_decoders(num_memory_heads: int) -> None:
    shape = {"num_layers": 3, "model_dim": 24, "num_heads": 4, "feed_forward_dim": 28}
    preset = {"preset": "gpt-modern-small", "num_memory_heads": num_memory_heads, **shape}
    model: Any = build_model(preset, vocab_size=50)
    batch = make_causal_batch(torch.randint(0, 50, (2, 21)).tolist(), pad_id=0)
    workload = architectures()["gpt-modern"].workload(model.config)
    assert counted(lambda: model.output_head(model(batch))) == 2 * workload.forward_operations(0, 20)
