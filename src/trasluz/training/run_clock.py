"""The time a run has taken, the same for all its processes: learning rate and savings follow from it."""

import time


class RunClock:
    """Seconds since the run began, earlier starts included, as they were last agreed on."""

    def __init__(self, decides: bool, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.saved_at = seconds
        self._began = time.monotonic() - seconds if decides else None

    def share(self) -> float:
        """Return what this process adds to a sum over all, which is then agreed on: one clock decides, others add 0."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    @property
    def since_save(self) -> float:
        """Seconds since the last checkpoint, or since this start."""
        return self.seconds - self.saved_at

    def saved(self) -> None:
        """Note that there is a checkpoint of now."""
        self.saved_at = self.seconds
