"""A translator that has learnt a toy language in a few seconds, so that its answers mean something."""

import random
from pathlib import Path

import pytest
import torch
from tests.checkpoints.sentences import pairs

import trasluz
from trasluz.checkpoints.model_folder import save_model
from trasluz.models.registry import build_model
from trasluz.objectives.translation import TranslationObjective
from trasluz.tasks.translator import Translator
from trasluz.text.batching import make_batch
from trasluz.text.tokenizer import train_tokenizer

_STEPS, _LEARNING_RATE = 220, 4e-3


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, English to Spanish and back."""
    torch.manual_seed(0)
    data = pairs(1500, seed=11)
    tokenizer = train_tokenizer([text for pair in data for text in pair], "bpe", 500, special_tokens=["<2en>", "<2es>"])
    to_english, to_spanish = (tokenizer.id_of(tag) for tag in ("<2en>", "<2es>"))
    ids = [tokenizer.encode_batch(list(pair)) for pair in data]
    examples = [([to_spanish, *english], spanish) for english, spanish in ids]
    examples += [([to_english, *spanish], english) for english, spanish in ids]
    size = tokenizer.vocab_size
    model = build_model(
        {
            "preset": "transformer-tiny",
            "model_dim": 48,
            "num_heads": 2,
            "feed_forward_dim": 96,
            "num_layers": 1,
            "dropout": 0.0,
            "max_positions": 60,
        },
        source_vocab_size=size,
        target_vocab_size=size,
    )
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98))
    objective, draw = TranslationObjective(0.0), random.Random(0)
    for step in range(_STEPS):
        optimizer.param_groups[0]["lr"] = _LEARNING_RATE * min(1.0, (step + 1) / 30, 2 * (1 - step / _STEPS))
        sources, targets = zip(*draw.sample(examples, 24), strict=True)
        loss = objective(model, make_batch(sources, targets, pad_id=0, start_id=1, eos_id=2))
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    folder = tmp_path_factory.mktemp("models") / "toy"
    save_model(
        folder,
        model.eval(),
        tokenizer,
        tokenizer,
        languages=("en", "es"),
        both_directions=True,
        attention_default=(0, "mean"),
    )
    return folder


@pytest.fixture(scope="session")
def toy(toy_folder: Path) -> Translator:
    """The toy, ready to translate."""
    translator: Translator = trasluz.load(toy_folder, device="cpu")
    return translator
