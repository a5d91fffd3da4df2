"""What constraints do to log-probabilities, with and without the conventions of other libraries."""

from dataclasses import replace

import torch
from torch import Tensor

from trasluz.decoding.constraints import IMPOSSIBLE, Constraints
from trasluz.decoding.settings import DecodingTokens, SearchSettings

TOKENS = DecodingTokens(start_id=1, eos_id=2, forbidden_ids=(0, 1))


def constrained(settings: SearchSettings, longest: int, history: list[list[int]]) -> tuple[Tensor, Tensor]:
    logits = torch.randn(len(history), 6)
    before = logits.log_softmax(-1)
    constraints = Constraints(replace(settings, max_length=longest), TOKENS, torch.full((len(history),), 20))
    normalizer = constraints.apply(logits, torch.tensor(history, dtype=torch.int64).view(len(history), -1))
    return before, logits - normalizer[:, None]


def test_what_is_left_keeps_its_probability() -> None:
    before, after = constrained(SearchSettings(), 9, [[3], [4]])
    assert (after[:, :2] == IMPOSSIBLE).all()
    torch.testing.assert_close(after[:, 2:], before[:, 2:])


def test_renormalized_it_sums_to_one() -> None:
    before, after = constrained(SearchSettings(renormalize=True, no_repeat_ngram=1), 9, [[3], [4]])
    torch.testing.assert_close(after.exp().sum(-1), torch.ones(2))
    assert after[0, 3] == after[1, 4] == IMPOSSIBLE
    # Ratios stay.
    torch.testing.assert_close(after[0, 4] - after[0, 5], before[0, 4] - before[0, 5])


def test_a_forced_end_costs_what_the_model_says_or_nothing() -> None:
    before, after = constrained(SearchSettings(), 3, [[3, 4], [4, 5]])
    torch.testing.assert_close(after[:, 2], before[:, 2])
    _, free = constrained(SearchSettings(at_limit="free-end"), 3, [[3, 4], [4, 5]])
    torch.testing.assert_close(free[:, 2], torch.zeros(2))
    for forced in (after, free):
        assert (forced[:, [0, 1, 3, 4, 5]] == IMPOSSIBLE).all()
    before, early = constrained(SearchSettings(at_limit="free-end"), 9, [[3, 4], [4, 5]])
    torch.testing.assert_close(early[:, 2:], before[:, 2:])
