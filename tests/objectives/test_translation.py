"""The translation objective: padding counts for nothing, sums stay sums."""

import torch
from tests.models.zoo import random_batch, small_model
from torch.nn.functional import cross_entropy

from trasluz.objectives.translation import TranslationObjective


def test_equals_cross_entropy_over_the_real_tokens() -> None:
    model = small_model("transformer-post")
    batch = random_batch([3, 8, 5], [6, 2, 4])
    loss = TranslationObjective(0.1)(model, batch)
    logits = model.output_head(model(batch)).flatten(0, 1)
    targets = batch.target_output.flatten()
    expected = cross_entropy(logits, targets, label_smoothing=0.1, ignore_index=0, reduction="sum")
    torch.testing.assert_close(loss.total, expected)
    assert loss.count == 7 + 3 + 5
    torch.testing.assert_close(
        loss.likelihood, cross_entropy(logits, targets, ignore_index=0, reduction="sum").detach()
    )
