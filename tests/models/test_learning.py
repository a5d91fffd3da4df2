"""Every kind of model learns to reverse a sequence in seconds, exactly, through beam search."""

import random

import pytest
import torch

from trasluz.decoding.search import search
from trasluz.decoding.settings import DecodingTokens, SearchSettings
from trasluz.models.registry import build_model
from trasluz.objectives.translation import TranslationObjective
from trasluz.text.batching import make_batch

VOCAB_SIZE = 12
MODELS = {
    "transformer": (
        {
            "preset": "transformer-tiny",
            "model_dim": 48,
            "num_heads": 4,
            "feed_forward_dim": 96,
            "num_layers": 2,
            "dropout": 0.0,
        },
        300,
        3e-3,
    ),
    "rnnsearch": (
        {"preset": "rnnsearch", "embedding_dim": 32, "hidden_dim": 48, "readout_dim": 32, "attention_dim": 32},
        250,
        8e-3,
    ),
    "gnmt": (
        {"preset": "gnmt-4", "hidden_dim": 48, "num_encoder_layers": 2, "num_decoder_layers": 2, "dropout": 0.0},
        250,
        8e-3,
    ),
    "luong": ({"preset": "luong", "hidden_dim": 48, "num_layers": 2, "dropout": 0.0}, 250, 8e-3),
    "rnn-encdec": (
        {"preset": "rnn-encdec", "embedding_dim": 32, "hidden_dim": 96, "readout_dim": 32},
        300,
        8e-3,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_learns_to_reverse(name: str) -> None:
    preset, num_steps, learning_rate = MODELS[name]
    longest = 3 if name == "rnn-encdec" else 6
    draw = random.Random(0)

    def sentences(count: int) -> list[list[int]]:
        return [[draw.randrange(4, VOCAB_SIZE) for _ in range(draw.randint(1, longest))] for _ in range(count)]

    model = build_model(preset, source_vocab_size=VOCAB_SIZE, target_vocab_size=VOCAB_SIZE)
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, betas=(0.9, 0.98))
    objective = TranslationObjective(0.0)
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 50, 2 * (1 - step / num_steps))
        sources = sentences(64)
        loss = objective(
            model, make_batch(sources, [source[::-1] for source in sources], pad_id=0, start_id=1, eos_id=2)
        )
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    unseen = sentences(50)
    batch = make_batch(unseen, unseen, pad_id=0, start_id=1, eos_id=2)
    found = search(model, batch.source, batch.source_lengths, SearchSettings(beam=3), DecodingTokens(1, 2, (0, 1)))
    right = sum(list(best[0].ids[:-1]) == source[::-1] for best, source in zip(found, unseen, strict=True))
    assert right >= 49
