"""Masked words and next sentences: two means, each over its own number."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.checkpoints.hub_encoders import write_encoder
from torch.nn.functional import cross_entropy

import trasluz
from trasluz.objectives.loss import SumOfMeans
from trasluz.objectives.next_sentence import NextSentenceObjective
from trasluz.text.batching import make_next_sentence_batch


def test_both_losses_are_those_of_the_heads(tmp_path: Path) -> None:
    write_encoder(tmp_path / "bert", "BertForPreTraining")
    model: Any = trasluz.load(tmp_path / "bert").model
    generator = np.random.default_rng(0)
    pairs = [
        (generator.integers(5, 90, length), np.array([1, 2]), np.array([7, 8]), np.arange(length) // 4 % 2, label)
        for length, label in ((7, 1), (12, 0), (5, 1))
    ]
    batch = make_next_sentence_batch(pairs, pad_id=0)
    assert batch.texts.segments[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    objective = NextSentenceObjective()
    assert isinstance(objective, SumOfMeans)
    loss = objective(model, batch)
    states = model(batch.texts)
    words = cross_entropy(model.heads["fill-mask"](states[batch.rows, batch.columns]), batch.targets, reduction="sum")
    labels = cross_entropy(model.heads["next-sentence"](states), torch.tensor([1, 0, 1]), reduction="sum")
    (further,) = loss.further
    torch.testing.assert_close(loss.total, words)
    torch.testing.assert_close(further.total, labels)
    assert (loss.count, further.count) == objective.counts(batch) == (6, 3)
