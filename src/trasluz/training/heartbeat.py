"""Which of a run's processes are alive: each counts on in a place that all see, and looks at the counts of the others.

A process that is killed closes its connections, and whoever exchanges something with it is told at once. One that is
frozen, or whose machine is cut off, closes nothing; and since others may be at work for hours before the next exchange
(an evaluation, a file), no time limit on exchanges could tell it from them. So a thread of each process counts on as
long as the process runs, whatever it is doing. Where somebody's count stands still for too long, another thread ends
this process, wherever it is: neither an exchange nor long work can be interrupted otherwise, and a run loses nothing
that its last checkpoint has.

Time is counted in looks, not by the clock: a job that is suspended as a whole, and goes on an hour later, has looked at
nothing meanwhile.
"""

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from trasluz.training.quantities import format_duration

# Seconds after which a process that gives no sign of life is given up.
SILENCE = 300.0
# So often its count is looked at meanwhile.
_LOOKS = 150
# A count that has stood still for so many looks has stopped; so many are waited for, to see whose it is.
_STOPPED, _WAITED = 3, 6


class Heartbeat:
    """The signs of life of all processes, as one of them sees them; `store` is a key-value store that all reach."""

    def __init__(self, store: Any, rank: int, size: int, silence: float) -> None:
        self._store = store
        self._rank, self._size = rank, size
        self._silence, self._every = silence, silence / _LOOKS
        self._missed = [0] * size
        self._over = threading.Event()
        # All of them must be there before anybody looks.
        store.set(_key(rank), "0")

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Count, and look at the others, inside; everybody must have come here."""
        # Its own connection: the others' exchanges would wait for an answer that does not come.
        store = self._store.clone()
        for work in (lambda: self._beat(store), self._look):
            # They may hang with the store, and then nobody waits for them.
            threading.Thread(target=work, daemon=True).start()
        try:
            yield
        finally:
            self._over.set()

    def stopped(self) -> str | None:
        """Return whose count has stopped, in words, once it shows; None where none has."""
        for _ in range(_WAITED):
            if who := self._silent(_STOPPED):
                return who
            self._over.wait(self._every)
        return None

    def _beat(self, store: Any) -> None:
        keys, known = [_key(rank) for rank in range(self._size)], [b""] * self._size
        # Where the store is gone, what it tells of everybody stands still.
        with contextlib.suppress(RuntimeError):
            for number in itertools.count(1):
                store.set(_key(self._rank), str(number))
                for rank, count in enumerate(store.multi_get(keys)):
                    if count != known[rank]:
                        known[rank], self._missed[rank] = count, 0
                if self._over.wait(self._every):
                    return

    def _look(self) -> None:
        while not self._over.wait(self._every):
            self._missed = [missed + 1 for missed in self._missed]
            if who := self._silent(_LOOKS):
                _end_process(
                    f"there was no sign of life from {who} for {format_duration(self._silence)}; process {self._rank} "
                    "stops too. The last checkpoint is untouched: start them all again with --resume."
                )

    def _silent(self, looks: int) -> str | None:
        """Return whose count has stood still for so many looks, in words."""
        # What all have missed stopped on the way: with the store, which the first process or its torchrun holds.
        own = self._missed[self._rank]
        ranks = [str(rank) for rank, missed in enumerate(self._missed) if missed >= own + looks]
        if ranks:
            return f"{'process' if len(ranks) == 1 else 'processes'} {' and '.join(ranks)} of {self._size}"
        return f"process 0 of {self._size}, or the torchrun that started it," if own >= looks else None


def _key(rank: int) -> str:
    return f"alive/{rank}"


def _end_process(sentence: str) -> NoReturn:
    """Say why, and end at once: no lock is asked for that a thread which hangs may hold."""
    os.write(2, f"\ntrasluz: {sentence}\n".encode())
    os._exit(1)
