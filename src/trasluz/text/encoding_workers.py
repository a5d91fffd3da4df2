"""Text into tokens by several processes, in order: a large corpus is read once, and every core cuts it.

A worker is this module run as a program. It reads requests from its standard input and writes answers to its standard
output until the input ends:

    request    number of the tokenizer (1 byte), bytes of text (4), texts in UTF-8 with a NUL between
    answer     number of texts (4 bytes), bytes of ids (4), length of each in ids (4 each), ids

Text with a NUL inside is no good text (see lines.py), so that it can stand between.
"""

import os
import queue
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

import numpy as np
from jaxtyping import Integer

from trasluz.errors import DataError
from trasluz.text.tokenizer import Tokenizer

Item = TypeVar("Item")
Encoded = list[Integer[np.ndarray, "_"]]

_REQUEST = struct.Struct("<BI")
_ANSWER = struct.Struct("<II")
_LENGTH = np.dtype("<u4")


class EncodingWorkers:
    """Processes that hold the tokenizers of a folder, one for each prefix; to be used in a `with`."""

    def __init__(self, folder: Path, prefixes: Sequence[str], count: int) -> None:
        """Start `count` processes."""
        self._dtypes = [Tokenizer.load(folder, prefix).dtype for prefix in prefixes]
        root = str(Path(__file__).resolve().parents[2])
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
        command = [sys.executable, "-m", "trasluz.text.encoding_workers", str(folder), *prefixes]
        self._count = count
        self._processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
            for _ in range(count)
        ]
        self._free: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        for process in self._processes:
            self._free.put(process)

    def __enter__(self) -> "EncodingWorkers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def encode(self, chunks: Iterable[tuple[Item, list[list[str]]]]) -> Iterator[tuple[Item, list[Encoded]]]:
        """Yield each item with the ids of its texts, a list of texts for each tokenizer; in order, a little ahead."""
        waiting: deque[tuple[Item, Future[list[Encoded]]]] = deque()
        with ThreadPoolExecutor(self._count) as threads:
            try:
                for item, texts in chunks:
                    waiting.append((item, threads.submit(self._ask, texts)))
                    if len(waiting) > 2 * self._count:
                        item, future = waiting.popleft()
                        yield item, future.result()
                for item, future in waiting:
                    yield item, future.result()
            finally:
                # Nobody waits any more for what was not begun when something went wrong.
                threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, texts: list[list[str]]) -> list[Encoded]:
        process = self._free.get()
        assert process.stdin is not None and process.stdout is not None
        answers = []
        try:
            for number, (some, dtype) in enumerate(zip(texts, self._dtypes, strict=True)):
                payload = "\0".join(some).encode("utf-8", "surrogatepass")
                process.stdin.write(_REQUEST.pack(number, len(payload)) + payload)
                process.stdin.flush()
                count, size = _ANSWER.unpack(_exactly(process.stdout, _ANSWER.size))
                lengths = np.frombuffer(_exactly(process.stdout, count * _LENGTH.itemsize), _LENGTH)
                ids = np.frombuffer(_exactly(process.stdout, size), dtype)
                ends = [0, *np.cumsum(lengths).tolist()]
                answers.append([ids[begin:end] for begin, end in pairwise(ends)])
        except (OSError, EOFError):
            raise DataError(
                f"a process that turned text into tokens has ended with exit code {process.wait()}; it may have run "
                "out of memory: start again with fewer training.threads."
            ) from None
        finally:
            # One that has ended, too: who gets it next fails at once, where without it he might wait for ever.
            self._free.put(process)
        return answers


def _exactly(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError
    return content


def _work(folder: str, prefixes: Sequence[str]) -> None:
    # Ctrl-C reaches every process of a terminal; this one ends when its input does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One tokenizer for both sides is held once, with the words that it has cut already.
    loaded = {prefix: Tokenizer.load(folder, prefix) for prefix in prefixes}
    tokenizers = [loaded[prefix] for prefix in prefixes]
    while header := sys.stdin.buffer.read(_REQUEST.size):
        number, size = _REQUEST.unpack(header)
        texts = sys.stdin.buffer.read(size).decode("utf-8", "surrogatepass").split("\0")
        ids = tokenizers[number].encode_arrays(texts)
        lengths = np.fromiter(map(len, ids), _LENGTH, len(ids))
        joined = np.concatenate(ids).tobytes()
        sys.stdout.buffer.write(_ANSWER.pack(len(ids), len(joined)) + lengths.tobytes() + joined)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2:])
