"""The processes that train one model together: who am I, and what have we agreed on?

Each of them runs the same loop over the same updates, and takes its share of every update's examples. What a process
alone could see, such as a signal, a clock or a full disk, is agreed on before anybody acts on it: no process ever waits
for one that left. Agreements travel as JSON through a group of their own on the CPU; the gradients have another. Who is
killed or frozen is found by `heartbeat.py`.
"""

import datetime
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from trasluz.errors import RequestError, TrainingError, TrasluzError
from trasluz.training import heartbeat
from trasluz.training.heartbeat import Heartbeat

T = TypeVar("T")

# Gradients that take longer than this will not come any more: all begin to exchange them together. What a process does
# alone, such as preparing gigabytes of text, may take hours, and the others wait for as long as it is alive.
_EXCHANGE = datetime.timedelta(minutes=5)
_PATIENCE = datetime.timedelta(days=2)

_SIGNS_OF_LOSS = ("gloo", "nccl", "connection", "timed out", "timeout", "broken pipe", "peer")


class Processes:
    """One process alone, or one of several that torchrun has started."""

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0, control: Any = None) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self._control = control

    @property
    def first(self) -> bool:
        """Tell whether this is the one that speaks and writes."""
        return self.rank == 0

    def own(self, items: Iterable[T]) -> Iterator[T]:
        """Yield this process's part of work that all share: every item is somebody's."""
        return itertools.islice(items, self.rank, None, self.size)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of numbers over all processes, in double precision."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        with told_of_loss():
            dist.all_reduce(tensor, group=self._control)
        return [float(value) for value in tensor]

    def gather(self, value: T) -> list[T]:
        """Return everybody's value (anything JSON can hold), by rank."""
        if self.size == 1:
            return [value]
        text = json.dumps(value).encode()
        with told_of_loss():
            lengths = self._all(torch.tensor([len(text)]))
            longest = int(max(lengths))
            padded = torch.zeros(longest, dtype=torch.uint8)
            padded[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
            everybody = self._all(padded)
        return [json.loads(bytes(one[: int(length)].tolist())) for one, length in zip(everybody, lengths, strict=True)]

    def _all(self, tensor: Tensor) -> list[Tensor]:
        room = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(room, tensor, group=self._control)
        return room

    def agree(self, value: T) -> T:
        """Return the first process's value, to all."""
        return self.gather(value)[0]

    def wait(self) -> None:
        """Return when everybody has come here."""
        self.gather(None)

    def all_well(self, error: TrasluzError | None) -> None:
        """Raise where any process failed: there its own error, elsewhere one that tells of it."""
        if self.size == 1:
            told = [None if error is None else str(error)]
        else:
            told = self.gather(None if error is None else str(error))
        if error is not None:
            raise error
        for rank, text in enumerate(told):
            if text is not None:
                raise TrainingError(f"process {rank} of {self.size} stopped: {text}")

    def first_does(self, work: Callable[[], T]) -> T | None:
        """Let the first process do something and return it there; all go on when it is done, or fail together."""
        done, error = None, None
        if self.first:
            try:
                done = work()
            except TrasluzError as raised:
                error = raised
        self.all_well(error)
        return done


ALONE = Processes()


class LostProcessError(TrainingError):
    """An exchange failed since another process is gone; `said` is what the exchange raised."""

    def __init__(self, said: str, who: str | None = None) -> None:
        named = f" ({who})" if who else ""
        super().__init__(
            f"another process of this run is gone{named}, or does not answer; this one stops too. The last checkpoint "
            f"is untouched: start them all again with --resume (what the exchange said: {said})"
        )
        self.said = said


@contextmanager
def told_of_loss() -> Iterator[None]:
    """Turn what a collective raises when another process is gone into a sentence."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if isinstance(error, TrasluzError) or not any(sign in text.lower() for sign in _SIGNS_OF_LOSS):
            raise
        raise LostProcessError(text.splitlines()[0]) from error


@contextmanager
def joined(parallel: str, device: str) -> Iterator[Processes]:
    """Join the processes that torchrun started, where it did; alone otherwise.

    Inside, a process that is killed or frozen ends the others, and they say which it was. Raises RequestError where
    they would train the same model side by side without knowing of each other.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if parallel == "none":
        if size > 1:
            raise RequestError(
                f"{size} processes were started, but training.parallel is none: set it to ddp or fsdp, or start one."
            )
        yield ALONE
        return
    if "RANK" not in os.environ:
        yield ALONE
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    with told_of_loss():
        store, rank, size = next(rendezvous("env://", timeout=_EXCHANGE))
        alive = Heartbeat(store, rank, size, heartbeat.SILENCE)
        # Both kinds under one name: tensors on the CPU and on the GPU each find theirs.
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_EXCHANGE)
        control = dist.new_group(backend="gloo", timeout=_PATIENCE)
    try:
        with alive.beating():
            try:
                yield Processes(rank, size, int(os.environ.get("LOCAL_RANK", "0")), control)
            except LostProcessError as error:
                raise LostProcessError(error.said, alive.stopped()) from error
    finally:
        dist.destroy_process_group()
