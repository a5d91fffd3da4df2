"""Curves for TensorBoard, under `tensorboard/` of the run, where the package is installed; nothing elsewhere."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# What a curve is drawn of: the numbers of these kinds of lines of metrics.jsonl.
_GROUPS = {"update": "training", "evaluation": "validation"}


class TensorBoardLog:
    """The numbers of metrics.jsonl, as curves over updates."""

    def __init__(self, folder: Path, step: int) -> None:
        """Begin, or go on, after `step`: what an earlier life of the run wrote beyond it is hidden."""
        self._writer: Any = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Take note of one line of metrics.jsonl."""
        group = _GROUPS.get(kind)
        if self._writer is None or group is None:
            return
        for name, value in values.items():
            if name != "step" and isinstance(value, int | float):
                self._writer.add_scalar(f"{group}/{name}", value, values["step"])
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
