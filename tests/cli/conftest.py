"""Model folders that the verbs are tried on, made in a moment."""

from pathlib import Path

import pytest
import torch

from trasluz.checkpoints.model_folder import save_model
from trasluz.models.registry import build_model
from trasluz.text.tokenizer import train_tokenizer

TEXTS = [
    "the lamp is on the table",
    "la lámpara está en la mesa",
    "a small window lets the light in",
    "una ventana pequeña deja entrar la luz",
    "old paper, new light: hold it up",
    "papel viejo, luz nueva: ponlo al trasluz",
]


def make_model(folder: Path, preset: dict[str, object], languages: tuple[str, str], both_directions: bool) -> str:
    """Write an untrained model; what it says is nonsense, but it says it through every part of the machinery."""
    torch.manual_seed(3)
    tags = [f"<2{language}>" for language in languages] if both_directions else []
    tokenizer = train_tokenizer(TEXTS * 3, kind="bpe", vocab_size=400, special_tokens=tags)
    size = tokenizer.vocab_size
    model = build_model(preset, source_vocab_size=size, target_vocab_size=size)
    attention = (1, "mean") if str(preset["preset"]).startswith("transformer") else None
    save_model(
        folder,
        model,
        tokenizer,
        tokenizer,
        languages=languages,
        both_directions=both_directions,
        attention_default=attention,
        generation={"num_beams": 2},
    )
    return str(folder)


@pytest.fixture(scope="session")
def transformer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Transformer of two layers for both directions."""
    preset = {"preset": "transformer-tiny", "num_layers": 2, "model_dim": 32, "num_heads": 2, "feed_forward_dim": 64}
    return make_model(tmp_path_factory.mktemp("models") / "toy-en-es", preset, ("en", "es"), True)


@pytest.fixture(scope="session")
def recurrent_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A recurrent model with attention for one direction."""
    preset = {"preset": "rnnsearch", "embedding_dim": 16, "hidden_dim": 24, "readout_dim": 16, "attention_dim": 24}
    return make_model(tmp_path_factory.mktemp("models") / "toy-rnn", preset, ("en", "es"), False)


@pytest.fixture(scope="session")
def blind_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A recurrent model without attention."""
    preset = {"preset": "rnn-encdec", "embedding_dim": 16, "hidden_dim": 24, "readout_dim": 16}
    return make_model(tmp_path_factory.mktemp("models") / "toy-encdec", preset, ("en", "es"), False)
