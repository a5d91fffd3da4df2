"""What constraints do to log-probabilities, with and without the conventions of other libraries."""

import torch
from torch import Tensor

from trasluz.decoding.constraints import IMPOSSIBLE, constrain
from trasluz.decoding.settings import DecodingTokens, SearchSettings

TOKENS = DecodingTokens(start_id=1, eos_id=2, forbidden_ids=(0, 1))


def constrained(settings: SearchSettings, longest: int, history: list[list[int]]) -> tuple[Tensor, Tensor]:
    before = torch.randn(len(history), 6).log_softmax(-1)
    after = before.clone()
    rows = len(history)
    limits = torch.zeros(rows, dtype=torch.int64), torch.full((rows,), longest)
    past = torch.tensor(history, dtype=torch.int64).view(rows, -1)
    constrain(after, past, *limits, settings, TOKENS)
    return before, after


def test_what_is_left_keeps_its_probability() -> None:
    before, after = constrained(SearchSettings(), 9, [[3], [4]])
    assert (after[:, :2] == IMPOSSIBLE).all()
    assert torch.equal(after[:, 2:], before[:, 2:])


def test_renormalized_it_sums_to_one() -> None:
    before, after = constrained(SearchSettings(renormalize=True, no_repeat_ngram=1), 9, [[3], [4]])
    torch.testing.assert_close(after.exp().sum(-1), torch.ones(2))
    assert after[0, 3] == after[1, 4] == IMPOSSIBLE
    # Ratios stay.
    torch.testing.assert_close(after[0, 4] - after[0, 5], before[0, 4] - before[0, 5])


def test_a_forced_end_costs_what_the_model_says_or_nothing() -> None:
    before, after = constrained(SearchSettings(), 3, [[3, 4], [4, 5]])
    assert torch.equal(after[:, 2], before[:, 2])
    _, free = constrained(SearchSettings(free_forced_end=True), 3, [[3, 4], [4, 5]])
    assert (free[:, 2] == 0.0).all()
    for forced in (after, free):
        assert (forced[:, [0, 1, 3, 4, 5]] == IMPOSSIBLE).all()
    before, early = constrained(SearchSettings(free_forced_end=True), 9, [[3, 4], [4, 5]])
    assert torch.equal(early[:, 2:], before[:, 2:])
