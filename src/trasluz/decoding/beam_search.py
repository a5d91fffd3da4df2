"""Beam search (Sutskever et al. 2014, section 3.2; ranking: Wu et al. 2016, section 7) on state, for any decoder.

Every source keeps `beam` running hypotheses. At each step the 2 * beam likeliest extensions are looked at, so that
`beam` of them go on even if all others end. An extension that ends counts as finished when it is among the first
`beam`. A source is done when it has `beam` finished hypotheses and its best running one, ranked as if it ended here,
would not be better than the worst of them; its rows then leave the batch, and others take their places.

What a text is, ids do not tell. A `Reading` does: where a text ends without an end token, and which hypotheses are one
text, of which the best alone is kept.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trasluz.decoding.at_work import AtWork
from trasluz.decoding.constraints import IMPOSSIBLE
from trasluz.decoding.coverage import Coverage
from trasluz.decoding.settings import DecodingTokens, Hypothesis, SearchSettings
from trasluz.layers.kernels.likeliest import best_of_rows
from trasluz.models.stepper import StateT, Stepper


@dataclass(frozen=True)
class Reading:
    """What a search must know of texts: whether the last of some ids ends one, and what text they are."""

    ended: Callable[[Sequence[int]], bool]
    text: Callable[[Sequence[int]], Hashable]


_IDS_ALONE = Reading(ended=lambda ids: False, text=tuple)


@dataclass
class _Finished:
    """The best finished hypotheses of one source, no two of them one text."""

    settings: SearchSettings
    reading: Reading
    by_text: dict[Hashable, Hypothesis] = field(default_factory=dict)

    @property
    def hypotheses(self) -> list[Hypothesis]:
        return list(self.by_text.values())

    def add(self, hypothesis: Hypothesis) -> None:
        text = self.reading.text(hypothesis.ids)
        other = self.by_text.get(text)
        if other is None or other.score < hypothesis.score:
            self.by_text[text] = hypothesis
        ordered = sorted(self.by_text.items(), key=lambda found: -found[1].score)
        self.by_text = dict(ordered[: self.settings.beam])

    def cannot_improve(self, best_running: float, length: int) -> bool:
        if best_running == IMPOSSIBLE:
            return True
        if len(self.by_text) < self.settings.beam:
            return False
        return self.settings.normalized(best_running, length) <= self.hypotheses[-1].score


@torch.inference_mode()
def beam_search(
    stepper: Stepper[StateT],
    source: Int[Tensor, "sources source"],
    source_lengths: Int[Tensor, " sources"],
    settings: SearchSettings,
    tokens: DecodingTokens,
    coverage: Coverage | None = None,
    reading: Reading | None = None,
    batch_tokens: int | None = None,
) -> list[list[Hypothesis]]:
    """Return up to `nbest` hypotheses a source, best first; without a `reading` the end token alone ends one.

    At most `batch_tokens` of sources are worked on at once (None: all).
    """
    device, beam = source.device, settings.beam
    work = AtWork(stepper, source, source_lengths, settings, tokens, beam=beam, batch_tokens=batch_tokens)
    finished = [_Finished(settings, reading or _IDS_ALONE) for _ in range(len(source))]
    running = torch.zeros(0, beam, dtype=torch.float64, device=device)
    while True:
        newcomers = work.admit()
        if not work.sources:
            return [best.hypotheses[: settings.nbest] for best in finished]
        if newcomers:
            # All beams of a source begin alike, so only the first may be extended at first.
            begun = torch.full((len(newcomers), beam), IMPOSSIBLE, dtype=torch.float64, device=device)
            begun[:, 0] = 0.0
            running = torch.cat([running, begun])
            if coverage is not None:
                coverage.join(source_lengths[newcomers])
        logits, normalizer = work.step()
        totals, beams, ids_tried = _best_extensions(running, logits, normalizer, 2 * beam)
        # Not beside those of the next step: with many rows they are as large as the model.
        del logits
        first_rows = torch.arange(len(work.sources), device=device)[:, None] * beam
        # What has no room for more stands as it is.
        ends = (ids_tried == tokens.eos_id) | work.run_out()[::beam, None]
        if reading is not None:
            ends |= _ended(reading, work.history[first_rows + beams], ids_tried)
        # At most steps nothing ends, and the best go on as they are.
        if ends.any():
            for place, rank in (ends & (totals > IMPOSSIBLE))[:, :beam].nonzero().tolist():
                row = place * beam + int(beams[place, rank])
                total = float(totals[place, rank])
                score = settings.normalized(total, work.length(place))
                if coverage is not None:
                    score += settings.coverage_penalty * coverage.penalty(row)
                text = (*work.text(row), int(ids_tried[place, rank]))
                finished[work.sources[place]].add(Hypothesis(text, total, score))
            # The best that do not end go on: a stable sort by "ends" keeps their order.
            going_on = ends.int().argsort(dim=1, stable=True)
            totals = totals.masked_fill(ends, IMPOSSIBLE)
            totals, beams, ids_tried = (one.gather(1, going_on) for one in (totals, beams, ids_tried))
        running, rows, ids = totals[:, :beam], first_rows + beams[:, :beam], ids_tried[:, :beam]
        kept = [
            place
            for place, best in enumerate(running[:, 0].tolist())
            if not finished[work.sources[place]].cannot_improve(best, work.length(place))
        ]
        left = None
        if len(kept) < len(work.sources):
            left = kept
            running, rows, ids = running[kept], rows[kept], ids[kept]
        work.go_on(rows.flatten(), ids.flatten(), left)
        if coverage is not None:
            coverage.select_rows(rows.flatten())


def _ended(
    reading: Reading, history: Int[Tensor, "sources tried target"], ids_tried: Int[Tensor, "sources tried"]
) -> Bool[Tensor, "sources tried"]:
    """Tell of each extension whether it ends its text."""
    extended = torch.cat([history, ids_tried[:, :, None]], dim=2)
    return torch.tensor([[reading.ended(ids) for ids in of_one] for of_one in extended.tolist()], device=history.device)


def _best_extensions(
    running: Float[Tensor, "sources beams"],
    logits: Float[Tensor, "rows vocab"],
    normalizer: Float[Tensor, " rows"],
    count: int,
) -> tuple[Float[Tensor, "sources tried"], Int[Tensor, "sources tried"], Int[Tensor, "sources tried"]]:
    """Return the totals, beams and tokens of the likeliest extensions of every source, best first."""
    # The best extensions of a source are among the best of each of its beams: a narrow top-k a row, then one a source.
    narrow = min(count, logits.shape[1])
    best, tokens = best_of_rows(logits, narrow)
    totals = (running.flatten()[:, None] + (best - normalizer[:, None])).view(len(running), -1)
    if totals.shape[1] < count:
        missing = count - totals.shape[1]
        totals = torch.nn.functional.pad(totals, (0, missing), value=IMPOSSIBLE)
        tokens = torch.nn.functional.pad(tokens.view(len(running), -1), (0, missing))
    chosen_totals, chosen = totals.topk(count, dim=-1)
    beams = (chosen // narrow).clamp(max=running.shape[1] - 1)
    return chosen_totals, beams, tokens.view(len(running), -1).gather(1, chosen)
