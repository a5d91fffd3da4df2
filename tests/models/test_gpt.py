"""A GPT, and its modern form: stepping = all at once, prompts held once, no look ahead, and the sizes of the papers."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from trasluz.decoding.beam_search import beam_search
from trasluz.decoding.settings import DecodingTokens, SearchSettings
from trasluz.errors import ModelError, RequestError
from trasluz.inspection.recorder import record_attention
from trasluz.layers.int8 import to_int8
from trasluz.models.causal_decoder import CausalDecoder
from trasluz.models.gpt import Gpt
from trasluz.models.registry import build_config, build_model, find_architecture, model_of
from trasluz.text.batching import make_causal_batch, make_window_batch

VOCAB_SIZE = 29
# Heads of 8, for which there may be a compiled kernel, and of 5, for which there is none.
SHAPES: dict[str, dict[str, Any]] = {
    "eights": {"model_dim": 16, "num_heads": 2, "feed_forward_dim": 24, "num_layers": 2},
    "odd": {"model_dim": 15, "num_heads": 3, "feed_forward_dim": 11, "num_layers": 3, "activation": "gelu"},
    "banded": {"model_dim": 16, "num_heads": 2, "feed_forward_dim": 24, "num_layers": 4, "band": 3},
    "odd-banded": {"model_dim": 15, "num_heads": 3, "feed_forward_dim": 11, "num_layers": 2, "band": 4},
    "modern": {
        "preset": "gpt-modern-small",
        "model_dim": 32,
        "num_heads": 4,
        "num_memory_heads": 2,
        "feed_forward_dim": 24,
        "num_layers": 2,
    },
    "odd-modern": {
        "preset": "gpt-modern-small",
        "model_dim": 18,
        "num_heads": 3,
        "num_memory_heads": 1,
        "feed_forward_dim": 11,
        "num_layers": 3,
        "tied_embeddings": False,
    },
}
every_shape = pytest.mark.parametrize("name", SHAPES)


def small_gpt(name: str) -> Any:
    """Return a random model whose choices are clear."""
    fields = {"preset": "gpt2", "max_positions": 40, **SHAPES[name]}
    model = build_model(fields, vocab_size=VOCAB_SIZE, eos_id=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    assert isinstance(model, CausalDecoder)
    return model.eval()


def random_texts(*lengths: int) -> list[list[int]]:
    return [torch.randint(1, VOCAB_SIZE, (length,)).tolist() for length in lengths]


def logits_of(model: Any, text: list[int]) -> Tensor:
    """Return the logits behind every token of one text."""
    logits: Tensor = model.output_head(model(make_causal_batch([[*text, 0]], pad_id=0)))[0]
    return logits


@every_shape
@pytest.mark.parametrize("num_beams", [1, 2])
@pytest.mark.parametrize("prompt_length", [1, 5])
@torch.inference_mode()
def test_stepping_behind_a_prompt_equals_the_forward_pass(name: str, num_beams: int, prompt_length: int) -> None:
    model = small_gpt(name)
    texts = random_texts(*[prompt_length + 6] * 3)
    expected = torch.stack([logits_of(model, text) for text in texts])
    whole = torch.tensor(texts)
    lengths = torch.full((3,), prompt_length)
    state = model.start(whole[:, :prompt_length], lengths, num_beams, 7)
    # The first step takes the prompt's last token, whatever it is given.
    ids = torch.full((3 * num_beams,), 28)
    for place in range(prompt_length - 1, prompt_length + 6):
        stepped, state = model.step(ids, state)
        wanted = expected[:, place].repeat_interleave(num_beams, dim=0)
        torch.testing.assert_close(stepped, wanted, rtol=0, atol=1e-5)
        ids = whole[:, min(place + 1, prompt_length + 5)].repeat_interleave(num_beams)


@every_shape
@pytest.mark.parametrize("num_beams", [1, 2])
@torch.inference_mode()
def test_rows_and_sources_can_leave_and_change_places(name: str, num_beams: int) -> None:
    model = small_gpt(name)
    texts = random_texts(9, 9, 9)
    whole = torch.tensor(texts)
    state = model.start(whole[:, :4], torch.full((3,), 4), num_beams, 6)
    ids = whole[:, 4].repeat_interleave(num_beams)
    _, state = model.step(ids, state)
    _, state = model.step(ids, state)
    # Source 1 leaves, and the others change places.
    rows = torch.tensor([2, 0]).repeat_interleave(num_beams) * num_beams
    state.select_rows(rows, torch.tensor([2, 0]))
    kept = [texts[2], texts[0]]
    for place in range(5, 9):
        stepped, state = model.step(torch.tensor([text[place] for text in kept]).repeat_interleave(num_beams), state)
        wanted = torch.stack([logits_of(model, text)[place] for text in kept]).repeat_interleave(num_beams, dim=0)
        torch.testing.assert_close(stepped, wanted, rtol=0, atol=1e-5)
        state.select_rows(torch.arange(len(rows)).flip(0))
        kept = kept[::-1]


@torch.inference_mode()
def test_a_prompt_is_held_once_whatever_the_beams() -> None:
    model = small_gpt("eights")
    state = model.start(torch.tensor(random_texts(33)), torch.tensor([33]), 8, 2)
    assert state.caches[0].key.shape[0] == 32 + 8 * 2


@every_shape
@torch.inference_mode()
def test_beam_search_ranks_by_the_models_own_probabilities(name: str) -> None:
    model = small_gpt(name)
    prompts = random_texts(6, 6)
    settings = SearchSettings(beam=4, nbest=4, length_penalty=0.0, max_length=5)
    found = beam_search(model, torch.tensor(prompts), torch.tensor([6, 6]), settings, DecodingTokens(0, 0))
    for prompt, best in zip(prompts, found, strict=True):
        assert len(best) == 4
        for hypothesis in best:
            log_probabilities = logits_of(model, [*prompt, *hypothesis.ids])[5:-1].log_softmax(-1)
            total = float(log_probabilities.gather(1, torch.tensor(hypothesis.ids)[:, None]).sum())
            assert hypothesis.log_probability == pytest.approx(total, abs=1e-4)


@every_shape
@torch.inference_mode()
def test_padding_changes_nothing_and_no_position_looks_ahead(name: str) -> None:
    model = small_gpt(name)
    texts = random_texts(3, 9, 6)
    hidden = model(make_causal_batch(texts, pad_id=0))
    for row, text in enumerate(texts):
        alone = model(make_causal_batch([text], pad_id=7))
        torch.testing.assert_close(hidden[row : row + 1, : len(text) - 1], alone, rtol=0, atol=1e-5)
    changed = [*texts[1][:4], *random_texts(5)[0]]
    other = model(make_causal_batch([texts[0], changed, texts[2]], pad_id=0))
    assert torch.equal(other[1, :4], hidden[1, :4]) and not torch.allclose(other[1, 4:], hidden[1, 4:])


@every_shape
@torch.inference_mode()
def test_recording_changes_no_bit_and_rows_sum_to_one(name: str) -> None:
    model = small_gpt(name)
    batch = make_causal_batch(random_texts(9, 9), pad_id=0)
    unwatched = model(batch)
    with record_attention(model) as record:
        assert torch.equal(model(batch), unwatched)
    assert list(record.decoder) == list(range(model.config.num_layers)) and not record.encoder and not record.cross
    for recorded in record.decoder.values():
        assert recorded.weights.shape == (2, model.config.num_heads, 8, 8)
        torch.testing.assert_close(recorded.weights.sum(-1), torch.ones(2, model.config.num_heads, 8))
        assert recorded.weights.triu(1).abs().max() == 0


@every_shape
def test_every_parameter_learns(name: str) -> None:
    model = small_gpt(name).train()
    batch = make_causal_batch(random_texts(40, 12), pad_id=0)
    torch.nn.functional.cross_entropy(model.output_head(model(batch)).flatten(0, 1), batch.targets.flatten()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_what_is_added_to_the_residual_path_begins_smaller() -> None:
    model = build_model("gpt2", vocab_size=50, num_layers=8)
    assert isinstance(model, Gpt)
    for block in model.blocks[:2]:
        assert float(block.self_attention.output.weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.02)
        assert float(block.feed_forward.contract.weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.02)
        assert float(block.feed_forward.expand.weight.detach().std()) == pytest.approx(0.02, rel=0.02)


@every_shape
def test_parameter_count_of_odd_sizes_is_the_formula(name: str) -> None:
    model = small_gpt(name)
    architecture = find_architecture("gpt-modern" if "modern" in name else "gpt")
    assert sum(parameter.numel() for parameter in model.parameters()) == architecture.count_parameters(model.config)


@every_shape
@torch.inference_mode()
def test_texts_that_share_a_row_are_what_they_are_alone(name: str) -> None:
    model = small_gpt(name)
    window = torch.randint(1, VOCAB_SIZE, (2, 20))
    window[0, 6] = window[0, 9] = window[1, 15] = 0
    batch = make_window_batch(window.numpy(), end_id=0)
    assert batch.positions is not None
    states = model(batch)
    for row, cuts in enumerate(([0, 6, 9, 19], [0, 15, 19])):
        for begin, end in itertools.pairwise(cuts):
            alone = model(make_causal_batch([window[row, begin : end + 1].tolist()], pad_id=0))
            torch.testing.assert_close(states[row, begin:end], alone[0], rtol=0, atol=1e-5)


@every_shape
@torch.inference_mode()
def test_stepping_in_mixed_precision_equals_the_forward_pass(name: str) -> None:
    model = small_gpt(name)
    texts = torch.tensor(random_texts(11, 11))
    exact = torch.stack([logits_of(model, text) for text in texts.tolist()])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = model.start(texts[:, :5], torch.tensor([5, 5]), 1, 7)
        for place in range(4, 11):
            stepped, state = model.step(texts[:, place], state)
            difference = (stepped.float() - exact[:, place]).abs().max()
            assert float(difference) < 0.03 * float(exact.abs().max())


@pytest.mark.parametrize("name", ["banded", "modern"])
@torch.inference_mode()
def test_eight_bits_stay_near(name: str) -> None:
    model, rounded = small_gpt(name), small_gpt(name)
    rounded.load_state_dict(model.state_dict())
    to_int8(rounded)
    (text,) = random_texts(12)
    expected, found = logits_of(model, text), logits_of(rounded, text)
    assert float((found - expected).norm() / expected.norm()) < 0.2
    state = rounded.start(torch.tensor([text[:4]]), torch.tensor([4]), 1, 3)
    stepped, _ = rounded.step(torch.tensor([0]), state)
    assert float((stepped[0] - found[3]).norm() / found[3].norm()) < 0.2


@torch.inference_mode()
def test_only_heads_of_keys_and_values_are_remembered() -> None:
    model = small_gpt("modern")
    state = model.start(torch.tensor(random_texts(9)), torch.tensor([9]), 2, 3)
    assert state.caches[0].key.shape == state.caches[0].value.shape == (8 + 2 * 3, 2, 8)


@pytest.mark.parametrize(
    ("name", "layers", "width", "heads"),
    [("gpt2-xl", 48, 1600, 25), ("gpt3-1.3b", 24, 2048, 16), ("gpt3-13b", 40, 5120, 40), ("gpt3-175b", 96, 12288, 96)],
)
def test_shapes_of_the_papers(name: str, layers: int, width: int, heads: int) -> None:
    config: Any = build_config(name, vocab_size=50_257)
    assert (config.num_layers, config.model_dim, config.num_heads) == (layers, width, heads)
    assert config.feed_forward_dim == 4 * width
    with torch.device("meta"):
        model: Any = model_of(build_config({"preset": name, "num_layers": 1}, vocab_size=50_257))
    assert model.output_head.weight is model.word_embedding.weight


def test_every_second_layer_of_gpt_3_looks_through_the_band_that_is_assumed() -> None:
    config: Any = build_config("gpt3-125m", vocab_size=50_257)
    assert config.band == 256
    for name, bands in (("banded", [None, 3, None, 3]), ("odd", [None] * 3)):
        assert [block.self_attention.band for block in small_gpt(name).blocks] == bands


@torch.inference_mode()
def test_nothing_in_front_of_the_band_is_seen() -> None:
    model = small_gpt("banded")
    batch = make_causal_batch(random_texts(13), pad_id=0)
    with record_attention(model) as record:
        model(batch)
    for layer, recorded in record.decoder.items():
        far = recorded.weights.tril(-3)
        assert (far.max() == 0) == (layer % 2 == 1)


def test_refusals() -> None:
    model = small_gpt("odd")
    with pytest.raises(RequestError, match="the prompts of one start have 2 to 3 tokens; they must be equally long"):
        model.start(torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2]), 1, 4)
    with pytest.raises(ModelError, match=r"`eos_id` must be below `vocab_size` \(29\), but is 29"):
        build_config("gpt2", vocab_size=29, eos_id=29)
    with pytest.raises(ModelError, match=r"`model_dim` \(768\) must be a multiple of `num_heads`, but that is 7"):
        build_config("gpt2", vocab_size=29, num_heads=7)
    with pytest.raises(
        ModelError, match=r"`model_dim` \(768\) must be a multiple of `2 \* num_heads`, but that is 512"
    ):
        build_config("gpt-modern-small", vocab_size=29, num_heads=256)
    with pytest.raises(ModelError, match=r"`num_heads` \(12\) must be a multiple of `num_memory_heads`, but that is 5"):
        build_config("gpt-modern-small", vocab_size=29, num_memory_heads=5)
