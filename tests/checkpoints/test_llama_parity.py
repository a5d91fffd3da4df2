"""Llama folders of odd sizes give here what they give in `transformers`, and are written as they were."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.checkpoints.hub_llamas import ODD_SIZES, write_llama
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from trasluz.checkpoints.model_folder import load_model, save_model
from trasluz.errors import ModelError
from trasluz.inspection.recorder import record_attention
from trasluz.models.registry import build_model
from trasluz.text.batching import make_causal_batch
from trasluz.text.byte_tokenizer import ByteTokenizer


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="module", params=list(ODD_SIZES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("llamas") / request.param
    return folder, write_llama(folder, seed=list(ODD_SIZES).index(request.param), **ODD_SIZES[request.param])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_llama(tmp_path / "llama")
    return tmp_path / "llama"


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
    assert load_model(tmp_path).config == loaded.config
    theirs, report = AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert not report["missing_keys"] and not report["unexpected_keys"], report
    ids = torch.randint(0, 330, (2, 30))
    assert torch.equal(theirs.eval()(ids).logits, model(ids).logits)
    text = "¡ella ve una carta! 日\n\n"
    assert AutoTokenizer.from_pretrained(tmp_path).encode(text) == loaded.source_tokenizer.encode(text)


@torch.no_grad()
def test_a_model_of_ours_is_loaded_by_the_library(folder: Path, tmp_path: Path) -> None:
    """One that was never theirs: the tokenizer's settings and the rest are written anew."""
    tokenizer = ByteTokenizer(load_model(folder).source_tokenizer.backend)
    shape = {"preset": "gpt-modern-small", "num_layers": 2, "model_dim": 24, "num_heads": 3, "num_memory_heads": 1}
    sizes = {"feed_forward_dim": 30, "rotary_base": 300.0, "norm_epsilon": 1e-4, "dropout": 0.25}
    model: Any = build_model({**shape, **sizes}, vocab_size=330, eos_id=tokenizer.end_id).eval()
    save_model(tmp_path / "ours", model, tokenizer, tokenizer)
    assert load_model(tmp_path / "ours").config == model.config
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    text = "nobody in the village, 日"
    ids = AutoTokenizer.from_pretrained(tmp_path / "ours").encode(text)
    assert ids == tokenizer.encode(text)
    logits = model.output_head(model(make_causal_batch([[*ids, 0]], pad_id=0)))
    assert float((logits - theirs(torch.tensor([ids])).logits).abs().max()) < 2e-5
    assert type(theirs).__name__ == "LlamaForCausalLM" and theirs.generation_config.eos_token_id == 329


@torch.no_grad()
def test_older_folders_are_read(folder: Path) -> None:
    """The base under its older name, angles among the weights, no word of heads of keys and values."""
    wanted = load_model(folder)
    path = folder / "model.safetensors"
    old = load_file(path)
    save_file({**old, "model.layers.1.self_attn.rotary_emb.inv_freq": torch.ones(4)}, path)
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 777.0, "rope_scaling": None}))
    read = load_model(folder)
    assert read.config == wanted.config.model_copy(update={"rotary_base": 777.0})
    ours = dict(wanted.model.named_parameters())
    assert all(torch.equal(tensor, ours[name]) for name, tensor in read.model.named_parameters())
    change_config(folder, num_key_value_heads=None)
    with pytest.raises(ModelError, match=r"k_proj\.weight has shape \[16, 32\], but the config asks for \[32, 32\]"):
        load_model(folder)


def test_of_several_ends_the_first_is_taken(folder: Path) -> None:
    change_config(folder, eos_token_id=[2, 1])
    assert load_model(folder).config.eos_id == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_bias": True}, "attention_bias is True, but only False is known"),
        ({"mlp_bias": True}, "mlp_bias is True, but only False is known"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'; known are relu, gelu"),
        ({"head_dim": 16}, "head_dim is 16, but only 8 is known"),
        ({"architectures": ["LlamaForTokenClassification"]}, "a LlamaForTokenClassification cannot be loaded"),
        ({"num_attention_heads": 3}, r"`model_dim` \(32\) must be a multiple of `2 \* num_heads`, but that is 6"),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}},
            "its rotary positions are of the kind 'llama3', but only 'default' is known",
        ),
        ({"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2}}, "of the kind 'linear'"),
        ({"rope_parameters": "x"}, "rope_parameters is 'x', but it must be an object"),
        ({"rope_parameters": None, "rope_scaling": [2]}, r"rope_scaling is \[2\], but it must be an object"),
        ({"rope_parameters": {"rope_theta": "x"}}, "rope_theta is 'x', but it must be a number above 0"),
        ({"rope_parameters": None, "rope_theta": -1}, "rope_theta is -1, but it must be a number above 0"),
        ({"eos_token_id": "</s>"}, "eos_token_id is '</s>', but it must be a token's id, a list of them, or null"),
        ({"eos_token_id": []}, r"eos_token_id is \[\], but it must be a token's id"),
    ],
)
def test_what_cannot_be_loaded_says_why(folder: Path, changes: dict[str, Any], message: str) -> None:
    change_config(folder, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(folder)
