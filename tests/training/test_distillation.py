"""Small encoders that learn from larger ones: what they start with, what they reach, and what is refused."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_run import run
from test_classification import chosen, text_recipe
from test_masked_words import text_recipe as words_recipe
from tests.checkpoints.hub_encoders import write_encoder

import trasluz
from trasluz.cli.main import run as run_command
from trasluz.errors import DataError, RecipeError
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import dump_recipe, parse_recipe
from trasluz.training.reports import Ended, Notice
from trasluz.training.run import run_recipe


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts and a teacher of three layers that knows their topics."""
    folder = tmp_path_factory.mktemp("taught")
    run(text_recipe(folder, "model.num_layers=3", "training.learning_rate=5e-3", name="teacher"))
    return folder


def student_recipe(folder: Path, *overrides: str, name: str = "student") -> Recipe:
    teacher = folder / "teacher"
    student = [f"model={{from: {teacher}, layers: every-second}}", f"distillation.teacher={teacher}"]
    return text_recipe(folder, *student, "training.learning_rate=1e-3", *overrides, name=name)


def test_a_student_begins_as_every_second_layer_and_learns(taught: Path) -> None:
    run(student_recipe(taught, "training.max_steps=1", "training.learning_rate=1e-12", name="begun"))
    teacher, begun = (load_file(taught / name / "model.safetensors") for name in ("teacher", "begun"))
    layer = "bert.encoder.layer.{}.output.dense.weight"
    torch.testing.assert_close(begun[layer.format(0)], teacher[layer.format(0)])
    torch.testing.assert_close(begun[layer.format(1)], teacher[layer.format(2)])
    torch.testing.assert_close(begun["classifier.weight"], teacher["classifier.weight"])
    assert layer.format(2) not in begun

    reports = run(student_recipe(taught))
    assert chosen(reports)["accuracy"] > 0.95
    classify = trasluz.load(taught / "student")
    assert classify.config.num_layers == 2 and classify("the sail and the tide").label == "sea"
    card = (taught / "student" / "README.md").read_text()
    assert f"teacher: {taught / 'teacher'}" in card and "base_model" in card


def test_what_the_teacher_thinks_is_learnt_without_labels(taught: Path) -> None:
    # All labels are wrong, and count nothing.
    lines = (taught / "texts.tsv").read_text().splitlines(keepends=True)
    turned = {"sea": "sky", "sky": "bread", "bread": "sea"}
    wrong = [turned[line.split("\t")[0]] + line[line.index("\t") :] for line in lines[1:]]
    (taught / "wrong.tsv").write_text(lines[0] + "".join(wrong))
    overrides = [f"data.train={taught / 'wrong.tsv'}", f"data.valid={taught / 'texts.tsv'}"]
    shape = "model_dim: 32, num_heads: 2, feed_forward_dim: 48, num_layers: 1, max_positions: 40"
    recipe = student_recipe(
        taught,
        *overrides,
        f"model={{preset: bert-tiny, {shape}}}",
        f"tokenizer.load={taught / 'teacher'}",
        "distillation.data_weight=0",
        "training.learning_rate=1e-2",
        name="believer",
    )
    assert chosen(run(recipe))["accuracy"] > 0.9


def test_texts_without_labels_are_learnt_from_the_teacher(taught: Path) -> None:
    # One labelled text of each topic, and others without their labels.
    head, *lines = (taught / "texts.tsv").read_text().splitlines()
    firsts = [next(line for line in lines if line.startswith(topic)) for topic in ("bread", "sea", "sky")]
    (taught / "three.tsv").write_text("\n".join([head, *firsts, ""]))
    (taught / "bare.tsv").write_text("text\n" + "".join(line.split("\t", 1)[1] + "\n" for line in lines[100:]))
    shape = "model_dim: 32, num_heads: 2, feed_forward_dim: 48, num_layers: 1, max_positions: 40"
    settings = [
        f"data.train={taught / 'three.tsv'}",
        f"data.valid={taught / 'texts.tsv'}",
        f"model={{preset: bert-tiny, {shape}}}",
        f"tokenizer.load={taught / 'teacher'}",
        "training.learning_rate=1e-2",
    ]
    few = run(student_recipe(taught, *settings, name="few"))
    recipe = student_recipe(taught, *settings, f"data.unlabelled=[{taught / 'bare.tsv'}]", name="listener")
    told = run(recipe)
    notices = "\n".join(report.text for report in told if isinstance(report, Notice))
    count = int(re.search(r"(\d+) training texts, \d+ of them without labels", notices)[1])
    assert f"{count} training texts, {count - 3} of them without labels" in notices
    assert chosen(told)["accuracy"] > 0.9 > chosen(few)["accuracy"]
    assert f"- texts without labels: `{taught / 'bare.tsv'}`" in (taught / "listener" / "README.md").read_text()
    # Of another file there are other tokens.
    (taught / "bare.tsv").write_text("text\n" + "".join(line.split("\t", 1)[1] + "\n" for line in lines[200:]))
    with pytest.raises(RecipeError, match="number of rows"):
        list(run_recipe(recipe, resume=True))


def test_without_a_teacher_texts_without_labels_say_nothing(taught: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.unlabelled: of texts without labels only a teacher"):
        run(student_recipe(taught, "data.unlabelled=[nowhere.tsv]", "distillation.teacher=null"))
    with pytest.raises(DataError, match=r"data\.unlabelled\.0: there is no file nowhere\.tsv"):
        run(student_recipe(taught, "data.unlabelled=[nowhere.tsv]", name="nothing"))


def test_texts_without_labels_of_which_none_is_left_are_refused(taught: Path) -> None:
    (taught / "elsewhere.tsv").write_text("source\ttext\nother\tthe sail and the tide\n")
    mine = f"data.train=[{{path: {taught / 'texts.tsv'}, source: mine}}]"
    listens = f"data.unlabelled=[{taught / 'elsewhere.tsv'}]"
    with pytest.raises(DataError, match=r"elsewhere\.tsv.*mine"):
        run(student_recipe(taught, mine, "data.sources=[mine]", listens, name="elsewhere"))
    lines = (taught / "texts.tsv").read_text().splitlines()[1:9]
    (taught / "known.txt").write_text("".join(line.split("\t")[1] + "\n" for line in lines))
    to_exclude = f"data.exclude=[{taught / 'texts.tsv'}]"
    other = f"data.train={taught / 'others.tsv'}"
    (taught / "others.tsv").write_text("label\ttext\nsea\ta sail\nsky\ta cloud\nbread\ta loaf\n")
    with pytest.raises(DataError, match=r"data\.unlabelled: none of these texts is left"):
        run(student_recipe(taught, other, to_exclude, f"data.unlabelled=[{taught / 'known.txt'}]", name="known"))


def test_a_teacher_that_says_nothing_is_refused(taught: Path) -> None:
    silent = ["distillation.soft_weight=0", "distillation.hidden_weight=0"]
    with pytest.raises(RecipeError, match=r"distillation\.teacher: it teaches nothing"):
        run(student_recipe(taught, *silent, name="silent"))


def test_masked_words_are_taught(tmp_path: Path) -> None:
    run(words_recipe(tmp_path, name="teacher"))
    student = f"model={{from: {tmp_path / 'teacher'}, layers: [1]}}"
    recipe = words_recipe(
        tmp_path, student, f"distillation.teacher={tmp_path / 'teacher'}", "training.max_steps=150", name="student"
    )
    assert chosen(run(recipe))["loss"] < 1.0
    assert trasluz.load(tmp_path / "student").config.num_layers == 1


def test_stopped_and_resumed_it_is_the_same_to_the_bit(taught: Path) -> None:
    constant = "training.schedule=constant"
    run(student_recipe(taught, constant, name="whole"))
    run(student_recipe(taught, constant, "training.max_steps=50", name="half"))
    assert isinstance(list(run_recipe(student_recipe(taught, constant, name="half"), resume=True))[-1], Ended)
    first, second = (load_file(taught / name / "model.safetensors") for name in ("whole", "half"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_longer_model_starts_from_a_trained_one(taught: Path) -> None:
    longer = f"model={{from: {taught / 'teacher'}, lengthen: {{max_positions: 120, block_size: 8, full_up_to: 40}}}}"
    budget = ["training.max_steps=5", "training.learning_rate=1e-4"]
    reports = run(text_recipe(taught, longer, "data.max_length=120", *budget, name="longer"))
    assert chosen(reports)["accuracy"] > 0.95
    classify = trasluz.load(taught / "longer")
    assert classify.config.random_plan == "paper" and classify.longest_text == 120
    text = "the sail and the tide " * 15
    assert classify(text).left_out == 0 and classify(text).label == "sea"
    assert trasluz.load(taught / "teacher")(text).left_out > 0
    other = f"model={{from: {taught / 'longer'}, random_plan: huggingface-eval, random_seed: 7, full_up_to: 0}}"
    run(text_recipe(taught, other, "data.max_length=120", *budget, name="other"))
    config = trasluz.load(taught / "other").config
    assert (config.random_plan, config.random_seed, config.full_up_to) == ("huggingface-eval", 7, 0)


def test_a_model_starts_from_a_trained_one_with_other_dropout(taught: Path) -> None:
    rates = f"model={{from: {taught / 'teacher'}, layers: [0, 1], dropout: 0.3, head_dropout: 0.0}}"
    reports = run(text_recipe(taught, rates, "training.max_steps=5", "training.learning_rate=1e-4", name="dropping"))
    config = trasluz.load(taught / "dropping").config
    assert (config.num_layers, config.dropout, config.head_dropout) == (2, 0.3, 0.0)
    assert chosen(reports)["accuracy"] > 0.8


def test_from_the_command_line(taught: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = taught / "recipe.yaml"
    recipe.write_text(dump_recipe(student_recipe(taught, "training.max_steps=5", name="typed")))
    assert run_command(["distill", str(recipe), "--quiet"]) == 0
    assert trasluz.load(taught / "typed").config.num_layers == 2
    assert run_command(["distill", str(recipe), "distillation.teacher=null"]) == 2
    assert "distillation.teacher is missing: name the model that teaches" in capsys.readouterr().err


def test_layers_are_overridden(taught: Path) -> None:
    recipe = text_recipe(taught, f"model={taught / 'teacher'}", "model.layers=[0, 2]")
    assert recipe.model == {"from": str(taught / "teacher"), "layers": [0, 2]}
    assert parse_recipe(dump_recipe(recipe)).model == recipe.model


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model={from: TEACHER, layers: []}"], r"`layers` is \[\]: write every-second, or numbers in rising order"),
        (["model={from: TEACHER, layers: [2, 1]}"], r"`layers` is \[2, 1\]: write every-second"),
        (
            ["model={from: TEACHER, layers: [0], num_heads: 3}"],
            r"beside `from` there are `layers`, `lengthen`, rates of dropout and a BigBird's random_plan, random_seed, "
            r"full_up_to, not 'num_heads'",
        ),
        (["model={from: TEACHER, dropout: 1.5}"], r"model\.dropout: teacher: dropout=1\.5: "),
        (["model={from: TEACHER, random_plan: paper}"], r"there is no field 'random_plan' in a bert"),
        (["model={from: TEACHER, readout_dropout: 0.1}"], r"there is no field 'readout_dropout' in a bert"),
        (["model={from: TEACHER, layers: [0, 3]}"], r"layers: teacher has the layers 0 to 2, and no 3"),
        (["model={from: TEACHER, lengthen: 90}"], r"`lengthen` is 90: write for instance {max_positions: 4096}"),
        (["model={from: TEACHER, lengthen: {max_positions: 9}}"], r"reads 40 tokens already; `max_positions` must be"),
        (
            ["model={from: TEACHER, lengthen: {max_positions: 90, blocks: 3}}"],
            r"`lengthen` takes no 'blocks', since",
        ),
        (["model={from: pocket-en-es, layers: [0]}"], r"pocket-en-es is no encoder; only encoders are cut"),
        (["distillation.teacher=FOLDER/nobody"], r"distillation\.teacher: .*nobody"),
        (["distillation.teacher=pocket-en-es"], r"pocket-en-es is for the task translate, and cannot teach classify"),
        (["distillation.teacher=FOLDER/encoder"], r"encoder is for the task fill-mask, and cannot teach classify"),
        (["data.label_kind=several"], r"are of the kind one, and data\.label_kind is several"),
        (["data.max_length=200"], r"teacher reads 40 tokens, and data\.max_length is 200"),
        (["data.labels=[sea, bread, sky]"], r"the labels of .*teacher are bread, sea, sky; those to learn are sea, br"),
        (["data.labels=[sea, bread, sky]"], r"in the teacher's order, data\.labels=\[bread, sea, sky\]"),
        (
            ["model={preset: bert-tiny, num_layers: 1, model_dim: 16, max_positions: 40}", "tokenizer.load=TEACHER"],
            r"the states of .*teacher are 32 wide, the student's 16: .* set distillation\.hidden_weight to 0",
        ),
        (
            ["model={preset: bert-tiny, num_layers: 1, max_positions: 40}", "tokenizer.vocab_size=120"],
            r"teacher reads with another tokenizer than the student",
        ),
        (
            ["task=fill-mask", "masking.next_sentence=true", "data.held_out=2"],
            r"what follows what is not taught: set masking\.next_sentence to false",
        ),
        (["task=translate", "tokenizer.kind=bpe"], r"distillation means nothing to the task translate"),
    ],
)
def test_what_cannot_work_is_refused(taught: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    write_encoder(tmp_path / "encoder", "BertForMaskedLM")
    filled = [one.replace("TEACHER", str(taught / "teacher")).replace("FOLDER", str(tmp_path)) for one in overrides]
    with pytest.raises(RecipeError, match=message):
        run(student_recipe(taught, f"output={tmp_path / 'run'}", *filled))
