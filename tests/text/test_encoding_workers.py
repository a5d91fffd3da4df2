"""Texts through other processes: the same ids, in order."""

from pathlib import Path

import pytest

from trasluz.errors import DataError
from trasluz.text.encoding_workers import EncodingWorkers
from trasluz.text.tokenizer import Tokenizer, train_tokenizer

TEXTS = ["The lamp is lit.", "", "¿Quién lee a la luz de la lámpara?", "灯を消す", "a 🕯️ b", "x" * 300]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for prefix, kind in (("", "bpe"), ("target_", "word")):
        train_tokenizer([text for text in TEXTS if text] * 3, kind, 300).save(tmp_path, prefix)
    return tmp_path


def test_order_and_ids_are_those_of_one_process(folder: Path) -> None:
    tokenizers = [Tokenizer.load(folder), Tokenizer.load(folder, "target_")]
    chunks = [(number, [TEXTS[: 1 + number % 6], TEXTS[number % 6 :]]) for number in range(20)]
    with EncodingWorkers(folder, ("", "target_"), 2) as workers:
        found = list(workers.encode(iter(chunks)))
    assert [item for item, _ in found] == list(range(20))
    for (_, sides), (_, texts) in zip(found, chunks, strict=True):
        for ids, some, tokenizer in zip(sides, texts, tokenizers, strict=True):
            assert [one.tolist() for one in ids] == tokenizer.encode_batch(some)


@pytest.mark.parametrize(("count", "chunks"), [(1, 1), (1, 20), (2, 3), (2, 20)])
def test_workers_that_are_gone_are_told(folder: Path, count: int, chunks: int) -> None:
    with EncodingWorkers(folder, ("",), count) as workers:
        for process in workers._processes:
            process.kill()
            process.wait()
        with pytest.raises(DataError, match=r"has ended with exit code -9; it may have run out of memory"):
            list(workers.encode([("one", [TEXTS])] * chunks))
