"""Attention as one self-contained page: two lines of words, rays of light between them, the matrix beside.

The page asks nothing of the network, and its security policy lets it ask nothing: only its own script, named by its
hash, may run. Tokens travel as JSON that no markup can escape from, and are written to the page as text only.
"""

import base64
import hashlib
import html
import importlib.resources
import json
import math
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from trasluz.errors import RequestError
from trasluz.inspection.attention_map import AttentionMap
from trasluz.inspection.labels import cut, is_right_to_left, shown, word_of

# Weights are written as whole numbers of this part of one, or of a smaller one where many words share.
SCALE = 1000
# So many of these parts an even share has at least: what is rounded adds up to a sixtieth of a row at most.
_PARTS_A_WORD = 30
MOST_WEIGHTS = 4_000_000
_SENTENCE_CELLS = 60
_STYLES = ("page.css", "view.css")
_SCRIPTS = ("language.js", "choice.js", "lines.js", "matrix.js", "light.js", "page.js")


def explorer_page(
    maps: Sequence[AttentionMap], *, title: str | None = None, language: Literal["en", "es"] | None = None
) -> str:
    """Return the page for maps of one or more sentences; it opens at the first map, in the reader's language.

    Maps of one sentence stand together, whatever their kinds, layers and heads. Raises RequestError for no maps, or
    for more weights than a page can hold.
    """
    if not maps:
        raise RequestError("there is no attention map to show on a page; give at least one.")
    num_weights = sum(one.weights.size for one in maps)
    if num_weights > MOST_WEIGHTS:
        raise RequestError(
            f"{len(maps)} attention maps with {num_weights / 1e6:.1f} million weights are too many for one page, which "
            f"holds {MOST_WEIGHTS / 1e6:.0f} million: choose fewer layers or heads, or write .npz or .png."
        )
    longest = max(one.weights.shape[1] for one in maps)
    scale = max(SCALE, 10 ** math.ceil(math.log10(_PARTS_A_WORD * longest)))
    data = {
        "title": title,
        "language": language,
        "scale": scale,
        "first": {"kind": maps[0].kind, "layer": maps[0].layer, "head": maps[0].head},
        "sentences": [_sentence_data(group, scale) for group in _sentences(maps)],
    }
    style = "".join(map(_part, _STYLES))
    # In a block of their own, so that no name of the page's script meets one of the browser's.
    script = '"use strict";\n{\n' + "".join(map(_part, _SCRIPTS)) + "}\n"
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    heading = title or "Attention · trasluz"
    parts = {
        "policy": html.escape(policy, quote=True),
        "title": html.escape(shown(heading)),
        "style": style,
        "script": script,
        "data": _inert_json(data),
    }
    # In one pass: what is put in is never searched for further marks.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found.group(1)], _part("page.html"))


def _part(name: str) -> str:
    return importlib.resources.files("trasluz.inspection").joinpath("page", name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _inert_json(data: Any) -> str:
    """Return JSON in which no character can end the element that holds it or begin another."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sentences(maps: Sequence[AttentionMap]) -> list[list[AttentionMap]]:
    """Group maps by sentence: the same words in a map of the same kind, or matching words in one of another kind."""
    sentences: list[list[AttentionMap]] = []
    for one in maps:
        fitting = [group for group in sentences if _belongs(one, group)]
        surely = [group for group in fitting if any(_shares_words(one, other) for other in group)]
        if surely or (fitting and fitting[-1] is sentences[-1]):
            (surely or fitting)[-1].append(one)
        else:
            sentences.append([one])
    return sentences


def _belongs(one: AttentionMap, group: Sequence[AttentionMap]) -> bool:
    for other in group:
        if other.model != one.model or other.merged != one.merged:
            return False
        if other.kind == one.kind and not _shares_words(one, other):
            return False
        if (other.kind, other.layer, other.head) == (one.kind, one.layer, one.head):
            return False
        if {one.kind, other.kind} == {"cross", "encoder"} and one.source_tokens != other.source_tokens:
            return False
    return True


def _shares_words(one: AttentionMap, other: AttentionMap) -> bool:
    if one.kind == other.kind:
        return (one.source_tokens, one.target_tokens) == (other.source_tokens, other.target_tokens)
    if {one.kind, other.kind} == {"cross", "encoder"}:
        return one.source_tokens == other.source_tokens
    if {one.kind, other.kind} == {"cross", "decoder"}:
        crossing, decoding = (one, other) if one.kind == "cross" else (other, one)
        # A decoder reads its words one place later than it gives them, behind a start sign.
        return crossing.target_tokens in (
            decoding.target_tokens,
            [*decoding.target_tokens[1:], crossing.target_tokens[-1]],
        )
    return False


def _sentence_data(group: Sequence[AttentionMap], scale: int) -> dict[str, Any]:
    first = group[0]
    kinds: dict[str, Any] = {}
    for one in group:
        kind = kinds.setdefault(
            one.kind,
            {
                "rows": _side(one.target_tokens, one.target_words),
                "columns": _side(one.source_tokens, one.source_words),
                "maps": [],
            },
        )
        weights = np.rint(one.weights * scale).astype(int).ravel().tolist()
        kind["maps"].append({"layer": one.layer, "head": one.head, "weights": weights})
    words = _side(first.source_tokens, first.source_words)
    return {
        "model": shown(first.model) if first.model else "",
        "label": cut(" ".join(words["words"] or words["tokens"]), _SENTENCE_CELLS),
        "kinds": {kind: kinds[kind] for kind in ("cross", "encoder", "decoder") if kind in kinds},
    }


def _side(tokens: Sequence[str], groups: Sequence[Sequence[int]] | None) -> dict[str, Any]:
    return {
        "tokens": [shown(token) for token in tokens],
        "words": groups and [shown(word_of([tokens[i] for i in group])) for group in groups],
        "groups": groups,
        "rtl": sum(map(is_right_to_left, tokens)) * 2 > len(tokens),
    }
