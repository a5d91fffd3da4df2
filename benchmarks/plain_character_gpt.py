"""A plain PyTorch loop that trains a GPT on characters: the peer of character_training.py, in the design of nanoGPT.

    python benchmarks/plain_character_gpt.py runs/sets/shakespeare --threads 1

What nanoGPT (github.com/karpathy/nanoGPT) does at its setting for a CPU, in our words: 4 layers, 4 heads, 128 wide,
pre-norm, GELU, no biases, no dropout, output tied to the embeddings, trained positions; windows of 64 characters drawn
at random places, 12 an update, 2,000 updates; AdamW with weight decay 0.1 on matrices, betas 0.9 and 0.99, clipping at
1, the learning rate rising to 1e-3 in 100 updates and falling to a tenth of it by half a cosine; small normal weights,
smaller where they are added to the residual path. Queries, keys and values come of one product, attention is PyTorch's
fused one, and AdamW is fused. The loss is measured once, at the end, over consecutive windows of the whole validation
part.
"""

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS, HEADS, DIM, WINDOW, ROWS, UPDATES = 4, 4, 128, 64, 12, 2_000
HIGHEST_RATE, LOWEST_RATE, WARMUP = 1e-3, 1e-4, 100
DEVIATION = 0.02


class Layer(nn.Module):
    """Attention and a feed-forward network, each with a norm before it and a path around it."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(DIM, bias=False) for _ in range(2))
        self.look = nn.Linear(DIM, 3 * DIM, bias=False)
        self.mix = nn.Linear(DIM, DIM, bias=False)
        self.widen = nn.Linear(DIM, 4 * DIM, bias=False)
        self.narrow = nn.Linear(4 * DIM, DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the next states."""
        rows, length, _ = x.shape
        parts = self.look(self.norms[0](x)).view(rows, length, 3, HEADS, DIM // HEADS).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.mix(found.transpose(1, 2).reshape(x.shape))
        return x + self.narrow(functional.gelu(self.widen(self.norms[1](x))))


class CharacterGpt(nn.Module):
    """The whole network."""

    def __init__(self, num_characters: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(num_characters, DIM)
        self.places = nn.Embedding(WINDOW, DIM)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(DIM, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                added = name.endswith(("mix.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=DEVIATION / math.sqrt(2 * LAYERS) if added else DEVIATION)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the logits behind every position."""
        x = self.characters(ids) + self.places.weight[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return functional.linear(self.norm(x), self.characters.weight)


def read(folder: Path) -> tuple[Tensor, Tensor, int]:
    """Return the ids of both parts, and how many characters there are."""
    train, valid = ((folder / f"{name}.txt").read_text(encoding="utf-8") for name in ("train", "valid"))
    number = {character: place for place, character in enumerate(sorted(set(train + valid)))}
    ids = [torch.tensor([number[character] for character in text]) for text in (train, valid)]
    return ids[0], ids[1], len(number)


def learning_rate(update: int) -> float:
    """Return the rate of an update, counted from 0."""
    if update < WARMUP:
        return HIGHEST_RATE * (update + 1) / (WARMUP + 1)
    share = (update - WARMUP) / (UPDATES - WARMUP)
    return LOWEST_RATE + (HIGHEST_RATE - LOWEST_RATE) * (1 + math.cos(math.pi * share)) / 2


class PlainRun:
    """One run, from nothing to the last update."""

    def __init__(self, folder: Path, seed: int) -> None:
        torch.manual_seed(seed)
        self.train, self.valid, num_characters = read(folder)
        self.model = CharacterGpt(num_characters)
        matrices = [one for one in self.model.parameters() if one.dim() > 1]
        others = [one for one in self.model.parameters() if one.dim() < 2]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": 0.1},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=HIGHEST_RATE, betas=(0.9, 0.99), fused=True)

    def updates(self) -> Iterator[Tensor]:
        """Make one update after the other, and yield the loss of each."""
        for update in range(UPDATES):
            begins = torch.randint(len(self.train) - WINDOW, (ROWS,))
            windows = self.train[begins[:, None] + torch.arange(WINDOW + 1)]
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(update)
            logits = self.model(windows[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            yield loss.detach()

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Return the mean loss of a character of the validation part, in windows one after the other."""
        total, count = 0.0, len(self.valid) - 1
        inputs, targets = self.valid[:-1].split(WINDOW), self.valid[1:].split(WINDOW)
        for some, wanted in zip(_batches(inputs), _batches(targets), strict=True):
            logits = self.model(some)
            total += float(functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum"))
        return total / count


def _batches(windows: tuple[Tensor, ...]) -> list[Tensor]:
    *whole, last = windows
    at_once = 64
    return [torch.stack(whole[begin : begin + at_once]) for begin in range(0, len(whole), at_once)] + [last[None]]


def main() -> None:
    """Train once, and say how long it took and what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="train.txt and valid.txt, as cut_sets.py leaves them")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = PlainRun(options.folder, options.seed)
    start = time.perf_counter()
    for update, loss in enumerate(run.updates(), 1):
        if update % 100 == 0:
            print(f"{update:5} {float(loss):.3f} {time.perf_counter() - start:.1f} s", flush=True)
    print(f"{time.perf_counter() - start:.1f} seconds, validation loss {run.validation_loss():.4f}")


if __name__ == "__main__":
    main()
