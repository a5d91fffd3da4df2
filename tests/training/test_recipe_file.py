"""Recipes: read with places, overridden, refused with a sentence, written back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trasluz.errors import RecipeError
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import dump_recipe, parse_recipe, read_recipe, write_recipe
from trasluz.training.starting_model import starting_model

MINIMAL = "data: {train: t.tsv}\noutput: runs/x\n"

FULL = """\
task: translate
model: {preset: transformer-tiny, num_layers: 2}
data:
  train: ["data/train.{en,no}", {path: more.tsv, format: tsv, columns: {no: 2, en: 1}}]
  languages: [en, no]
  both_directions: true
  sources: [tldr, react.dev]
  on_error: skip
  exclude: ["test.{en,no}"]
tokenizer: {kind: unigram, vocab_size: 2k}
training:
  max_time: 1h30m
  max_tokens: 20M
  learning_rate: 1e-3
  clip_norm: .5
evaluation: {every: 1 epoch, metric: chrf, patience: null, average: best-3}
output: runs/en-no
"""


def test_everything_is_read() -> None:
    recipe = parse_recipe(
        FULL.replace("data/train.{en,no}, ", '"data/train.{en,no}", ').replace("[test.{en,no}]", '["test.{en,no}"]')
    )
    assert recipe.data.languages == ("en", "no")
    assert recipe.data.train[1]["columns"] == {"no": 2, "en": 1}
    assert recipe.training.max_time == 5400
    assert recipe.training.max_tokens == 20_000_000
    assert (recipe.training.learning_rate, recipe.training.clip_norm) == (1e-3, 0.5)
    assert (recipe.evaluation.every.count, recipe.evaluation.every.unit) == (1, "epochs")
    assert recipe.evaluation.patience is None and str(recipe.evaluation.average) == "best-3"
    assert recipe.place("training.max_tokens") == "recipe:13: training.max_tokens"
    assert recipe.place("training.seed") == "training.seed"


@pytest.mark.parametrize(
    "text", [MINIMAL, MINIMAL + "training: {max_time: 90s, learning_rate: 3e-4, max_tokens: 5k}\n"]
)
def test_what_is_written_is_read_back_equal_with_every_default(tmp_path: Path, text: str) -> None:
    recipe = parse_recipe(text)
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml").model_dump() == recipe.model_dump()
    written = dump_recipe(recipe)
    for section in (Recipe, *(type(getattr(recipe, name)) for name in ("data", "tokenizer", "training", "evaluation"))):
        assert all(f"{key}:" in written for key in section.model_fields)
    assert "every: 500 steps" in written and "save_every: 15m" in written and "average: none" in written


NUMERIC = st.text("0123456789+-.eE_~", min_size=1, max_size=6)
BLANKS = st.text(" a\n\x85\u2028'", max_size=200)


@given(
    labels=st.lists(NUMERIC | BLANKS | st.text(max_size=8), min_size=2, max_size=4, unique=True),
    output=NUMERIC | st.sampled_from(["0815", "1e5", "no", "null", "true", "~"]),
    seconds=st.floats(0.001, 1e8),
)
def test_whatever_text_is_written_is_read_back(labels: list[str], output: str, seconds: float) -> None:
    recipe = parse_recipe("task: classify\ndata: {train: t.tsv}\noutput: x\nevaluation: {metric: accuracy}\n")
    data = recipe.data.model_copy(update={"labels": labels})
    training = recipe.training.model_copy(update={"save_every": seconds})
    changed = recipe.model_copy(update={"output": output, "data": data, "training": training})
    read = parse_recipe(dump_recipe(changed))
    assert (read.output, read.data.labels, read.training.save_every) == (output, labels, seconds)


def test_overrides_are_laid_over() -> None:
    recipe = parse_recipe(
        MINIMAL, ["training.seed=7", "model.num_layers=2", "data.sources=[a, b]", "tokenizer.shared=false"]
    )
    assert recipe.training.seed == 7
    assert recipe.data.sources == ["a", "b"]
    assert recipe.tokenizer.shared is False


def test_an_override_opens_a_preset_into_a_mapping() -> None:
    recipe = parse_recipe("model: rnnsearch\n" + MINIMAL, ["model.dropout=0.2"])
    assert recipe.model == {"preset": "rnnsearch", "dropout": 0.2}


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("dropout=0.2", "dropout", 0.2),
        ("attention_dropout=0.0", "attention_dropout", 0.0),
        ("layers=every-second", "layers", "every-second"),
        ("lengthen={max_positions: 4096}", "lengthen", {"max_positions": 4096}),
    ],
)
def test_an_override_opens_a_trained_model_into_a_mapping(override: str, key: str, value: object) -> None:
    recipe = parse_recipe("model: runs/x\n" + MINIMAL, [f"model.{override}"])
    assert recipe.model == {"from": "runs/x", key: value}


@pytest.mark.parametrize("model", ["{from: pocket-bert}", "{from: pocket-bert, layers: null}"])
def test_a_trained_model_may_stand_in_a_mapping_alone(model: str) -> None:
    recipe = parse_recipe(f"task: classify\nmodel: {model}\n" + MINIMAL)
    started = starting_model(recipe)
    assert started is not None and started.name == "pocket-bert" and started.config.num_layers > 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("data: {train: a}\noutput: b\nmodle: x\n", "r.yaml:3: unknown key modle; did you mean model?"),
        (
            "output: b\ndata:\n  train: a\ntraining:\n  batch_token: 5\n",
            "r.yaml:5: unknown key training.batch_token; did you mean batch_tokens?",
        ),
        (
            "data: {train: a, xyzzy: 1}\noutput: b\n",
            "r.yaml:1: unknown key data.xyzzy; the section data knows: train, valid",
        ),
        ("data: {train: a}\n", "r.yaml: the key output is missing"),
        ("data: {valid: a}\noutput: b\n", "r.yaml:1: the key data.train is missing"),
        (
            MINIMAL + "training:\n  batch_tokens: many\n",
            "r.yaml:4: training.batch_tokens is 'many': write a whole number of at least 1, such as 20000, 20k or 20M",
        ),
        (MINIMAL + "training: {max_time: 60}\n", "r.yaml:3: training.max_time is 60: write a time with its unit"),
        (MINIMAL + "training: {max_time: 0m}\n", "longer than nothing"),
        (MINIMAL + "training: {max_steps: true}\n", "training.max_steps is True: write a whole number"),
        (MINIMAL + "training: {seed: true}\n", "training.seed is True: write a number"),
        (MINIMAL + "training: {seed: 1.5}\n", "training.seed is 1.5: input should be a valid integer"),
        (
            MINIMAL + "training: {clip_norm: -1}\n",
            "training.clip_norm is -1: input should be greater than or equal to 0",
        ),
        (
            MINIMAL + "training:\n  schedule: nom\n",
            "r.yaml:4: training.schedule is 'nom', and must be noam, linear, cosine, constant or plateau; did you mean",
        ),
        (MINIMAL + "training: fast\n", "training is 'fast', and must be a section of its own"),
        (
            MINIMAL + "evaluation: {every: often}\n",
            "evaluation.every is 'often': write a rhythm, such as 500 steps or 1 epoch",
        ),
        (MINIMAL + "evaluation: {average: mean}\n", "evaluation.average is 'mean': write last-N, best-N or none"),
        (MINIMAL + "model: {num_layers: 2}\n", "model is {'num_layers': 2}: write a preset, a mapping"),
        ("data: {train: 5}\noutput: b\n", "data.train is 5: name data by a file"),
        (MINIMAL + "training: {batch_tokens: 100}\n", "training.batch_tokens is 100, below the longest sentence"),
        (MINIMAL + "training: {micro_batch_tokens: 5000}\n", "is split into smaller pieces, never joined"),
        (MINIMAL + "training: {schedule: linear}\n", "falls until the end of the run and needs to know it"),
        (MINIMAL + "evaluation: {patience: null}\n", "training would never end"),
        ("data: {train: a, both_directions: true}\noutput: b\ntokenizer: {shared: false}\n", "needs one vocabulary"),
        ("data: {train: a}\noutput: b\noutput: c\n", "r.yaml:3: the key output is written twice, first at r.yaml:2"),
        ("data: {train: [a\noutput: b\n", "r.yaml:2: this is not YAML"),
        ("- a\n- b\n", "r.yaml: a recipe is a mapping of keys"),
        ("", "r.yaml: a recipe is a mapping of keys"),
        (
            MINIMAL + "model:\n  from: runs/x\n  dropuot: 0.1\n",
            "r.yaml:5: model.dropuot: a model that is started from has its shape: beside `from` there are `layers`, "
            "`lengthen`, rates of dropout and a BigBird's random_plan, random_seed, full_up_to, not 'dropuot'; did you "
            "mean dropout?",
        ),
        (MINIMAL + "model:\n  from: runs/x\n  layers: [2, 1]\n", "r.yaml:5: model.layers: `layers` is [2, 1]: write"),
        (MINIMAL + "training: {seed: -1, betas: x}\n", r"\(and 1 more mistake after it\)"),
    ],
)
def test_mistakes_are_refused_with_their_place(text: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, name="r.yaml")
    message = str(caught.value)
    assert sentence.replace("\\", "") in message, message
    assert "\n" not in message and len(message) < 400


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.seed", "'training.seed' is not of the form key.path=value"),
        ("=3", "is not of the form key.path=value"),
        ("output.x=3", "looks into output, which is no section"),
        ("training.sed=3", "override training.sed=3: unknown key training.sed; did you mean seed?"),
        ("training.seed=[", "is not YAML"),
        ("trainng.seed=2", "override trainng.seed=2: unknown key trainng; did you mean training?"),
        ("training={seed: 1, sed: 2}", "override training={seed: 1, sed: 2}: unknown key training.sed; did you mean"),
        ("data={valid: a}", "override data={valid: a}: the key data.train is missing"),
        ("training={seed: 1, seed: 2}", "the key training.seed is written twice, first at override"),
    ],
)
def test_overrides_are_refused_with_a_sentence(override: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(MINIMAL, [override])
    assert sentence in str(caught.value)


def test_overrides_have_places() -> None:
    recipe = parse_recipe(
        "model: bert-tiny\ndata:\n  train: a\n  valid: {path: b, colums: {text: 1}}\noutput: b\n",
        ["model.num_heads=3", "data.valid={path: c}", "evaluation.patience=2"],
        name="r.yaml",
    )
    assert recipe.place("model", "num_heads") == "override model.num_heads=3: model.num_heads"
    assert recipe.place("model", "model_dim") == "r.yaml:1: model"
    assert recipe.place("model.preset") == "r.yaml:1: model.preset"
    assert recipe.place("data.valid", "colums", "path") == "override data.valid={path: c}: data.valid.path"
    assert recipe.place("data.valid.colums") == "data.valid.colums"
    assert recipe.place("evaluation") == "override evaluation.patience=2: evaluation"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*none.yaml: No such file"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"output: \xff\xfe\n")
    with pytest.raises(RecipeError, match="is not UTF-8 text"):
        read_recipe(tmp_path / "bytes.yaml")
