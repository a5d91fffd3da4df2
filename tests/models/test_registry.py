"""Models by name: presets of the papers' sizes, closed formulas, and refusals that say what would be right."""

import re

import pytest
import torch
from tests.models.zoo import SMALL_MODELS, VOCAB_SIZE

from trasluz.errors import ModelError
from trasluz.models.registry import build_config, build_model, find_architecture, find_preset, model_of, presets

TOKENS = {"source_vocab_size": 1000, "target_vocab_size": 1000}


@pytest.mark.parametrize("name", sorted(presets()))
def test_parameter_count_of_every_preset_is_its_formula(name: str) -> None:
    architecture, preset = find_preset(name)
    vocab_size = preset.paper_vocab_size or 8000
    config = build_config(name, **dict.fromkeys(architecture.vocab_fields, vocab_size))
    with torch.device("meta"):
        counted = sum(parameter.numel() for parameter in model_of(config).parameters())
    assert counted == architecture.count_parameters(config)
    if preset.paper_parameters is not None:
        assert counted == pytest.approx(preset.paper_parameters, rel=0.03)


def test_only_where_no_paper_states_a_size_there_is_none() -> None:
    unstated = {name for name, (_, preset) in presets().items() if preset.paper_parameters is None}
    assert unstated == {
        "rnn-encdec",
        "rnnsearch",
        "luong",
        "gnmt-4",
        "gnmt-8",
        "transformer-tiny",
        "transformer-small",
        "gpt-modern-small",
        "bigbird-base",
    }


@pytest.mark.parametrize("name", [name for name in sorted(presets()) if re.search(r"-[\d.]+[mb]$", name)])
def test_a_size_in_a_name_is_the_models(name: str) -> None:
    architecture, preset = find_preset(name)
    config = build_config(name, **dict.fromkeys(architecture.vocab_fields, preset.paper_vocab_size))
    number, unit = re.fullmatch(r".*-([\d.]+)([mb])", name).groups()  # type: ignore[union-attr]
    printed = float(number) * {"m": 1e6, "b": 1e9}[unit]
    assert preset.paper_parameters == printed
    assert architecture.count_parameters(config) == pytest.approx(printed, rel=0.03)


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_parameter_count_of_odd_sizes_is_the_formula(name: str) -> None:
    config = build_config(SMALL_MODELS[name], source_vocab_size=VOCAB_SIZE, target_vocab_size=VOCAB_SIZE)
    model = model_of(config)
    architecture, _ = find_preset(SMALL_MODELS[name]["preset"])
    assert sum(parameter.numel() for parameter in model.parameters()) == architecture.count_parameters(config)


def test_num_layers_sets_both_stacks_and_gives_way_to_either() -> None:
    config = build_config({"preset": "transformer-base", "num_layers": 2, "num_decoder_layers": 1}, **TOKENS)
    assert (config.num_encoder_layers, config.num_decoder_layers) == (2, 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("transformer-tyny", "no preset 'transformer-tyny'. Did you mean transformer-tiny"),
        ({"num_layers": 4}, "needs the key `preset`"),
        ({"preset": "transformer-tiny", "num_head": 2}, "no field 'num_head' in a transformer. Did you mean num_heads"),
        ({"preset": "transformer-tiny", "num_heads": 3}, r"`model_dim` \(256\) must be a multiple of `num_heads`"),
        ({"preset": "transformer-tiny", "model_dim": "wide"}, "model_dim='wide'"),
        ({"preset": "transformer-tiny", "dropout": 1.5}, "dropout=1.5"),
        ({"preset": "gnmt-4", "num_encoder_layers": 1}, "num_encoder_layers=1"),
        ({"preset": "rnnsearch", "share_embeddings": True}, r"`readout_dim` must equal `embedding_dim` \(620\)"),
    ],
)
def test_refusals(model: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(model, **TOKENS)  # type: ignore[arg-type]


def test_sharing_needs_equal_vocabularies() -> None:
    with pytest.raises(ModelError, match=r"needs equal vocabularies, but `source_vocab_size` is 10 .* 20"):
        build_model("transformer-tiny", source_vocab_size=10, target_vocab_size=20)


def test_special_tokens_must_exist() -> None:
    with pytest.raises(ModelError, match=r"`eos_id` must be below `target_vocab_size` \(2\), but is 2"):
        build_model("transformer-tiny", source_vocab_size=2, target_vocab_size=2)


def test_unknown_model_type() -> None:
    with pytest.raises(
        ModelError,
        match="no model type 'lstm'; known are bert, bigbird, distilbert, gnmt, gpt, gpt-modern, luong, rnn-encdec, ",
    ):
        find_architecture("lstm")
