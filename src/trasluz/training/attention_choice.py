"""Which layer and head shows a translation's alignment best: the one that agrees most with IBM model 1.

Model 1 (Brown et al. 1993, section 4.1) learns from the pairs alone which source token each target token goes with:

    p(s | t, pair) = a(t | s) / sum over s' in the pair of a(t | s')         a: translation table, by a few rounds of EM

and every cross-attention is scored by the probability mass it shares with that, sum_s min(weights(t, s), p(s | t)),
averaged over target tokens. Means over the heads of a layer compete too. Model 1 is crude, but it knows *which* token
is being written: a head that looks one token behind or ahead loses.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from trasluz.inspection.recorder import record_attention

_ROUNDS = 5
# Model 1 holds some hundred bytes for each pair of positions.
_MOST_LINKS = 20_000_000


def choose_attention(
    model: Any, batches: Iterable[Any], example_ids: Sequence[tuple[list[int], list[int]]]
) -> tuple[int, int | str] | None:
    """Return (layer, head), where head may be "mean"; None for a model without cross-attention.

    The batches hold the first examples, in order: sources with their end token, targets shifted as for training. Of
    long examples model 1 learns from fewer, and only those are judged by.
    """
    cross = model.attentions().get("cross", [])
    if not cross or not example_ids:
        return None
    links = model_one(_fitting(example_ids))
    totals: dict[tuple[int, int | str], float] = {}
    row = 0
    model.eval()
    for batch in batches:
        if row >= len(links):
            break
        with torch.no_grad(), record_attention(model) as record:
            model(batch)
        size = batch.source.shape[0]
        for layer, recorded in record.cross.items():
            weights = recorded.weights.cpu().numpy()
            heads: list[int | str] = list(range(weights.shape[1]))
            for head in [*heads, "mean"] if len(heads) > 1 else heads:
                seen = weights.mean(1) if head == "mean" else weights[:, int(head)]
                key = (layer, head)
                for offset, link in enumerate(links[row : row + size]):
                    num_targets, num_sources = link.shape
                    overlap = np.minimum(seen[offset, :num_targets, :num_sources], link).sum()
                    totals[key] = totals.get(key, 0.0) + float(overlap)
        row += size
    return max(totals, key=lambda key: (totals[key], -key[0]))


def _fitting(examples: Sequence[tuple[list[int], list[int]]]) -> Sequence[tuple[list[int], list[int]]]:
    """Return the first examples, as many as model 1 can hold, and one at least."""
    links = np.cumsum([len(source) * len(target) for source, target in examples])
    return examples[: max(1, int(np.searchsorted(links, _MOST_LINKS, side="right")))]


def model_one(examples: Sequence[tuple[list[int], list[int]]]) -> list[np.ndarray]:
    """Return p(source position | target position) of each example, shape (target, source), by IBM model 1."""
    # One row for every (example, target position, source position); the table is indexed by distinct token pairs.
    sources = [np.repeat(np.asarray(s)[None, :], len(t), 0).ravel() for s, t in examples]
    targets = [np.repeat(np.asarray(t)[:, None], len(s), 1).ravel() for s, t in examples]
    source, target = np.concatenate(sources).astype(np.int64), np.concatenate(targets).astype(np.int64)
    base = int(max(source.max(), target.max())) + 1
    _, pair = np.unique(source * base + target, return_inverse=True)
    # Which target position each row belongs to: its probabilities sum to one.
    counts = np.concatenate([np.full(len(t), len(s)) for s, t in examples])
    position = np.repeat(np.arange(len(counts)), counts)
    posterior = 1.0 / counts[position]
    for _ in range(_ROUNDS):
        expected = np.bincount(pair, posterior)
        by_source = np.bincount(source, posterior, minlength=base)
        likelihood = expected[pair] / by_source[source]
        posterior = likelihood / np.bincount(position, likelihood)[position]
    ends = np.cumsum([len(s) * len(t) for s, t in examples])
    return [part.reshape(len(t), len(s)) for part, (s, t) in zip(np.split(posterior, ends[:-1]), examples, strict=True)]
