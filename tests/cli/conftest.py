"""Model folders that the verbs are tried on, made in a moment."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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

# Random encoders, by what they are for: a class of `transformers`, its labels, and what is special about its config.
ENCODERS: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "masks": ("BertForMaskedLM", [], {}),
    "roberta": ("RobertaForMaskedLM", [], {}),
    "topics": ("BertForSequenceClassification", ["home", "sea", "work"], {}),
    "several": (
        "BertForSequenceClassification",
        ["home", "sea", "work"],
        {"problem_type": "multi_label_classification"},
    ),
    "number": ("BertForSequenceClassification", ["stars"], {"problem_type": "regression"}),
    "names": ("BertForTokenClassification", ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"], {"seed": 5}),
    "reader": ("BertForQuestionAnswering", [], {}),
    "vectors": ("BertModel", [], {}),
}


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


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Give the folder of a random encoder of ENCODERS; each is written when it is first asked for."""
    from tests.checkpoints.hub_encoders import write_encoder

    root = tmp_path_factory.mktemp("encoders")

    def folder(name: str) -> str:
        if not (root / name).exists():
            class_name, labels, changes = ENCODERS[name]
            count = {"num_labels": len(labels)} if labels else {}
            # The library draws its progress, which is nothing that a verb said.
            with contextlib.redirect_stderr(io.StringIO()):
                write_encoder(root / name, class_name, **count, **changes)
            config = root / name / "config.json"
            named = {"id2label": dict(enumerate(labels))} if labels else {}
            config.write_text(json.dumps(json.loads(config.read_text()) | named))
        return str(root / name)

    return folder


@pytest.fixture(scope="session")
def gpt_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random GPT-2."""
    from tests.checkpoints.hub_gpts import write_gpt

    folder = tmp_path_factory.mktemp("gpts") / "toy-gpt"
    with contextlib.redirect_stderr(io.StringIO()):
        write_gpt(folder)
    return str(folder)
