"""The code in READMEs cuts and joins as the tokenizers of trasluz do, unknown words and special tokens too."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoints.hub_models import write_tokenizer
from tests.checkpoints.sentences import pairs
from torch import nn

from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.checkpoints.tokenizer_code import tokenizer_code
from trasluz.checkpoints.tokenizer_files import save_tokenizers
from trasluz.text.marian_tokenizer import MarianTokenizer
from trasluz.text.tokenizer import Tokenizer, train_tokenizer

TEXTS = ["the old miller sees it", "a zebra, at the lamp.", "", "<unk> and </s> stay text"]


def trained(kind: str, side: int) -> Tokenizer:
    texts = [pair[side] for pair in pairs(200, seed=7)]
    return train_tokenizer(texts, kind, 330, special_tokens=["<2es>"])


def defined(source: Any, target: Any, *, ids: bool) -> dict[str, Any]:
    loaded = LoadedModel(nn.Identity(), None, source, target)
    code = tokenizer_code(loaded, ids=ids)
    names: dict[str, Any] = {"json": json}
    exec(f"{code.importing}\n{code.opening}{code.functions}", names)
    return names


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("kind", ["word", "bpe", "character"])
def test_our_tokenizers(kind: str, separate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = trained(kind, 0)
    target = trained(kind, 1) if separate else source
    save_tokenizers(tmp_path, source, target)
    monkeypatch.chdir(tmp_path)
    by_ids, by_tokens = (defined(source, target, ids=ids) for ids in (True, False))
    for text in TEXTS:
        cut = source.encode(text)
        assert (by_ids["cut"](text), by_tokens["cut"](text)) == (cut, source.tokens(cut))
    # An id without a token, as spare rows of a model have, is unknown.
    for written in ([], [3], [9, 3, 12, 3], [1, 4, 9, 0, 7, 2], list(range(target.vocab_size)), [8, 999, 9]):
        assert by_ids["join"](written) == target.decode(written)
        assert by_tokens["join"](target.tokens(written)) == target.decode(written)


@pytest.mark.parametrize("separate", [False, True])
def test_marian_tokenizers(separate: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tokenizer(tmp_path, separate)
    source = MarianTokenizer.load(tmp_path)
    target = source.target
    monkeypatch.chdir(tmp_path)
    by_ids, by_tokens = (defined(source, target, ids=ids) for ids in (True, False))
    for text in TEXTS:
        assert by_ids["cut"](text) == source.encode(text)
    for written in ([], [1], [9, 1, 12, 1], [0, 9, target.pad_id, 7], list(range(target.vocab_size))):
        assert by_ids["join"](written) == target.decode(written)
        assert by_tokens["join"](target.tokens(written)) == target.decode(written)
