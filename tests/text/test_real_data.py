"""Counts and round trips on real text, where the folder TRASLUZ_DATA names holds it."""

import os
from pathlib import Path

import numpy as np
import pytest

from trasluz.text.batching import BatchOrder
from trasluz.text.context_windows import tokens_of
from trasluz.text.encoder_tokenizer import train_encoder_tokenizer
from trasluz.text.questions import QUESTION_COLUMNS
from trasluz.text.readers import ReadReport, read_pairs, read_records
from trasluz.text.tokenizer import train_tokenizer

pytestmark = pytest.mark.skipif("TRASLUZ_DATA" not in os.environ, reason="TRASLUZ_DATA names no folder")


@pytest.fixture(scope="module")
def data():
    return Path(os.environ["TRASLUZ_DATA"])


def test_every_pair_of_the_collections_is_read(data):
    everyday = {"path": data / "tatoeba-en-es" / "spa-eng-2018.tsv.xz", "source": "tatoeba"}
    report = ReadReport()
    assert sum(1 for _ in read_pairs(everyday, report=report)) == 118_964
    assert report.malformed == 0
    with_windows_ends = data / "ntrex-en-es" / "newstest2019-{src.eng,ref.spa}.txt"
    pairs = list(read_pairs(with_windows_ends))
    assert len(pairs) == 1_997
    assert not any("\r" in pair.source or "\r" in pair.target for pair in pairs)


def test_captions_come_back_and_leave_little_padding(data):
    train = list(read_pairs(data / "multi30k" / "train.{en,de}.gz", ("en", "de")))
    assert len(train) == 29_000
    half = [side for pair in train[::2] for side in (pair.source, pair.target)]
    tokenizer = train_tokenizer(half, "bpe", 8000)
    columns = [tokenizer.encode_arrays([pair[side] for pair in train]) for side in (0, 1)]
    for side, column in enumerate(columns):
        for pair, ids in list(zip(train, column, strict=True))[::50]:
            assert tokenizer.decode(ids.tolist()) == tokenizer.normalize(pair[side])
    lengths = [np.array([len(ids) for ids in column]) for column in columns]
    order = BatchOrder(lengths, 4096, seed=1, epoch=0)
    places = sum((column[batch].max() + 1) * len(batch) for batch in order for column in lengths)
    assert 1 - sum(int((column + 1).sum()) for column in lengths) / places < 0.04


@pytest.mark.parametrize("language", ["en", "es"])
def test_every_answer_of_xquad_is_found_among_the_tokens(data, language):
    path = data / "xquad-en-es" / f"xquad.{language}.json"
    cells = [record.cells for record in read_records(path, QUESTION_COLUMNS)]
    assert len(cells) == 1_190 and len({context for _, context, _, _ in cells}) == 240
    contexts = list(dict.fromkeys(context for _, context, _, _ in cells))
    tokenizer = train_encoder_tokenizer(contexts, "wordpiece", 4000)
    encoded = dict(zip(contexts, tokenizer.encode_batch(contexts), strict=True))
    exact = 0
    for _, context, (answer,), (start,) in cells:
        spans = encoded[context].spans
        first, last = tokens_of(encoded[context], start, start + len(answer))
        found = context[spans[first, 0] : spans[last, 1]]
        assert answer.strip() in found
        exact += found == answer
    # The others end within a word.
    assert exact > 1_150
