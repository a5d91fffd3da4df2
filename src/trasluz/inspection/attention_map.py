"""One attention matrix with its words: which source token each target token looked at, and how much.

    weights[t, s] = share of target token t's attention that falls on source token s;  sum over s = 1

In self-attention both sides are the same text. Merging sub-words into words sums over the pieces of a source word
(shares add up) and averages over the pieces of a target word (so rows still sum to 1).
"""

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from trasluz.errors import RequestError, nearest
from trasluz.inspection.labels import word_of

Kind = Literal["encoder", "decoder", "cross"]
KINDS: tuple[str, ...] = get_args(Kind)
_REQUIRED = ("kind", "layer", "head", "source_tokens", "target_tokens", "weights")
_OPTIONAL = ("model", "merged", "source_words", "target_words")


@dataclass(eq=False, repr=False)
class AttentionMap:
    """The attention of one layer and head, or a mean of several, over one sentence.

    `source_words` and `target_words` say which token positions make a word; without them words cannot be merged.
    """

    weights: Float[np.ndarray, "target source"]
    source_tokens: list[str]
    target_tokens: list[str]
    kind: Kind = "cross"
    layer: int | Literal["mean"] = "mean"
    head: int | Literal["mean"] = "mean"
    model: str = ""
    merged: bool = False
    source_words: list[list[int]] | None = None
    target_words: list[list[int]] | None = None

    def __post_init__(self) -> None:
        self.weights = self.weights.astype(np.float32, copy=False)
        for name in ("source_tokens", "target_tokens"):
            if not getattr(self, name):
                raise RequestError(f"attention `{name}` is empty; a map needs at least one token on each side.")
        _check_weights(self.weights, len(self.target_tokens), len(self.source_tokens))
        _check_groups(self.source_words, len(self.source_tokens), "source_words")
        _check_groups(self.target_words, len(self.target_tokens), "target_words")

    @property
    def title(self) -> str:
        """What is shown, in words: kind, layer and head."""
        layer = "mean of the layers" if self.layer == "mean" else f"layer {self.layer}"
        head = "mean of the heads" if self.head == "mean" else f"head {self.head}"
        return f"{self.kind} attention · {layer} · {head}"

    def words(self) -> "AttentionMap":
        """Merge sub-words into words: weights are summed over source pieces and averaged over target pieces."""
        if self.merged:
            return self
        if self.source_words is None or self.target_words is None:
            side = "source_words" if self.source_words is None else "target_words"
            raise RequestError(
                f"this attention map cannot be merged into words: it has no `{side}` (which token positions make a "
                "word). Ask the translator for it, or give the groups when the map is made."
            )
        weights = np.stack([self.weights[:, group].sum(axis=1) for group in self.source_words], axis=1)
        weights = np.stack([weights[group].mean(axis=0) for group in self.target_words], axis=0)
        return replace(
            self,
            weights=weights,
            source_tokens=[word_of([self.source_tokens[i] for i in group]) for group in self.source_words],
            target_tokens=[word_of([self.target_tokens[i] for i in group]) for group in self.target_words],
            merged=True,
            source_words=None,
            target_words=None,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; each weight is the shortest decimal that reads back as the same float32."""
        return {
            "model": self.model,
            "kind": self.kind,
            "layer": self.layer,
            "head": self.head,
            "source_tokens": list(self.source_tokens),
            "target_tokens": list(self.target_tokens),
            "weights": [[float(str(weight)) for weight in row] for row in self.weights],
            "merged": self.merged,
        }

    @classmethod
    def from_dict(cls, data: Any) -> "AttentionMap":
        """Read the JSON form; the word groups, which it does not hold, may be added under their names."""
        if not isinstance(data, Mapping):
            raise RequestError(f"attention data must be an object with names and values, not {type(data).__name__}.")
        for key in _REQUIRED:
            if key not in data:
                raise RequestError(f"attention data lack {key!r}; needed are {', '.join(_REQUIRED)}.")
        known = (*_REQUIRED, *_OPTIONAL)
        for key in data:
            if key not in known:
                near = nearest(str(key), known)
                meant = f"did you mean {near!r}?" if near else f"known are {', '.join(known)}."
                raise RequestError(f"attention data have an unknown key {key!r}; {meant}")
        return cls(
            weights=_weights(data["weights"]),
            source_tokens=_tokens(data["source_tokens"], "source_tokens"),
            target_tokens=_tokens(data["target_tokens"], "target_tokens"),
            kind=_kind(data["kind"]),
            layer=_number(data["layer"], "layer"),
            head=_number(data["head"], "head"),
            model=str(data.get("model") or ""),
            merged=_truth(data.get("merged", False), "merged"),
            source_words=_groups(data.get("source_words"), "source_words"),
            target_words=_groups(data.get("target_words"), "target_words"),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the map as its ending says: .png .svg .pdf (a picture), .html (a page), .json or .npz (data).

        Raises RequestError for another ending, WriteError where the place cannot be written.
        """
        from trasluz.inspection.attention_file import save_maps

        save_maps([self], path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "AttentionMap":
        """Read one map back from .json or .npz."""
        from trasluz.inspection.attention_file import load_maps

        maps = load_maps(path)
        if len(maps) != 1:
            raise RequestError(f"{os.fspath(path)} holds {len(maps)} attention maps; read them with load_maps.")
        return maps[0]

    def terminal(self, width: int = 80) -> str:
        """Draw the map as plain text at most `width` cells wide."""
        from trasluz.inspection.terminal import Screen, draw

        return draw(self, Screen(width=width))

    def __str__(self) -> str:
        return self.terminal()

    def __repr__(self) -> str:
        sizes = f"{len(self.target_tokens)} target x {len(self.source_tokens)} source tokens"
        model = f", model {self.model!r}" if self.model else ""
        return f"AttentionMap({self.kind}, layer {self.layer}, head {self.head}, {sizes}{model})"

    def _repr_html_(self) -> str:
        from trasluz.inspection.explorer import explorer_page

        # A frame of its own: its script and style touch nothing of the notebook, nor the notebook's them.
        height = min(900, 420 + 26 * len(self.target_tokens))
        page = html.escape(explorer_page([self]), quote=True)
        return (
            f'<iframe srcdoc="{page}" sandbox="allow-scripts" title="{html.escape(self.title, quote=True)}" '
            f'style="width:100%;height:{height}px;border:0"></iframe>'
        )


def mean_map(maps: Sequence[AttentionMap]) -> AttentionMap:
    """Return the mean over heads, or over layers and heads, of maps of one kind over the same tokens."""
    if not maps:
        raise RequestError("there is no attention map to take the mean of; give at least one.")
    first = maps[0]
    for other in maps[1:]:
        if (other.kind, other.source_tokens, other.target_tokens, other.merged) != (
            first.kind,
            first.source_tokens,
            first.target_tokens,
            first.merged,
        ):
            raise RequestError(
                f"a mean needs maps of one kind over the same tokens; {other!r} does not go with {first!r}."
            )
    layers = {one.layer for one in maps}
    weights = np.stack([one.weights for one in maps]).mean(axis=0, dtype=np.float64)
    return replace(first, weights=weights, layer=first.layer if len(layers) == 1 else "mean", head="mean")


def maps_of_heads(
    weights: Float[np.ndarray, "heads target source"],
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
    *,
    kind: Kind,
    layer: int,
    heads: Sequence[int] | None = None,
    model: str = "",
    source_words: list[list[int]] | None = None,
    target_words: list[list[int]] | None = None,
) -> list[AttentionMap]:
    """Return one map for each head of a layer; `heads` gives their numbers where only some were recorded."""
    return [
        AttentionMap(
            weights[index],
            list(source_tokens),
            list(target_tokens),
            kind=kind,
            layer=layer,
            head=index if heads is None else heads[index],
            model=model,
            source_words=source_words,
            target_words=target_words,
        )
        for index in range(len(weights))
    ]


def _tokens(tokens: Any, name: str) -> list[str]:
    if not isinstance(tokens, list):
        raise RequestError(f"attention `{name}` must be a list of texts, not {type(tokens).__name__}.")
    for index, token in enumerate(tokens):
        if not isinstance(token, str):
            raise RequestError(f"attention `{name}[{index}]` is {token!r}; every token must be a text.")
    return tokens


def _weights(weights: Any) -> np.ndarray:
    try:
        array = np.asarray(weights, dtype=np.float32)
    except (TypeError, ValueError):
        array = np.zeros(0, dtype=np.float32)
    if array.ndim != 2:
        raise RequestError("attention `weights` must be rows of numbers, all rows equally long.")
    return array


def _check_weights(weights: np.ndarray, num_target: int, num_source: int) -> None:
    if weights.shape != (num_target, num_source):
        raise RequestError(
            f"attention `weights` have shape {weights.shape}; with {num_target} target and {num_source} source tokens "
            f"they must have ({num_target}, {num_source})."
        )
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        row, column = np.argwhere(wrong)[0].tolist()
        raise RequestError(
            f"attention `weights[{row}][{column}]` is {weights[row, column]}; a weight is a number from 0 to 1."
        )


def _kind(kind: Any) -> Any:
    if kind not in KINDS:
        near = nearest(str(kind), KINDS)
        meant = f" (did you mean {near!r}?)" if near else ""
        raise RequestError(f"attention `kind` is {kind!r}{meant}; it must be one of {', '.join(KINDS)}.")
    return kind


def _number(value: Any, name: str) -> Any:
    if value == "mean" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise RequestError(f"attention `{name}` is {value!r}; it must be a number counted from 0, or 'mean'.")


def _truth(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise RequestError(f"attention `{name}` is {value!r}; it must be true or false.")
    return value


def _groups(groups: Any, name: str) -> list[list[int]] | None:
    if groups is None:
        return None
    try:
        return [[int(position) for position in group] for group in groups]
    except (TypeError, ValueError):
        raise RequestError(f"attention `{name}` must be lists of token positions, one list a word.") from None


def _check_groups(groups: list[list[int]] | None, num_tokens: int, name: str) -> None:
    if groups is None:
        return
    if sorted(position for group in groups for position in group) != list(range(num_tokens)) or [] in groups:
        raise RequestError(
            f"attention `{name}` must hold each of the positions 0 to {num_tokens - 1} once, in groups that are not "
            f"empty; it is {str(groups)[:120]}."
        )
