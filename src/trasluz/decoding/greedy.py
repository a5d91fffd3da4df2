"""Greedy search: at every step the likeliest token; sentences that have ended leave the batch, and others come."""

import torch
from jaxtyping import Int
from torch import Tensor

from trasluz.decoding.at_work import AtWork
from trasluz.decoding.settings import DecodingTokens, Hypothesis, SearchSettings
from trasluz.layers.kernels.likeliest import best_of_rows
from trasluz.models.stepper import StateT, Stepper


@torch.inference_mode()
def greedy_search(
    stepper: Stepper[StateT],
    source: Int[Tensor, "sources source"],
    source_lengths: Int[Tensor, " sources"],
    settings: SearchSettings,
    tokens: DecodingTokens,
    batch_tokens: int | None = None,
) -> list[list[Hypothesis]]:
    """Return one hypothesis a source; at most `batch_tokens` of sources are worked on at once (None: all)."""
    work = AtWork(stepper, source, source_lengths, settings, tokens, beam=1, batch_tokens=batch_tokens)
    found: dict[int, Hypothesis] = {}
    totals = torch.zeros(0, dtype=torch.float64, device=source.device)
    while True:
        totals = torch.nn.functional.pad(totals, (0, len(work.admit())))
        if not work.sources:
            return [[found[place]] for place in range(len(source))]
        logits, normalizer = work.step()
        best, ids = best_of_rows(logits, 1)
        # Not beside those of the next step.
        del logits
        totals, ids = totals + (best[:, 0] - normalizer), ids[:, 0]
        ended = ((ids == tokens.eos_id) | work.run_out()).tolist()
        if not any(ended):
            work.go_on(None, ids)
            continue
        for row in (row for row, has_ended in enumerate(ended) if has_ended):
            text, total = (*work.text(row), int(ids[row])), float(totals[row])
            found[work.sources[row]] = Hypothesis(text, total, settings.normalized(total, len(text)))
        going_on = [row for row, has_ended in enumerate(ended) if not has_ended]
        rows = torch.tensor(going_on, dtype=torch.int64, device=source.device)
        totals = totals[rows]
        work.go_on(rows, ids[rows], going_on)
