"""Models are found by folder, bundled name or hub id; nothing is fetched that was not named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.checkpoints.sentences import pairs

import trasluz
from trasluz.checkpoints.model_folder import save_model
from trasluz.checkpoints.weights import WEIGHTS
from trasluz.devices import choose_dtype
from trasluz.errors import ModelError, RequestError
from trasluz.models.registry import build_model
from trasluz.tasks import loading
from trasluz.tasks.translator import Translator


@pytest.fixture
def pocket(toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the folder of bundled models."""
    shutil.copytree(toy_folder, tmp_path / "pocket" / "pocket-toy")
    (tmp_path / "pocket" / "no-model").mkdir()
    monkeypatch.setattr(loading, "_POCKET", tmp_path / "pocket")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pocket"


def test_by_folder_and_by_name(toy_folder: Path, pocket: Path) -> None:
    assert trasluz.load(toy_folder).name == trasluz.load(str(toy_folder) + "/").name == "toy"
    assert trasluz.load("pocket-toy", task="translate", device="cpu", dtype="fp32").name == "pocket-toy"
    assert loading.bundled_models() == {"pocket-toy": pocket / "pocket-toy"}
    # A folder that stands here is what its name says.
    shutil.copytree(pocket / "pocket-toy", "pocket-toy")
    assert loading.find_model("pocket-toy") == Path("pocket-toy")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("pocket-tou", r"there is no model 'pocket-tou': no such folder\. Did you mean pocket-toy\?"),
        ("qqq", r"there is no model 'qqq': no such folder\. Bundled are: pocket-toy\."),
        ("./some/where", r"there is no model '\./some/where': no such folder\."),
        ("pocket/pocket-toy/config.json", r"config\.json is a file; a model is a folder with config\.json"),
        (".", r"\. is no model folder|no model folder: config\.json is missing"),
    ],
)
def test_no_such_model(pocket: Path, model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        trasluz.load(model)


def test_a_run_that_has_not_ended(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"has not written its model yet: train it first\."):
        trasluz.load(tmp_path / "run")
    (tmp_path / "run" / "recipe.yaml").touch()
    with pytest.raises(ModelError, match=r"has not written its model yet: .*trasluz train .*recipe\.yaml --resume"):
        trasluz.load(tmp_path / "run")


def test_a_folder_beside_the_one_that_is_not_there_may_be_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "left").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"^there is no folder runs/lefd \(did you mean runs/left\?\), and a whole"):
        trasluz.load("runs/lefd")


def test_tasks(toy_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"there is no task 'translat'\. Did you mean translate\?"):
        trasluz.load(toy_folder, task="translat")
    with pytest.raises(
        RequestError,
        match=r"there is no task 'sing'\. There are: translate, fill-mask, classify, tag, answer, embed, generate\.",
    ):
        trasluz.load(toy_folder, task="sing")
    with pytest.raises(RequestError, match="there is no device 'tpu'"):
        trasluz.load(toy_folder, device="tpu")
    with pytest.raises(RequestError, match="there is no dtype 'fp12'"):
        trasluz.load(toy_folder, dtype="fp12")
    shutil.copytree(toy_folder, tmp_path / "other")
    path = tmp_path / "other" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"trasluz": {"task": "sing"}}))
    with pytest.raises(ModelError, match="is for the task 'sing', which this version does not know"):
        trasluz.load(tmp_path / "other")


def test_a_loaded_task_says_its_verb(toy_folder: Path) -> None:
    verbs = ["translate", "fill-mask", "classify", "tag", "answer", "embed", "generate"]
    assert list(loading.TASKS) == verbs
    for model, task in ((toy_folder, None), ("pocket-bert", None), ("pocket-bert", "embed"), ("pocket-gpt-es", None)):
        loaded = trasluz.load(model, task=task)
        assert type(loaded) is loading.TASKS[loaded.verb] and loaded.verb == (task or loaded.verb)


def test_a_model_of_another_task(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loading.TASKS, "sing", loading.TASKS["translate"])
    with pytest.raises(RequestError, match="is for the task 'translate', not 'sing'"):
        trasluz.load(toy_folder, task="sing")


def test_without_the_package_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"there is no folder someone/toy; .*\(pip install huggingface_hub\)"):
        trasluz.load("someone/toy")


def test_the_fingerprint_of_a_folder_is_that_of_what_translates(toy_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(toy_folder, tmp_path / "copy"))
    (folder / "README.md").write_text("another card", encoding="utf-8")
    assert loading.fingerprint(folder) == loading.fingerprint(toy_folder)
    for name in ("model.safetensors", "generation_config.json", "tokenizer.json"):
        before, content = loading.fingerprint(folder), (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + b" ")
        assert loading.fingerprint(folder) != before


@pytest.mark.parametrize("stored", ["fp32", "fp16"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8"])
def test_read_as_a_type_is_read_and_then_turned_into_it(
    toy_folder: Path, tmp_path: Path, dtype: str, stored: str
) -> None:
    loading.load(toy_folder).save(tmp_path / "toy", stored)
    read = loading.load(tmp_path / "toy", dtype=dtype, device="cpu")
    turned = Translator(loading.read_model(tmp_path / "toy"), "cpu", choose_dtype(dtype, torch.device("cpu")))
    assert read.dtype == turned.dtype
    texts = [english for english, _ in pairs(20, seed=5)]
    one, other = (task(texts, to="es", beam=3) for task in (read, turned))
    assert [(found.text, found.score) for found in one] == [(found.text, found.score) for found in other]
    assert all(parameter.is_contiguous() for parameter in read.model.parameters())
    kept = {parameter.dtype for parameter in read.model.parameters()}
    assert kept == {torch.bfloat16 if dtype == "bf16" else torch.float32}


_HOLD = """
import sys
from pathlib import Path
from trasluz.tasks.loading import load


def resident(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024


# What comes with a first model, whatever its size, is not asked about.
load(sys.argv[1], dtype=sys.argv[3])
anonymous, whole = resident("RssAnon"), resident("VmRSS")
task = load(sys.argv[2], dtype=sys.argv[3])
print(resident("RssAnon") - anonymous, resident("VmHWM") - whole)
"""


@pytest.fixture(scope="module")
def wide_folder(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of many parameters, the toy's tokenizer beside it."""
    toy = loading.read_model(toy_folder)
    size = toy.source_tokenizer.vocab_size
    model = build_model(
        {"preset": "transformer-base", "feed_forward_dim": 4096, "num_layers": 2},
        source_vocab_size=size,
        target_vocab_size=size,
    )
    folder = tmp_path_factory.mktemp("models") / "wide"
    save_model(folder, model, toy.source_tokenizer, toy.target_tokenizer, languages=("en", "es"), both_directions=True)
    return folder


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no system that says what a process holds")
@pytest.mark.parametrize(("dtype", "bytes_held"), [("fp32", 4), ("bf16", 2), ("int8", 1)])
def test_little_more_is_held_than_the_model(toy_folder: Path, wide_folder: Path, dtype: str, bytes_held: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HOLD, str(toy_folder), str(wide_folder), dtype],
        capture_output=True,
        text=True,
        check=True,
    )
    held, most = map(float, done.stdout.split())
    parameters = (wide_folder / WEIGHTS).stat().st_size / 4 / (1 << 20)
    assert parameters > 20
    # One byte more for each parameter is 23 MB of room; a copy in fp32, or all of the file, would be 90.
    assert 0.8 * bytes_held < held / parameters < bytes_held + 1
    assert most / parameters < bytes_held + 2
