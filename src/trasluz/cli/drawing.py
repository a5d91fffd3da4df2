"""Attention drawn where standard output goes."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trasluz.inspection.attention_map import AttentionMap


def draw_here(attention: "AttentionMap") -> str:
    """Return the drawing of a map, as wide and as colourful as standard output can show it."""
    from trasluz.inspection.terminal import Screen, draw

    return draw(attention, Screen.of(sys.stdout))
