"""Small models of every kind, and batches for them: what the common tests of all models run on."""

from typing import Any

import torch
from torch import nn

from trasluz.models.registry import build_model
from trasluz.text.batching import TranslationBatch, make_batch

VOCAB_SIZE = 23

_SMALL_TRANSFORMER = {"preset": "transformer-tiny", "model_dim": 16, "num_heads": 2, "feed_forward_dim": 24}
_SMALL_RNN = {"hidden_dim": 14, "embedding_dim": 10, "readout_dim": 10}

SMALL_MODELS: dict[str, dict[str, Any]] = {
    "transformer-post": {**_SMALL_TRANSFORMER, "num_layers": 2},
    "transformer-pre": {
        **_SMALL_TRANSFORMER,
        "num_layers": 1,
        "norm": "pre",
        "positions": "trainable",
        "max_positions": 40,
        "tied_embeddings": "target",
        "output_bias": True,
        "activation": "gelu",
    },
    "transformer-untied": {
        **_SMALL_TRANSFORMER,
        "num_encoder_layers": 2,
        "num_decoder_layers": 1,
        "tied_embeddings": "none",
    },
    "rnn-encdec": {"preset": "rnn-encdec", **_SMALL_RNN, "num_layers": 2},
    "rnn-encdec-lstm": {"preset": "rnn-encdec", **_SMALL_RNN, "cell": "lstm", "reverse_source": True},
    "rnnsearch": {"preset": "rnnsearch", **_SMALL_RNN, "attention_dim": 9},
    "rnnsearch-lstm": {
        "preset": "rnnsearch",
        **_SMALL_RNN,
        "attention_dim": 9,
        "cell": "lstm",
        "share_embeddings": True,
    },
    "gnmt": {
        "preset": "gnmt-4",
        "hidden_dim": 14,
        "num_encoder_layers": 3,
        "num_decoder_layers": 4,
        "attention_dim": 9,
    },
    "gnmt-shared": {
        "preset": "gnmt-8",
        "hidden_dim": 10,
        "num_encoder_layers": 2,
        "attention_dim": 7,
        "share_embeddings": True,
    },
    "luong": {"preset": "luong", "hidden_dim": 14, "num_layers": 2},
    "luong-unfed": {"preset": "luong", "hidden_dim": 10, "input_feeding": False, "share_embeddings": True},
}


def small_model(name: str) -> nn.Module:
    """Return a random small model with weights large enough that its choices are clear."""
    model = build_model(SMALL_MODELS[name], source_vocab_size=VOCAB_SIZE, target_vocab_size=VOCAB_SIZE)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.0)
    return model.eval()


def random_sentences(lengths: list[int]) -> list[list[int]]:
    """Return sentences of ordinary ids, one a length."""
    return [torch.randint(4, VOCAB_SIZE, (length,)).tolist() for length in lengths]


def random_batch(source_lengths: list[int], target_lengths: list[int]) -> TranslationBatch:
    """Return a batch of random sentences."""
    return make_batch(
        random_sentences(source_lengths), random_sentences(target_lengths), pad_id=0, start_id=1, eos_id=2
    )
