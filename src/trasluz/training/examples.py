"""What a task's examples are: how they are read, compared, kept and turned into tokens, whatever they look like."""

import os
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from trasluz.text.encoding_workers import EncodingWorkers
from trasluz.text.readers import Place, ReadReport
from trasluz.training.recipe import Recipe


@runtime_checkable
class Placed(Protocol):
    """What every example can tell: where it was read."""

    @property
    def place(self) -> Place: ...


ExampleT = TypeVar("ExampleT", bound=Placed)
T = TypeVar("T")

Tokenizers = tuple[Any, Any]
"""Of what is read and of what is written; one and the same object where a task needs only one."""

_AT_ONCE = 4096
# While they are cut into tokens, texts take some forty times their size.
_CHARACTERS_AT_ONCE = 4_000_000
# So many chunks are turned into tokens sooner than other processes could start.
_CHUNKS_ALONE = 64


class Examples(ABC, Generic[ExampleT]):
    """The examples of one task and recipe."""

    kind: ClassVar[str]
    """What people call one of them."""
    columns: ClassVar[tuple[str, ...]]
    """Columns of the token cache, before that of places."""
    languages: Sequence[str] = ()
    """Those of the two sides, of tasks whose examples are pairs of files."""
    has_two_tokenizers: bool = False
    further: ClassVar[str] = "unlabelled"
    """The key of `data` that names what is learnt from beside `data.train`, of tasks that have such."""
    least: ClassVar[int] = 1
    """So many, at least, are needed to train on, and as many to choose by."""
    why_too_few: ClassVar[str] = "all of them share a text"
    """Why no validation examples can be held out where there are too few."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.labels: list[str] = []

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what the stored tokens depend on beside data and tokenizer."""

    @abstractmethod
    def read(self, entry: Any, report: ReadReport, sources: Sequence[str] | None = None) -> Iterator[ExampleT]:
        """Yield the examples of a `data` entry."""

    def read_further(self, report: ReadReport) -> Iterator[ExampleT]:
        """Yield what the key `further` names; none of it is held out."""
        return iter(())

    def is_further(self, example: ExampleT) -> bool:
        """Tell whether the key `further` named an example."""
        return False

    @abstractmethod
    def texts(self, example: ExampleT) -> tuple[str, ...]:
        """Return an example's texts, by which it is compared with others; the first decides what is held out."""

    @abstractmethod
    def to_record(self, example: ExampleT) -> dict[str, Any]:
        """Return an example as the JSON object under which it is kept."""

    @abstractmethod
    def from_record(self, record: dict[str, Any]) -> ExampleT:
        """Return the example of such an object."""

    def look_over(self, examples: Callable[[], Iterator[ExampleT]]) -> None:  # most need nothing of it
        """Find out, before anything is stored, what only all training examples together tell: the labels."""

    @abstractmethod
    def train_tokenizers(self, examples: Callable[[], Iterator[ExampleT]]) -> Tokenizers:
        """Train the tokenizers that the recipe asks for; `examples` can be read as often as needed."""

    @abstractmethod
    def save_tokenizers(self, folder: Path, tokenizers: Tokenizers) -> None:
        """Write the tokenizers' files."""

    @abstractmethod
    def load_tokenizers(self, folder: Path) -> Tokenizers:
        """Read the tokenizers' files."""

    @abstractmethod
    def encoded(
        self, examples: Iterator[ExampleT], tokenizers: Tokenizers
    ) -> Iterator[tuple[ExampleT, tuple[Any, ...] | None]]:
        """Yield each example with its columns; None for one that is too long."""


def encode_texts(
    chunks: Iterator[tuple[T, list[list[str]]]],
    tokenizers: Sequence[Any],
    save: Callable[[Path], Sequence[str]] | None,
    threads: int | None,
) -> Iterator[tuple[T, list[Any]]]:
    """Yield each item with the ids of its texts, a list for each tokenizer: a long corpus by all cores.

    `save` writes the tokenizers into a folder for other processes and returns their prefixes; None: no other process
    can read them.
    """
    count = threads or os.cpu_count() or 1
    alone = islice(chunks, _CHUNKS_ALONE) if save is not None and count > 1 and sys.executable else chunks
    for item, texts in alone:
        yield item, [one.encode_arrays(some) for one, some in zip(tokenizers, texts, strict=True)]
    first = next(chunks, None)
    if first is None or save is None:
        return
    with tempfile.TemporaryDirectory() as name:
        with EncodingWorkers(Path(name), save(Path(name)), count) as workers:
            yield from workers.encode(chain([first], chunks))


def in_chunks(examples: Iterable[T], texts: Callable[[T], Sequence[str]]) -> Iterator[list[T]]:
    """Yield the examples some thousands at a time, and fewer of those with long texts."""
    some: list[T] = []
    size = 0
    for example in examples:
        some.append(example)
        size += sum(map(len, texts(example)))
        if len(some) >= _AT_ONCE or size >= _CHARACTERS_AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some
