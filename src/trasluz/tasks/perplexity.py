"""Perplexity of documents by sliding window: each token is guessed once, from as many before it as the window leaves.

    perplexity = exp(- sum over all tokens of log p(x_t | x_s ... x_(t-1)) / number of tokens)

Where a document has that many before x_t, t - s is at least the window less the stride.

A window begins `stride` tokens behind the one before, and only what that one did not reach is counted; so a smaller
stride lets more be seen and costs more. With a stride as long as the window no window sees anything of another.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Integer
from torch.nn.functional import cross_entropy

from trasluz.errors import RequestError
from trasluz.tasks.generator import Generator
from trasluz.tasks.grouping import groups_by_length
from trasluz.text.batching import make_causal_batch
from trasluz.text.documents import document_ids

_BATCH_TOKENS = 4096
# Positions whose logits are made at a time.
_AT_ONCE = 512


@dataclass(frozen=True)
class Window:
    """Tokens that the model reads at a time, the last of them only as a target; the `counted` last ones are scored."""

    ids: Integer[np.ndarray, " tokens"]
    counted: int


@dataclass(frozen=True)
class Perplexity:
    """What came out: the mean loss of a token in nats, its exponential, and over how many tokens."""

    loss: float
    tokens: int
    documents: int
    window: int
    stride: int

    @property
    def perplexity(self) -> float:
        """Return the exponential of the loss."""
        return math.exp(min(self.loss, 700.0))

    @property
    def signature(self) -> str:
        """Return how it was counted, for whoever wants to compare."""
        return f"tokens:{self.tokens}|documents:{self.documents}|window:{self.window}|stride:{self.stride}"


def measure_perplexity(
    generator: Generator, texts: Sequence[str], *, stride: int | None = None, batch_tokens: int | None = None
) -> Perplexity:
    """Return the perplexity of these documents, their ends included; without a `stride`, half a window.

    Raises RequestError for a stride that is longer than the window, and where no token can be scored.
    """
    longest = generator.longest_text
    stride = max(1, longest // 2) if stride is None else stride
    if not 1 <= stride <= longest:
        raise RequestError(f"`stride` must be from 1 to the window of {generator.name}, {longest}, but is {stride}.")
    end = generator.config.eos_id
    windows = [
        window
        for ids in document_ids(generator.tokenizer, texts, end)
        # A document follows the end of another, or nothing: then nothing can guess its first token.
        for window in windows_over(ids if end is None else np.append(end, ids), longest, stride)
    ]
    if not windows:
        raise RequestError("no document has two tokens, of which one could be guessed from the other.")
    total, count = 0.0, 0
    with torch.inference_mode():
        for group in groups_by_length([len(window.ids) for window in windows], batch_tokens or _BATCH_TOKENS):
            some = [windows[place] for place in group]
            total += _loss(generator, some)
            count += sum(window.counted for window in some)
    return Perplexity(total / count, count, len(texts), longest, stride)


def windows_over(ids: Integer[np.ndarray, " tokens"], longest: int, stride: int) -> Iterator[Window]:
    """Yield the windows over a document, of at most `longest` tokens that are read; its first token is not scored."""
    scored = 1
    for begin in range(0, len(ids), stride):
        if scored >= len(ids):
            break
        end = min(begin + longest + 1, len(ids))
        yield Window(ids[begin:end], end - scored)
        scored = end


def _loss(generator: Generator, windows: Sequence[Window]) -> float:
    """Return the summed loss of what is counted."""
    model = generator.model
    batch = make_causal_batch([window.ids for window in windows], pad_id=generator.config.pad_id).to(generator.device)
    places = torch.arange(batch.inputs.shape[1], device=generator.device)
    counted = torch.tensor([window.counted for window in windows], device=generator.device)
    chosen = (places < batch.lengths[:, None]) & (places >= (batch.lengths - counted)[:, None])
    states, targets = model(batch)[chosen], batch.targets[chosen]
    total = 0.0
    for begin in range(0, len(states), _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        logits = model.output_head(states[part]).float()  # type: ignore[operator]
        total += float(cross_entropy(logits, targets[part], reduction="sum"))
    return total
