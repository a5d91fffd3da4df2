"""The two residual paths are the two papers'."""

import pytest
import torch
from torch.nn.functional import layer_norm

from trasluz.layers.residual import PostNorm, PreNorm
from trasluz.layers.rms_norm import RmsNorm


def test_post_norm_normalises_the_sum() -> None:
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(PostNorm(8)(x, torch.sin), layer_norm(x + x.sin(), (8,)))


def test_pre_norm_leaves_the_path_free() -> None:
    x = torch.randn(2, 3, 8)
    torch.testing.assert_close(PreNorm(8)(x, torch.sin), x + layer_norm(x, (8,)).sin())
    with_another = PreNorm(8, epsilon=0.1, norm=RmsNorm)
    with torch.no_grad():
        torch.testing.assert_close(with_another(x, torch.sin), x + RmsNorm(8, 0.1)(x).sin())


@pytest.mark.parametrize("kind", [PostNorm, PreNorm])
def test_rows_that_are_kept_are_those_of_all_rows(kind: type[PostNorm] | type[PreNorm]) -> None:
    residual, x, kept = kind(8), torch.randn(2, 3, 8), torch.tensor([4, 0])
    some = residual(x, lambda y: y.sin().flatten(0, 1)[kept], kept)
    torch.testing.assert_close(some, residual(x, torch.sin).flatten(0, 1)[kept])
