"""Greedy search: at every step the likeliest token; sentences that have ended leave the batch."""

import torch
from jaxtyping import Int
from torch import Tensor

from trasluz.decoding.constraints import Constraints
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
) -> list[list[Hypothesis]]:
    """Return one hypothesis a source."""
    device = source.device
    constraints = Constraints(settings, tokens, source_lengths)
    state = stepper.start(source, source_lengths, 1, constraints.capacity)
    active = list(range(len(source)))
    found: list[Hypothesis | None] = [None] * len(source)
    ids = torch.full((len(source),), tokens.start_id, device=device)
    history = ids.new_empty(len(source), 0)
    totals = torch.zeros(len(source), dtype=torch.float64, device=device)
    while active:
        logits, state = stepper.step(ids, state)
        logits = logits.float()
        normalizer = constraints.apply(logits, history)
        best, places = best_of_rows(logits, 1)
        # Not beside those of the next step.
        del logits
        best, ids = best[:, 0] - normalizer, places[:, 0]
        totals = totals + best
        history = torch.cat([history, ids[:, None]], dim=1)
        ended = ((ids == tokens.eos_id) | constraints.run_out(history.shape[1])).tolist()
        if any(ended):
            going_on = []
            for row, has_ended in enumerate(ended):
                if has_ended:
                    text, total = tuple(history[row].tolist()), float(totals[row])
                    found[active[row]] = Hypothesis(text, total, settings.normalized(total, len(text)))
                else:
                    going_on.append(row)
            active = [active[row] for row in going_on]
            kept = torch.tensor(going_on, dtype=torch.int64, device=device)
            ids, history, totals = ids[kept], history[kept], totals[kept]
            if going_on:
                constraints.select_rows(kept)
                state.select_rows(kept, kept)
    return [[hypothesis] for hypothesis in found if hypothesis is not None]
