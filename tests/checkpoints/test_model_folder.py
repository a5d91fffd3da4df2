"""A model folder gives back the model it was written from; what is wrong with one is said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.checkpoints.hub_models import write_marian
from tests.checkpoints.sentences import pairs
from tests.models.zoo import SMALL_MODELS
from torch import nn
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging

import trasluz
from trasluz.checkpoints.model_folder import load_model, save_loaded, save_model
from trasluz.checkpoints.sentence_vectors import Pooling
from trasluz.errors import ModelError
from trasluz.models.registry import build_model, find_preset
from trasluz.tasks.loading import find_model
from trasluz.text.batching import TranslationBatch, make_batch
from trasluz.text.tokenizer import Tokenizer, train_tokenizer

POST_NORM = ["transformer-post", "transformer-untied"]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = [text for pair in pairs(100, seed=3) for text in pair]
    return train_tokenizer(texts, "bpe", 300, special_tokens=["<2en>", "<2es>"])


@pytest.fixture(scope="module")
def other_tokenizer() -> Tokenizer:
    return train_tokenizer([text for _, text in pairs(100, seed=4)], "bpe", 260)


def build(name: str, source: Tokenizer, target: Tokenizer | None = None, **changes: Any) -> nn.Module:
    target = target or source
    model = build_model(
        {**SMALL_MODELS[name], **changes}, source_vocab_size=source.vocab_size, target_vocab_size=target.vocab_size
    )
    # Norms and biases begin as ones and zeros, which would hide a mix-up.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def some_batch(source: Tokenizer, target: Tokenizer | None = None) -> TranslationBatch:
    texts = pairs(4, seed=6)
    return make_batch(
        source.encode_batch([text for text, _ in texts]),
        (target or source).encode_batch([text for _, text in texts]),
        pad_id=0,
        start_id=1,
        eos_id=2,
    )


def logits_of(model: Any, batch: TranslationBatch) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model.output_head(model(batch))
    return logits


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_read_is_what_was_written(name: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = build(name, tokenizer)
    save_model(
        tmp_path,
        model,
        tokenizer,
        tokenizer,
        languages=("en", "es"),
        both_directions=True,
        card="# about it\n",
        recipe_yaml="task: translate\n",
        generation={"num_beams": 3, "length_penalty": 0.9},
        attention_default=(0, "mean"),
    )
    state = torch.get_rng_state()
    loaded = load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    batch = some_batch(tokenizer)
    assert torch.equal(logits_of(loaded.model, batch), logits_of(model, batch))
    assert loaded.config == model.config
    assert not loaded.model.training
    assert loaded.source_tokenizer is loaded.target_tokenizer
    assert loaded.source_tokenizer.fingerprint == tokenizer.fingerprint
    assert (loaded.task, loaded.languages, loaded.both_directions) == ("translate", ("en", "es"), True)
    assert (loaded.card, loaded.recipe_yaml) == ("# about it\n", "task: translate\n")
    assert loaded.attention_default == (0, "mean")
    assert {**loaded.generation, "num_beams": 3, "length_penalty": 0.9, "normalization": "gnmt"} == loaded.generation
    assert [tokenizer.id_of("<2es>")] in loaded.generation["bad_words_ids"]
    kind = json.loads((tmp_path / "config.json").read_text())["model_type"]
    assert kind == ("marian" if name in POST_NORM else f"trasluz-{SMALL_MODELS_TYPES[name]}")


SMALL_MODELS_TYPES = {name: find_preset(model["preset"])[0].model_type for name, model in SMALL_MODELS.items()}


@pytest.mark.parametrize(
    ("name", "changes", "shares"),
    [
        ("transformer-post", {}, True),
        ("transformer-post", {"output_bias": True, "activation": "gelu", "scale_embeddings": False}, True),
        ("transformer-post", {"tied_embeddings": "target", "activation": "swish", "model_dim": 18}, False),
        ("transformer-untied", {"output_bias": True}, False),
    ],
)
def test_transformers_loads_what_was_written(
    name: str,
    changes: dict[str, Any],
    shares: bool,
    tokenizer: Tokenizer,
    other_tokenizer: Tokenizer,
    tmp_path: Path,
) -> None:
    target = tokenizer if shares else other_tokenizer
    model = build(name, tokenizer, target, **changes)
    save_model(tmp_path, model, tokenizer, target, languages=("en", "es"), both_directions=shares)
    batch = some_batch(tokenizer, target)
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    mask = torch.arange(batch.source.shape[1]) < batch.source_lengths[:, None]
    with torch.no_grad():
        found = theirs(input_ids=batch.source, attention_mask=mask.long(), decoder_input_ids=batch.target_input).logits
    real = torch.arange(batch.target_input.shape[1]) < batch.target_lengths[:, None]
    assert float((found - logits_of(model, batch))[real].abs().max()) < 2e-5
    text = pairs(1, seed=8)[0][0]
    ids = AutoTokenizer.from_pretrained(tmp_path)(text).input_ids
    assert ids == [*tokenizer.encode(text), 2]
    # Its own search begins and ends as ours does, and writes no tag.
    generated = theirs.generate(torch.tensor([ids]), num_beams=2, max_new_tokens=12)[0].tolist()
    assert generated[0] == 1 and not {0, 1, 4, 5} & set(generated[1:])
    assert AutoConfig.from_pretrained(tmp_path).trasluz["languages"] == ["en", "es"]
    loaded = load_model(tmp_path)
    assert torch.equal(logits_of(loaded.model, batch), logits_of(model, batch))
    assert loaded.target_tokenizer.fingerprint == target.fingerprint


def test_what_an_older_model_left_behind_is_not_taken_up(
    tokenizer: Tokenizer, other_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    separate = build("transformer-untied", tokenizer, other_tokenizer)
    save_model(tmp_path, separate, tokenizer, other_tokenizer)
    save_model(tmp_path, build("transformer-post", tokenizer), tokenizer, tokenizer)
    loaded = load_model(tmp_path)
    assert loaded.target_tokenizer is loaded.source_tokenizer


def test_a_lengthened_model_is_saved_with_what_it_reads(tmp_path: Path) -> None:
    short = load_model(find_model("pocket-bert"))
    short.pooling = Pooling(max_tokens=100)
    before = short.config.longest_text, short.source_tokenizer.max_length
    longer = short.lengthened(400, block_size=8)
    assert before == (short.config.longest_text, short.source_tokenizer.max_length)
    save_loaded(tmp_path, longer)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 400
    model = trasluz.load(tmp_path, task="embed")
    assert model.longest_text == 400 and model.pooling.max_tokens is None


def test_only_encoders_are_lengthened(folder: Path) -> None:
    with pytest.raises(ModelError, match="is no encoder; only encoders are made longer"):
        load_model(folder).lengthened(400)


def test_half_precision_is_read_as_fp32(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = build("rnnsearch", tokenizer)
    save_model(tmp_path, model, tokenizer, tokenizer, dtype="fp16")
    loaded = load_model(tmp_path)
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name).half().float())
    with pytest.raises(ModelError, match="weights cannot be stored as 'int3'; say fp32 or fp16"):
        save_model(tmp_path, model, tokenizer, tokenizer, dtype="int3")


@pytest.fixture
def folder(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    model = build("rnnsearch", tokenizer)
    save_model(tmp_path / "m", model, tokenizer, tokenizer, languages=("en", "es"))
    return tmp_path / "m"


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in {**config, **changes}.items() if value is not ...}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "trasluz-rnnserch"}, r"there is no model type 'rnnserch'; known are .*rnnsearch"),
        (
            {"model_type": "mamba"},
            r"model_type is 'mamba', which cannot be loaded; known are bert, .*marian, .*trasluz-",
        ),
        ({"model_type": "mariam"}, r"Did you mean marian\?"),
        ({"model_type": ...}, r"model_type is None, which cannot be loaded"),
        ({"hidden_dim": 15}, r"m: .* has shape \[.*\], but the config asks for \["),
        ({"hidden_dim": "wide"}, r"config\.json: hidden_dim='wide': "),
        ({"hiden_dim": 14}, r"config\.json: there is no field 'hiden_dim' in a rnnsearch\. Did you mean hidden_dim\?"),
        ({"share_embeddings": True}, r"m holds the weights of another model: it has "),
        ({"source_vocab_size": 7}, r"has shape"),
        ({"trasluz": {"both_directions": True}}, r"trasluz is .*`both_directions` needs two `languages`, .* are 0"),
        ({"trasluz": {"attention": {"layer": -1, "head": 0}}}, r"trasluz\.attention\.layer is -1: .*greater"),
        ({"trasluz": {"langauges": []}}, r"trasluz\.langauges is \[\]: "),
        ({"trasluz": "no"}, r"config\.json: trasluz is 'no'"),
    ],
)
def test_a_config_that_does_not_fit(folder: Path, changes: dict[str, Any], message: str) -> None:
    change(folder, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, r"m is no model folder: config\.json is missing"),
        ("config.json", b"{", r"config\.json cannot be read"),
        ("config.json", b"[]", r"config\.json holds no JSON object"),
        ("config.json", b"\xff", r"config\.json cannot be read"),
        ("generation_config.json", b"nonsense", r"generation_config\.json cannot be read"),
        ("tokenizer.json", None, r"tokenizer\.json"),
        ("tokenizer.json", b"{}", r"tokenizer\.json"),
        ("model.safetensors", None, r"has no weights: model\.safetensors"),
        ("README.md", b"\xff\xfe", r"README\.md cannot be read"),
    ],
)
def test_a_file_that_is_missing_or_broken(folder: Path, name: str, content: bytes | None, message: str) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model folder .*nowhere"):
        load_model(tmp_path / "nowhere")


def test_a_card_is_always_there(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    (folder / "README.md").unlink()
    loaded = load_model(folder)
    assert loaded.card == ""
    assert loaded.generation == {"normalization": "power"}


def test_a_tokenizer_of_another_model(folder: Path) -> None:
    words = [f"{first}{second}" for first in "abcdefghijklmnopqrstuvwxyz" for second in "aeiouyáéíóúüñ"]
    big = train_tokenizer([" ".join(words)] * 3, "word", 900)
    big.save(folder)
    with pytest.raises(ModelError, match=r"the tokenizer has \d+ tokens, but the model knows \d+: they are not"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalize_before": True}, r"marian: config\.json: normalize_before is True, but only False is known"),
        ({"static_position_embeddings": False}, r"static_position_embeddings is False, but only True is known"),
        ({"activation_function": "mish"}, r"activation_function is 'mish'; known are relu, gelu, .*swish, silu"),
        ({"decoder_ffn_dim": 8}, r"encoder_ffn_dim is 40 and decoder_ffn_dim 8; only equal ones are known"),
        ({"encoder_attention_heads": 7, "decoder_attention_heads": 7}, r"must be a multiple of `num_heads`"),
        ({"eos_token_id": [0, 3]}, r"eos_id=\[0, 3\]"),
        ({"d_model": 48}, r"has shape \[.*24.*\], but the config asks for \[.*48"),
        ({"encoder_layers": 1}, r"it has model\.encoder\.layers\.1\..* and 13 more, unknown here"),
        ({"decoder_layers": 3}, r"it lacks model\.decoder\.layers\.2\.self_attn\.q"),
    ],
)
def test_a_marian_config_that_does_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_marian(tmp_path / "marian")
    change(tmp_path / "marian", **changes)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "marian")


def test_an_old_marian_folder(tmp_path: Path) -> None:
    """Older folders hold copies of tied matrices, and say how to search in config.json."""
    from safetensors.torch import load_file, save_file

    write_marian(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for copy in ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"):
        tensors[copy] = tensors["model.shared.weight"].clone()
    tensors["model.encoder.embed_positions.weight"] = torch.zeros(64, 24)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "generation_config.json").unlink()
    change(tmp_path, num_beams=6, max_length=100, bad_words_ids=[[3]])
    loaded = load_model(tmp_path)
    assert loaded.generation == {
        "num_beams": 6,
        "max_length": 100,
        "bad_words_ids": [[3]],
        "forced_eos_token_id": 0,
        "normalization": "power",
    }
