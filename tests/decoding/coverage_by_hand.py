"""The coverage penalty of one target, from one recorded pass over it."""

import math

import torch
from torch import Tensor, nn

from trasluz.inspection.recorder import record_attention
from trasluz.text.batching import TranslationBatch


def penalty_by_hand(model: nn.Module, source: Tensor, length: int, ids: tuple[int, ...]) -> float:
    """Return sum_i log(min(sum_t weights(t, i), 1)) with the heads of the last layer averaged."""
    batch = TranslationBatch(
        source=source[None, :length],
        source_lengths=torch.tensor([length]),
        target_input=torch.tensor([(1, *ids[:-1])]),
        target_output=torch.tensor([ids]),
        target_lengths=torch.tensor([len(ids)]),
    )
    with torch.inference_mode(), record_attention(model) as record:
        model(batch)
    weights = record.cross[max(record.cross)].weights[0].mean(0)
    return sum(math.log(min(float(looked), 1.0)) for looked in weights.sum(0))
