"""What a training run tells whoever iterates over it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Update:
    """One update of the weights."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    gradient_norm: float
    # Target tokens of this update, and of the run so far; padding not counted.
    tokens: int
    total_tokens: int
    # Share of the positions that were padding.
    padding: float
    # Of this update, and of the run so far, evaluations included.
    seconds: float
    total_seconds: float
    # Share of the budget used, None where only patience ends the run.
    progress: float | None
    skipped: bool = False


@dataclass(frozen=True)
class Evaluated:
    """A look at the validation data."""

    step: int
    metrics: dict[str, float]
    metric: str
    better: bool
    seconds: float


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on disk."""

    step: int
    path: str


@dataclass(frozen=True)
class Notice:
    """Something worth a line."""

    text: str


@dataclass(frozen=True)
class Chosen:
    """The weights the run ends with: those of several checkpoints averaged, or of one."""

    steps: list[int]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Ended:
    """The run is over: `reason` is budget, patience or interrupted."""

    step: int
    reason: str
    text: str
    seconds: float
    tokens: int
    skipped: int


Report = Update | Evaluated | Saved | Notice | Chosen | Ended
