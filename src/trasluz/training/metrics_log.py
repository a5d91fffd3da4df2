"""metrics.jsonl: one object a line, for whoever draws curves; cut back to the checkpoint's place on a resume.

Where TensorBoard is installed, it gets the same numbers.
"""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

from trasluz.files import atomic_write, write_error
from trasluz.training.reports import Chosen, Ended, Evaluated, Report, Update
from trasluz.training.tensorboard_log import TensorBoardLog


class MetricsLog:
    """Sums up `every` updates a line, and writes evaluations, the choice and the end as they come."""

    def __init__(self, path: str | os.PathLike[str], every: int) -> None:
        self.path = Path(path)
        self.every = every
        self._window: list[Update] = []
        self._curves: TensorBoardLog | None = None

    def begin(self, step: int) -> None:
        """Keep the lines up to a step; a line torn by a kill, and the end of an earlier part of the run, go too."""
        kept = []
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if entry.get("kind") in ("update", "evaluation") and entry.get("step", 0) <= step:
                    kept.append(line)
        with atomic_write(self.path, "w") as file:
            file.writelines(line + "\n" for line in kept)
        self._curves = TensorBoardLog(self.path.parent / "tensorboard", step)

    def write(self, report: Report) -> None:
        """Take note of a report."""
        match report:
            case Update():
                self._window.append(report)
                if report.step % self.every == 0:
                    self._write_window()
            case Evaluated():
                # A checkpoint follows: what came before it must be in the file.
                self._write_window()
                self._append("evaluation", {"step": report.step, **report.metrics, "seconds": round(report.seconds, 3)})
            case Chosen():
                self._append("chosen", {"steps": report.steps, **report.metrics})
            case Ended():
                self._write_window()
                self._append("end", dataclasses.asdict(report))
            case _:
                pass

    def _write_window(self) -> None:
        window = self._window
        self._window = []
        if not window:
            return
        last = window[-1]
        good = [update for update in window if not update.skipped]
        tokens = sum(update.tokens for update in window)
        seconds = sum(update.seconds for update in window)
        self._append(
            "update",
            {
                "step": last.step,
                "epoch": last.epoch,
                "updates": len(window),
                "skipped": len(window) - len(good),
                "loss": sum(u.loss * u.tokens for u in good) / max(sum(u.tokens for u in good), 1) if good else None,
                "gradient_norm": sum(u.gradient_norm for u in good) / len(good) if good else None,
                "learning_rate": last.learning_rate,
                "tokens": last.total_tokens,
                "tokens_per_second": round(tokens / max(seconds, 1e-9), 1),
                "padding": round(sum(u.padding * u.tokens for u in window) / max(tokens, 1), 4),
                "seconds": round(last.total_seconds, 3),
            },
        )

    def _append(self, kind: str, values: dict[str, Any]) -> None:
        # JSON has no NaN.
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, **plain}) + "\n")
        except OSError as error:
            raise write_error(self.path, error) from error
        if self._curves is not None:
            self._curves.write(kind, plain)
            if kind == "end":
                self._curves.close()
