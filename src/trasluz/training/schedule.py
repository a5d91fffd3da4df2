"""Learning-rate schedules: what `learning_rate` is multiplied by at each update, after a linear warm-up.

noam      sqrt(warmup / step)       (Vaswani et al. 2017, section 5.3; here learning_rate sets the peak)
linear    1 - p                     p: share of the budget used since the warm-up ended
cosine    (1 + cos(pi p)) / 2
constant  1
plateau   factor ^ (number of times that `patience` evaluations brought no better one)
"""

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["noam", "linear", "cosine", "constant", "plateau"]


@dataclass
class Schedule:
    """The multiplier of the learning rate; the fields after `plateau_patience` are its memory, saved in checkpoints."""

    kind: Kind
    warmup_steps: int
    plateau_factor: float = 0.5
    plateau_patience: int = 2
    # Share of the budget that the warm-up took, known when it ends; linear and cosine fall from there on.
    warmup_progress: float = 0.0
    reductions: int = 0
    evaluations_without_better: int = 0

    def multiplier(self, step: int, progress: float) -> float:
        """Return the factor for update `step` (from 1), when `progress` (0 to 1) of the budget is used."""
        if step <= self.warmup_steps:
            self.warmup_progress = progress
            return step / self.warmup_steps
        if self.kind == "noam":
            return math.sqrt(max(self.warmup_steps, 1) / step)
        if self.kind == "plateau":
            return self.plateau_factor**self.reductions
        if self.kind == "constant":
            return 1.0
        left = 1.0 - self.warmup_progress
        share = min(max((progress - self.warmup_progress) / left, 0.0), 1.0) if left > 0 else 1.0
        return 1.0 - share if self.kind == "linear" else (1.0 + math.cos(math.pi * share)) / 2.0

    def observe(self, better: bool) -> None:
        """Take note of an evaluation; only plateau listens."""
        self.evaluations_without_better = 0 if better else self.evaluations_without_better + 1
        if self.evaluations_without_better >= self.plateau_patience:
            self.reductions += 1
            self.evaluations_without_better = 0

    def state(self) -> dict[str, float | int]:
        """Return what a checkpoint must hold."""
        return {
            "warmup_progress": self.warmup_progress,
            "reductions": self.reductions,
            "evaluations_without_better": self.evaluations_without_better,
        }

    def restore(self, state: dict[str, float | int]) -> None:
        """Take back what `state` gave."""
        self.warmup_progress = float(state["warmup_progress"])
        self.reductions = int(state["reductions"])
        self.evaluations_without_better = int(state["evaluations_without_better"])
