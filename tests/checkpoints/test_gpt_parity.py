"""GPT-2 folders of odd sizes give here what they give in `transformers`, and are written as they were."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.checkpoints.hub_gpts import ODD_SIZES, write_gpt
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Model, GPTNeoConfig, GPTNeoForCausalLM
from transformers.utils import logging

from trasluz.checkpoints.model_folder import load_model, save_model
from trasluz.errors import ModelError
from trasluz.inspection.recorder import record_attention
from trasluz.text.batching import make_causal_batch


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="module", params=list(ODD_SIZES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("gpts") / request.param
    return folder, write_gpt(folder, seed=list(ODD_SIZES).index(request.param), **ODD_SIZES[request.param])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_gpt(tmp_path / "gpt")
    return tmp_path / "gpt"


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@torch.no_grad()
def test_logits_and_attention(case: tuple[Path, Any]) -> None:
    folder, model = case
    loaded = load_model(folder)
    assert (loaded.task, loaded.config.eos_id) == ("generate", 329)
    batch = make_causal_batch([torch.randint(0, 330, (length,)).tolist() for length in (49, 12, 2)], pad_id=0)
    real = torch.arange(48) < batch.lengths[:, None]
    theirs = model(input_ids=batch.inputs, attention_mask=real.long(), output_attentions=True)
    ours: Any = loaded.model
    with record_attention(ours) as record:
        logits = ours.output_head(ours(batch))
    assert float((logits - theirs.logits)[real].abs().max()) < 2e-5
    assert len(record.decoder) == len(theirs.attentions)
    for layer, weights in enumerate(theirs.attentions):
        difference = (record.decoder[layer].weights - weights).transpose(1, 2)
        assert float(difference[real].abs().max()) < 2e-5


@torch.no_grad()
def test_written_again_it_is_the_same_to_the_bit(case: tuple[Path, Any], tmp_path: Path) -> None:
    folder, model = case
    loaded = load_model(folder)
    save_model(tmp_path, loaded.model, loaded.source_tokenizer, loaded.target_tokenizer)
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = load_model(tmp_path)
    assert again.config == loaded.config
    theirs, report = AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    ids = torch.randint(0, 330, (2, 30))
    assert torch.equal(theirs.eval()(ids).logits, model(ids).logits)
    text = "¡ella ve una carta! 日\n\n"
    assert AutoTokenizer.from_pretrained(tmp_path).encode(text) == loaded.source_tokenizer.encode(text)


def test_a_model_of_ours_is_loaded_by_the_library(folder: Path, tmp_path: Path) -> None:
    """One that was never theirs: the tokenizer's settings and the rest are written anew."""
    from trasluz.models.registry import build_model
    from trasluz.text.byte_tokenizer import ByteTokenizer

    tokenizer = ByteTokenizer(load_model(folder).source_tokenizer.backend)
    shape = {"preset": "gpt2", "num_layers": 1, "model_dim": 20, "num_heads": 2, "feed_forward_dim": 30}
    model: Any = build_model(shape, vocab_size=330, eos_id=tokenizer.end_id).eval()
    save_model(tmp_path / "ours", model, tokenizer, tokenizer)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    text = "nobody in the village, 日"
    ids = AutoTokenizer.from_pretrained(tmp_path / "ours").encode(text)
    assert ids == tokenizer.encode(text)
    with torch.no_grad():
        logits = model.output_head(model(make_causal_batch([[*ids, 0]], pad_id=0)))
        assert float((logits - theirs(torch.tensor([ids])).logits).abs().max()) < 2e-5
    assert theirs.generation_config.eos_token_id == 329


def test_bands_are_kept_in_a_folder_of_our_own(folder: Path, tmp_path: Path) -> None:
    from trasluz.models.registry import build_model

    tokenizer = load_model(folder).source_tokenizer
    shape = {"preset": "gpt3-125m", "num_layers": 2, "model_dim": 20, "num_heads": 2, "max_positions": 30, "band": 4}
    model: Any = build_model(shape, vocab_size=330, eos_id=tokenizer.end_id).eval()
    save_model(tmp_path / "ours", model, tokenizer, tokenizer)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["model_type"] == "trasluz-gpt"
    again: Any = load_model(tmp_path / "ours")
    assert (again.config, again.task) == (model.config, "generate")
    batch = make_causal_batch([torch.randint(0, 330, (12,)).tolist()], pad_id=0)
    assert torch.equal(again.model(batch), model(batch))


@torch.no_grad()
def test_bands_are_those_of_gpt_neo() -> None:
    """The library's model in GPT-3's shapes; its queries, keys and values have no biases, and its scores no scale."""
    from trasluz.models.registry import build_model

    torch.manual_seed(3)
    config = GPTNeoConfig(
        vocab_size=50, hidden_size=20, num_layers=4, num_heads=2, intermediate_size=33, max_position_embeddings=48,
        attention_types=[[["global", "local"], 2]], window_size=5, activation_function="gelu_new",
    )  # fmt: skip
    assert GPTNeoConfig().window_size == 256 and GPTNeoConfig().attention_layers[:2] == ["global", "local"]
    theirs = GPTNeoForCausalLM(config).eval()
    for parameter in theirs.parameters():
        parameter.normal_(std=0.3)
    shape = {"preset": "gpt3-125m", "num_layers": 4, "model_dim": 20, "num_heads": 2, "max_positions": 48, "band": 5}
    ours: Any = build_model({**shape, "feed_forward_dim": 33}, vocab_size=50).eval()
    # Theirs under the names of their GPT-2, with matrices as they are, and queries scaled.
    names = {"wte": "word_embedding", "wpe": "positions", "ln_f": "decoder_norm", "h": "decoder"}
    inner = {
        "ln_1": "self_attention_residual.norm", "ln_2": "feed_forward_residual.norm",
        "attn.attention.q_proj": "self_attention.query", "attn.attention.k_proj": "self_attention.key",
        "attn.attention.v_proj": "self_attention.value", "attn.attention.out_proj": "self_attention.output",
        "mlp.c_fc": "feed_forward.expand", "mlp.c_proj": "feed_forward.contract",
    }  # fmt: skip
    for parameter in ours.parameters():
        parameter.zero_()
    for name, tensor in theirs.transformer.named_parameters():
        first, _, rest = name.partition(".")
        for their_part, our_part in inner.items():
            rest = rest.replace(their_part, our_part)
        ours.get_parameter(f"{names[first]}.{rest}").copy_(tensor * 10**0.5 if "q_proj" in name else tensor)
    ids = torch.randint(0, 50, (3, 40))
    logits = ours.output_head(ours(make_causal_batch([[*row, 0] for row in ids.tolist()], pad_id=0)))
    assert float((logits - theirs(ids).logits).abs().max()) < 2e-5


def test_the_first_folders_are_read(folder: Path, tmp_path: Path) -> None:
    """Names without a prefix, masks among the weights, the tied matrix twice."""
    wanted = dict(load_model(folder).model.named_parameters())
    path = folder / "model.safetensors"
    old = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    old |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 48, 48).tril() for layer in range(2)}
    old |= {f"h.{layer}.attn.masked_bias": torch.tensor(-1e4) for layer in range(2)}
    save_file({**old, "lm_head.weight": old["wte.weight"].clone()}, path)
    read = dict(load_model(folder).model.named_parameters())
    assert all(torch.equal(read[name], wanted[name]) for name in wanted)
    save_file({**old, "h.0.attn.c_attn.other_bias": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"it has h\.0\.attn\.c_attn\.other_bias, unknown here"):
        load_model(folder)
    bare = GPT2Model.from_pretrained(folder)
    shutil.copytree(folder, tmp_path / "bare")
    bare.save_pretrained(tmp_path / "bare")
    read = dict(load_model(tmp_path / "bare").model.named_parameters())
    assert all(torch.equal(read[name], wanted[name]) for name in wanted)


def test_an_end_that_is_not_in_the_vocabulary_is_none(folder: Path) -> None:
    change_config(folder, eos_token_id=50256)
    assert load_model(folder).config.eos_id is None
    change_config(folder, eos_token_id=None)
    assert load_model(folder).config.eos_id is None


def test_of_several_ends_the_first_is_taken(folder: Path) -> None:
    change_config(folder, eos_token_id=[2, 1])
    assert load_model(folder).config.eos_id == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True, but only False is known"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False, but only True is known"),
        ({"activation_function": "mish"}, "activation_function is 'mish'; known are relu, gelu"),
        ({"architectures": ["GPT2ForSequenceClassification"]}, "a GPT2ForSequenceClassification cannot be loaded"),
        ({"n_head": 5}, r"`model_dim` \(24\) must be a multiple of `num_heads`"),
        ({"eos_token_id": [2.5]}, r"config.json: eos_token_id is \[2.5\], but it must be a token's id"),
        ({"n_inner": 7}, r"c_fc\.bias has shape \[96\], but the config asks for \[7\]"),
        ({"n_embd": 27}, r"c_attn\.bias has shape \[72\], but the config asks for \[81\]"),
    ],
)
def test_what_cannot_be_loaded_says_why(folder: Path, changes: dict[str, Any], message: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(folder)
