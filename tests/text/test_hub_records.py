"""Data sets of a hub that runs here, read through the real package: columns, classes, splits, and every refusal."""

import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from tests.hub_server import HubServer, ask_this_hub

from trasluz.errors import DataError
from trasluz.text.questions import QUESTION_COLUMNS
from trasluz.text.readers import read_pairs, read_records, read_texts

CARD = """---
configs:
- config_name: plain
  default: true
  data_files: [{split: train, path: train.jsonl}, {split: test, path: test.jsonl}]
- config_name: small
  data_files: test.jsonl
dataset_info:
  config_name: plain
  features:
  - {name: text, dtype: string}
  - {name: mood, dtype: {class_label: {names: {'0': gloomy, '1': merry}}}}
---
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repositories: `moods`, two splits and a card that says so; `pairs`, a parquet file alone; `lists`, one, too;
    `questions`, lines.
    """
    root = tmp_path_factory.mktemp("sets")
    (root / "moods").mkdir()
    (root / "moods" / "README.md").write_text(CARD)
    for split, moods in {"train": [1, 0, -1], "test": [0]}.items():
        rows = [json.dumps({"text": f"{split} {number}", "mood": mood}) for number, mood in enumerate(moods)]
        (root / "moods" / f"{split}.jsonl").write_text("\n".join(rows))
    texts = {"en": ["one", "two"], "es": ["uno", "dos"]}
    pairs = [dict(zip(texts, sides, strict=True)) for sides in zip(*texts.values(), strict=True)]
    features = datasets.Features(
        {
            "translation": datasets.Translation(languages=["en", "es"]),
            "left": datasets.Value("string"),
            "right": datasets.Value("string"),
            "kind": datasets.ClassLabel(names=["odd", "even"]),
        }
    )
    columns = {"translation": pairs, "left": texts["en"], "right": texts["es"], "kind": [0, 1]}
    (root / "pairs").mkdir()
    datasets.Dataset.from_dict(columns, features=features).to_parquet(root / "pairs" / "train.parquet")
    features = datasets.Features(
        {
            "tokens": datasets.Sequence(datasets.Value("string")),
            "ner_tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER"])),
            "text": datasets.Value("string"),
            "labels": datasets.Sequence(datasets.ClassLabel(names=["joy", "fear", "calm"])),
            "numbers": datasets.Sequence(datasets.Value("int64")),
            "is_merry": datasets.Value("bool"),
        }
    )
    columns = {
        "tokens": [["Ana", "rowed"], ["all", "slept"]],
        "ner_tags": [[1, 0], [0, 0]],
        "text": ["Ana rowed", "all slept"],
        "labels": [[0, 2], []],
        "numbers": [[0, 2], [1]],
        "is_merry": [True, False],
    }
    (root / "lists").mkdir()
    datasets.Dataset.from_dict(columns, features=features).to_parquet(root / "lists" / "train.parquet")
    (root / "questions").mkdir()
    asked = [("Who rowed?", ["Ana"], [0]), ("Who sang?", [], [])]
    rows = [
        json.dumps({"question": question, "context": "Ana rowed.", "answers": {"text": texts, "answer_start": places}})
        for question, texts, places in asked
    ]
    (root / "questions" / "train.jsonl").write_text("\n".join(rows))
    return root


@pytest.fixture
def hub(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that this process asks, with an empty place to keep what it gives."""
    with HubServer() as hub:
        for path in folders.iterdir():
            hub.add(f"someone/{path.name}", path, kind="datasets")
        hub.add("someone/gated", folders / "moods", kind="datasets", gated=True)
        ask_this_hub(hub, tmp_path / "home", monkeypatch)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.address)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
        yield hub


def texts_of(entry: object, column: str = "text") -> list[str]:
    return [text.text for text in read_texts(entry, column=column)]  # type: ignore[arg-type]


def test_splits_and_configs(hub: HubServer) -> None:
    assert texts_of("hf:someone/moods") == texts_of("hf:someone/moods:train") == ["train 0", "train 1", "train 2"]
    assert texts_of("hf:someone/moods:test") == texts_of("hf:someone/moods/plain:test") == ["test 0"]
    assert texts_of("hf:someone/moods/small") == ["test 0"]


def test_pairs_and_columns(hub: HubServer) -> None:
    pairs = [("one", "uno"), ("two", "dos")]
    assert [(pair.source, pair.target) for pair in read_pairs("hf:someone/pairs")] == pairs
    named = {"path": "hf:someone/pairs:train", "columns": {"en": "left", "es": "right"}, "source": "us"}
    assert [(pair.source, pair.target) for pair in read_pairs(named, sources=["us"])] == pairs
    assert next(iter(read_pairs(named))).place == ("hf:someone/pairs:train", 1)


def test_answers_in_one_column(hub: HubServer) -> None:
    found = [tuple(one.cells) for one in read_records("hf:someone/questions", QUESTION_COLUMNS)]
    assert found == [("Who rowed?", "Ana rowed.", ("Ana",), (0,)), ("Who sang?", "Ana rowed.", (), ())]
    with pytest.raises(DataError, match="hf:someone/moods has no column question"):
        list(read_records("hf:someone/moods", QUESTION_COLUMNS))


def test_classes_are_their_names(hub: HubServer) -> None:
    assert texts_of("hf:someone/pairs", column="kind") == ["odd", "even"]
    labels = read_texts("hf:someone/moods", column="mood", on_error="skip")
    assert [label.text for label in labels] == ["merry", "gloomy"]
    with pytest.raises(DataError, match=r"^hf:someone/moods:3: column mood is missing\."):
        texts_of("hf:someone/moods", column="mood")


def test_classes_in_lists_are_their_names(hub: HubServer) -> None:
    entry = {"path": "hf:someone/lists", "columns": {"words": "tokens", "tags": "ner_tags"}}
    assert [[*one.cells] for one in read_records(entry, ("words", "tags"))] == [
        ["Ana rowed", "B-PER O"],
        ["all slept", "O O"],
    ]


@pytest.mark.parametrize(
    ("column", "labels"), [("labels", ["joy, calm", ","]), ("numbers", ["0, 2", "1"]), ("is_merry", ["true", "false"])]
)
def test_labels_of_all_kinds_are_texts(hub: HubServer, column: str, labels: list[str]) -> None:
    entry = {"path": "hf:someone/lists", "columns": {"label": column}}
    assert [one.cells[0] for one in read_records(entry, ("label",))] == labels


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("hf:someone/moods:trane", r"cannot be read: Bad split: trane\. Available splits: \['train', 'test'\]\.$"),
        ("hf:someone/moods/big", r"cannot be read: BuilderConfig 'big' not found\. Available: \['plain', 'small'\]\.$"),
        ("hf:someone/nothing", r"cannot be read: Dataset 'someone/nothing' doesn't exist on the Hub or cannot be acc"),
        ("hf:someone/gated", r"cannot be read: Dataset 'someone/gated' is a gated dataset on the Hub\. You must be au"),
        ({"path": "hf:someone/moods", "columns": {"text": "texts"}}, r"has no column texts; did you mean text\?$"),
        ({"path": "hf:someone/pairs", "columns": {"text": "qqq"}}, r"has no column qqq; it has: translation, left, ri"),
        ({"path": "hf:someone/pairs", "columns": {"text": 1}}, r"has named columns; 1 is a number: give its name\."),
    ],
)
def test_what_a_hub_does_not_give(hub: HubServer, entry: object, message: str) -> None:
    with pytest.raises(DataError, match=rf"^hf:someone/\S+ {message}"):
        texts_of(entry)


def test_a_hub_that_is_down(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HubServer() as gone:
        pass
    ask_this_hub(gone, tmp_path / "home", monkeypatch)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", gone.address)
    # The library waits half a minute in all for it to come back.
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(DataError, match=r"^hf:someone/moods cannot be read: Couldn't reach 'someone/moods' on the Hub"):
        texts_of("hf:someone/moods")


@pytest.mark.parametrize("value", ["1", "true", "ON"])
def test_offline_nothing_is_asked(hub: HubServer, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(
        DataError, match=r"^hf:someone/pairs would be downloaded, and HF_HUB_OFFLINE is set: name a file\.$"
    ):
        texts_of("hf:someone/pairs")
    assert hub.requests == []


def test_without_the_package_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(
        DataError, match=r"^hf:someone/pairs is a data set of the hub, which needs the package datasets: install it"
    ):
        texts_of("hf:someone/pairs")
