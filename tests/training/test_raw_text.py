"""Where raw text may come from: shards by pattern or list, compressed or not, and data sets that are streamed."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from small_text import WEEK, document_recipe, prepare, text_recipe
from tests.hub_server import HubServer, ask_this_hub

from trasluz.errors import RequestError
from trasluz.text.encoder_tokenizer import EncoderTokenizer
from trasluz.training.raw_text import masking_for, pieces_of


def texts(shard: int, count: int = 40) -> list[str]:
    """Return the texts of a shard, all of them different."""
    return [f"{WEEK[number % 5]} then {WEEK[(number + 1) % 5]}, text {number} of {shard}" for number in range(count)]


def lines(shard: int) -> str:
    return "\n".join(texts(shard)) + "\n"


def test_pieces_are_of_the_length_asked_for() -> None:
    assert [list(piece) for piece in pieces_of([1, 2, 3, 4, 5], 2)] == [[1, 2], [3, 4], [5]]
    assert list(pieces_of([], 2)) == []


def test_without_a_mask_token_nothing_is_masked(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nmonday\n")
    with pytest.raises(RequestError, match=r"^the tokenizer has no mask token, so that no word can be asked for\.$"):
        masking_for(EncoderTokenizer.load(tmp_path))


@pytest.mark.parametrize("as_list", [False, True])
def test_shards_are_read_one_after_the_other(tmp_path: Path, as_list: bool) -> None:
    (tmp_path / "part-0.txt").write_text(lines(0))
    (tmp_path / "part-1.txt.gz").write_bytes(gzip.compress(lines(1).encode()))
    rows = [json.dumps({"text": text}) + "\n" for text in texts(2)]
    (tmp_path / "part-2.jsonl").write_text("".join(rows))
    names = sorted(str(path) for path in tmp_path.glob("part-*"))
    entry = json.dumps(names) if as_list else str(tmp_path / "part-*")
    _, data = prepare(text_recipe(tmp_path, f"data.train={entry}"))
    assert data.files == names and data.counts.read == 120 and data.counts.used == 118 == len(data.cache)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one data set in two shards, and an empty place to keep what it gives."""
    folder = tmp_path / "set"
    folder.mkdir()
    for shard in range(2):
        rows = [json.dumps({"text": text}) + "\n" for text in texts(shard)]
        (folder / f"train-{shard}.jsonl").write_text("".join(rows))
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: train-*.jsonl\n---\n")
    with HubServer() as hub:
        hub.add("someone/days", folder, kind="datasets")
        ask_this_hub(hub, tmp_path / "home", monkeypatch)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.address)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
        yield hub


def test_a_set_of_the_hub_is_streamed(hub: HubServer, tmp_path: Path) -> None:
    _, data = prepare(text_recipe(tmp_path, "data.train=hf:someone/days"))
    assert data.files == ["hf:someone/days"] and data.counts.read == 80 and data.counts.used == 78
    assert hub.fetched() >= {"train-0.jsonl", "train-1.jsonl"}
    # What is kept of it are its tokens.
    kept = (path for path in (tmp_path / "home").rglob("*") if path.suffix in (".jsonl", ".arrow", ".parquet"))
    assert not list(kept)


def test_documents_may_be_streamed_too(hub: HubServer, tmp_path: Path) -> None:
    _, data = prepare(document_recipe(tmp_path, "data.train=hf:someone/days"))
    assert data.cache.names == ("ids", "ends", "place") and data.counts.read == 80
