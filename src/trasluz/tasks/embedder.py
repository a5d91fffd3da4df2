"""Texts as vectors: near to each other where texts mean alike, for a model that was trained so.

embed = trasluz.load("sentence-transformers/all-MiniLM-L6-v2")
embed("The light comes through the paper.").vector
embed.vectors(["some text", "some more"])                       one row a text

    cls: the first state      mean: the mean of all states of the text      max: the largest of each feature
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Float
from tokenizers.normalizers import Lowercase
from torch import Tensor

from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.checkpoints.sentence_vectors import Pooling, check_pooling
from trasluz.layers.pooling import PoolingKind, pool
from trasluz.tasks.grouping import TOGETHER, windows
from trasluz.tasks.text_task import TextInput, TextTask


@dataclass(frozen=True, eq=False)
class Embedding:
    """A text's vector; `left_out` counts the tokens of the text that had no room in the model."""

    text: str
    vector: Float[np.ndarray, " dim"]
    left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return what `trasluz embed --json` prints; each number is the shortest that reads as the same float32."""
        return {"text": self.text, "embedding": [float(str(x)) for x in self.vector], "left_out": self.left_out}


class Embedder(TextTask):
    """An encoder that makes one vector of a text; called with a text or a list of texts."""

    verb = "embed"

    def __init__(
        self, loaded: LoadedModel, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        """Put the model on its device; its vectors may be of less than it can read."""
        super().__init__(loaded, device, dtype)
        self.longest_text = min(self.longest_text, self.pooling.max_tokens or self.longest_text)

    @property
    def pooling(self) -> Pooling:
        """How the model makes its vectors; the mean, scaled to length 1, where its folder does not say."""
        return self._loaded.pooling or Pooling()

    @overload
    def __call__(
        self, text: str, *, pooling: str | None = None, normalize: bool | None = None, batch_tokens: int | None = None
    ) -> Embedding: ...
    @overload
    def __call__(
        self,
        text: list[str] | tuple[str, ...],
        *,
        pooling: str | None = None,
        normalize: bool | None = None,
        batch_tokens: int | None = None,
    ) -> list[Embedding]: ...

    def __call__(
        self,
        text: str | list[str] | tuple[str, ...],
        *,
        pooling: str | None = None,
        normalize: bool | None = None,
        batch_tokens: int | None = None,
    ) -> Embedding | list[Embedding]:
        """Return the vector of a text, or those of several; what is not given is the model's own, `self.pooling`."""
        texts = [text] if isinstance(text, str) else list(text)
        found = self._embed(texts, pooling, normalize, batch_tokens)
        return found[0] if isinstance(text, str) else found

    def stream(self, texts: Iterable[str], **options: Any) -> Iterator[Embedding]:
        """Embed any number of texts, in order; see `__call__`."""
        return (one for window in windows(texts, TOGETHER) for one in self(window, **options))

    def vectors(self, texts: Sequence[str], **options: Any) -> Float[np.ndarray, "texts dim"]:
        """Return the vectors of texts as the rows of one array, in float32; options are those of `__call__`."""
        if not texts:
            return np.zeros((0, self.config.model_dim), np.float32)
        return np.stack([one.vector for one in self(list(texts), **options)])

    def _embed(
        self, texts: Sequence[str], kind: str | None, normalize: bool | None, batch_tokens: int | None
    ) -> list[Embedding]:
        own = self.pooling
        chosen = own.kind if kind is None else check_pooling(kind)
        inputs = self._inputs(texts)
        vectors: dict[int, Float[np.ndarray, " dim"]] = {}
        for group, pooled in self._pooled(inputs, chosen, batch_tokens):
            if own.normalized if normalize is None else normalize:
                pooled = torch.nn.functional.normalize(pooled)
            vectors |= dict(zip(group, pooled.cpu().numpy(), strict=True))
        return [
            Embedding(text, vectors[number], one.left_out)
            for number, (text, one) in enumerate(zip(texts, inputs, strict=True))
        ]

    def _pooled(
        self, inputs: Sequence[TextInput], kind: PoolingKind, batch_tokens: int | None
    ) -> Iterator[tuple[list[int], Float[Tensor, "batch dim"]]]:
        """Yield groups of inputs: their numbers, and a vector of each."""
        if kind == "cls":
            for group, firsts in self._states_at(inputs, [[0]] * len(inputs), batch_tokens):
                yield group, firsts.float()
            return
        for group, lengths, hidden in self._states(inputs, batch_tokens):
            yield group, pool(hidden.float(), lengths, kind)

    def _inputs(
        self, texts: Sequence[str], second_texts: Sequence[str] | None = None, **options: Any
    ) -> list[TextInput]:
        if self.pooling.lower_case:
            # As sentence-transformers does it, letter by letter: Python's own lower() looks at a letter's neighbours.
            lower = Lowercase().normalize_str
            texts = [lower(text) for text in texts]
            second_texts = second_texts and [lower(text) for text in second_texts]
        return super()._inputs(texts, second_texts, **options)
