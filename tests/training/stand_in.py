"""A model of a few hundred weights and made-up batches: the trainer needs no more to be tested."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY = 11


@dataclass(frozen=True)
class Numbers:
    """Sequences whose next number is to be predicted."""

    ids: Tensor

    def to(self, device: torch.device) -> "Numbers":
        return Numbers(self.ids.to(device))

    @property
    def num_target_tokens(self) -> int:
        return int((self.ids[:, 1:] > 0).sum())

    @property
    def padding_share(self) -> float:
        return 1.0 - self.num_target_tokens / self.ids[:, 1:].numel()


class Sum(NamedTuple):
    total: Tensor
    count: int


class Predictor(nn.Module):
    """The next number from the last one; dropout, so that randomness matters; output tied to the embedding."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 8)
        self.hidden = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(8, VOCABULARY, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.dropout(torch.relu(self.hidden(self.embedding(ids))))
        return self.output(self.norm(hidden))


def objective(model: nn.Module, batch: Numbers) -> Sum:
    logits = model(batch.ids[:, :-1])
    target = batch.ids[:, 1:]
    total = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=0, reduction="sum")
    return Sum(total, batch.num_target_tokens)


def make_batch(seed: int, rows: int = 6, length: int = 7) -> Numbers:
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(0, 10, (rows, 1), generator=generator)
    ids = (start + torch.arange(length)) % 10 + 1
    kept = torch.randint(3, length + 1, (rows, 1), generator=generator)
    return Numbers(torch.where(torch.arange(length) < kept, ids, 0))


@dataclass
class Stream:
    """`size` updates an epoch, each of `pieces` batches."""

    size: int = 10
    pieces: int = 1

    def num_updates(self, epoch: int) -> int:
        return self.size

    def updates(self, epoch: int, start: int) -> Iterator[Sequence[Numbers]]:
        for index in range(start, self.size):
            yield [make_batch(1000 * epoch + 10 * index + piece) for piece in range(self.pieces)]

    def stand_in(self) -> Numbers:
        return make_batch(0, rows=1)

    def places(self, epoch: int, index: int) -> list[str]:
        return [f"numbers.txt:{index * 6 + row + 1}" for row in range(6)]


def evaluate(model: nn.Module) -> dict[str, float]:
    batch = make_batch(99_999, rows=20)
    total, count = objective(model, batch)
    return {"loss": float(total.detach()) / count}
