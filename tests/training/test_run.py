"""Whole runs on made-up pairs: what is written, what is refused before any work, stopping and going on."""

import json
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import sacrebleu
from small_run import in_child, prepared, run, small_recipe, write_pairs

import trasluz
from trasluz.checkpoints.model_folder import load_model
from trasluz.errors import DataError, RecipeError, RequestError, WriteError
from trasluz.layers.kernels.int8_training import rounds_rows
from trasluz.training.recipe import Recipe
from trasluz.training.recipe_file import parse_recipe, read_recipe
from trasluz.training.reports import Chosen, Ended, Notice, Report, Update
from trasluz.training.run import run_recipe
from trasluz.training.translation_examples import TranslationExamples


def ended(reports: list[Report]) -> Ended:
    assert isinstance(reports[-1], Ended)
    return reports[-1]


def notices(reports: list[Report]) -> str:
    return "\n".join(report.text for report in reports if isinstance(report, Notice))


def test_a_run_writes_a_model_folder(tmp_path: Path) -> None:
    reports = run(small_recipe(tmp_path))
    assert ended(reports).reason == "budget"
    assert "were held out by seed 1" in notices(reports)
    output = tmp_path / "run"
    loaded = load_model(output)
    assert loaded.languages == ("en", "es") and loaded.attention_default is not None
    chosen = next(report for report in reports if isinstance(report, Chosen))
    card = (output / "README.md").read_text()
    assert f"| loss | {chosen.metrics['loss']:.4g} |" in card and "preset: transformer-tiny" in card
    assert "held out of the training text by seed 1" in card
    assert read_recipe(output / "recipe.yaml").model_dump() == small_recipe(tmp_path).model_dump()
    kinds = [json.loads(line)["kind"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert kinds.count("evaluation") == 5 and kinds[-2:] == ["chosen", "end"]


def test_it_learns_both_directions_and_bleu_says_so(tmp_path: Path) -> None:
    recipe = small_recipe(
        tmp_path,
        "data.both_directions=true",
        "model.model_dim=32",
        "training.max_steps=300",
        "training.batch_tokens=800",
        "training.learning_rate=1e-2",
        "training.warmup_steps=20",
        "evaluation={every: 100 steps, metric: bleu, beam: 2, sentences: 10}",
    )
    reports = run(recipe)
    chosen = next(report for report in reports if isinstance(report, Chosen))
    assert set(chosen.metrics) >= {"bleu", "bleu_en-es", "bleu_es-en", "chrf", "loss", "perplexity"}
    assert chosen.metrics["bleu_en-es"] > 20 and chosen.metrics["bleu_es-en"] > 20
    assert "|version:" in (tmp_path / "run" / "README.md").read_text().replace("\\|", "|")
    loaded = load_model(tmp_path / "run")
    assert loaded.both_directions and loaded.source_tokenizer.id_of("<2es>") == 5


def test_a_stopped_run_goes_on_and_ends_as_if_it_never_stopped(tmp_path: Path) -> None:
    whole = run(small_recipe(tmp_path, name="whole"))
    first = run_recipe(small_recipe(tmp_path))
    seen: list[Report] = []
    for report in first:
        seen.append(report)
        if isinstance(report, Update) and report.step == 7:
            os.kill(os.getpid(), signal.SIGINT)
    assert ended(seen).reason == "interrupted" and ended(seen).step == 7
    assert "--resume training.max_steps=7" in notices(seen)
    assert not (tmp_path / "run" / "config.json").exists()
    again = run(small_recipe(tmp_path), resume=True)
    assert "step-7" in notices(again) and "Using the tokens stored" in notices(again)
    assert ended(again).tokens == ended(whole).tokens
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_is_not_begun_over_another(tmp_path: Path) -> None:
    run(small_recipe(tmp_path, "training.max_steps=5"))
    with pytest.raises(
        RecipeError, match=r"recipe:\d+: output: .*already holds a run, at update 5: go on with --resume"
    ):
        run(small_recipe(tmp_path))


def test_a_run_may_go_on_longer_but_not_as_another(tmp_path: Path) -> None:
    run(small_recipe(tmp_path, "training.max_steps=5"))
    with pytest.raises(
        RecipeError,
        match=r"override training\.seed=2: training\.seed is 2, but the run in .* was begun with 1: resume",
    ):
        run(small_recipe(tmp_path, "training.seed=2"), resume=True)
    with pytest.raises(RecipeError, match=r"model is .*'num_layers': 2"):
        run(small_recipe(tmp_path, "model.num_layers=2"), resume=True)
    # What is gone from a mapping is a difference, too.
    whole = f"data.train={{path: {tmp_path / 'pairs.tsv'}, columns: {{en: 1, es: 2}}}}"
    with pytest.raises(RecipeError, match=r"data\.train is .*begun with .*'header': False"):
        run(small_recipe(tmp_path, whole), resume=True)
    assert ended(run(small_recipe(tmp_path, "training.max_steps=10"), resume=True)).step == 10


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    run(small_recipe(tmp_path, "training.max_steps=5"))
    longer = small_recipe(tmp_path, "training.max_steps=10")
    pairs = tmp_path / "pairs.tsv"
    text = pairs.read_text()
    pairs.write_text(text + "owl pig\tPIG OWL\n" * 30)
    with pytest.raises(
        RecipeError,
        match=r"data\.train: the data changed since .*run was begun \(another tokenizer and number of rows\)",
    ):
        run(longer, resume=True)
    # As it was, though written anew.
    pairs.write_text(text)
    os.utime(pairs, (0, 0))
    assert ended(run(longer, resume=True)).step == 10


def test_labels_in_another_order_are_other_data(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    data = prepared(recipe, TranslationExamples(recipe))
    one, other = (replace(data, labels=labels).identity for labels in (["bad", "good"], ["good", "bad"]))
    assert one != other


def test_a_checkpoint_that_does_not_tell_its_data_is_resumed(tmp_path: Path) -> None:
    run(small_recipe(tmp_path, "training.max_steps=5"))
    path = tmp_path / "run" / "checkpoints" / "step-5" / "state.json"
    state = json.loads(path.read_text())
    assert state.pop("data")
    path.write_text(json.dumps(state))
    assert ended(run(small_recipe(tmp_path, "training.max_steps=6"), resume=True)).step == 6


def test_one_process_a_run_folder(tmp_path: Path) -> None:
    first = run_recipe(small_recipe(tmp_path, "training.max_steps=5"))
    next(first)
    # A lock is held by an open file, whoever opened it: a second run of this process is refused as another's would be.
    with pytest.raises(RequestError, match=r"run is being trained by another process: wait for it or stop it"):
        run(small_recipe(tmp_path, "training.max_steps=5"))
    first.close()
    run(small_recipe(tmp_path, "training.max_steps=5"))


def test_a_run_whose_only_checkpoint_stood_aside_at_a_kill_is_still_one(tmp_path: Path) -> None:
    run(small_recipe(tmp_path, "training.max_steps=5"))
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / ".step-5.abc.old").mkdir()
    (checkpoints / "step-5").rename(checkpoints / ".step-5.abc.old" / "step-5")
    with pytest.raises(RecipeError, match="already holds a run, at update 5"):
        run(small_recipe(tmp_path))


def test_resume_without_a_run_begins_one(tmp_path: Path) -> None:
    reports = run(small_recipe(tmp_path, "training.max_steps=5"), resume=True)
    assert "no checkpoint yet" in notices(reports) and ended(reports).step == 5


def test_a_run_starts_from_a_model_folder(tmp_path: Path) -> None:
    run(small_recipe(tmp_path))
    reports = run(small_recipe(tmp_path, f"model={tmp_path / 'run'}", "training.max_steps=5", name="tuned"))
    first = next(report for report in reports if isinstance(report, Update))
    fresh = run(small_recipe(tmp_path, "training.max_steps=1", name="fresh"))
    assert first.loss < next(report for report in fresh if isinstance(report, Update)).loss - 0.3
    tokenizer = "tokenizer.json"
    assert (tmp_path / "tuned" / tokenizer).read_bytes() == (tmp_path / "run" / tokenizer).read_bytes()
    with pytest.raises(
        RecipeError, match=r"data\.both_directions is True, but .* was trained with False: set it to that"
    ):
        run(small_recipe(tmp_path, f"model={tmp_path / 'run'}", "data.both_directions=true", name="other"))


def test_pieces_of_an_update_change_nothing_but_rounding(tmp_path: Path) -> None:
    options = ("training.max_steps=6", "model.dropout=0")
    whole = [r for r in run(small_recipe(tmp_path, *options)) if isinstance(r, Update)]
    pieces = run(small_recipe(tmp_path, *options, "training.micro_batch_tokens=50", name="pieces"))
    for one, other in zip(whole, (r for r in pieces if isinstance(r, Update)), strict=True):
        assert one.tokens == other.tokens
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-3)


def test_separate_vocabularies_and_a_recurrent_net(tmp_path: Path) -> None:
    recipe = small_recipe(
        tmp_path,
        "model={preset: rnnsearch, embedding_dim: 8, hidden_dim: 8, attention_dim: 8, readout_dim: 8}",
        "tokenizer.shared=false",
        "training.max_steps=5",
    )
    run(recipe)
    loaded = load_model(tmp_path / "run")
    assert loaded.source_tokenizer.fingerprint != loaded.target_tokenizer.fingerprint
    assert loaded.attention_default == (0, 0)


def test_a_model_without_attention_has_no_default(tmp_path: Path) -> None:
    model = "model={preset: rnn-encdec, embedding_dim: 8, hidden_dim: 8, readout_dim: 8}"
    run(small_recipe(tmp_path, model, "training.max_steps=5"))
    assert load_model(tmp_path / "run").attention_default is None


def test_the_last_choice_looks_at_all_pairs_with_the_models_own_beam(tmp_path: Path) -> None:
    valid = write_pairs(tmp_path / "valid.tsv", count=15, seed=9)
    coarse = "evaluation={every: 60 steps, metric: bleu, beam: 1, sentences: 2, average: last-2}"
    sizes = ["training.max_steps=120", "training.batch_tokens=800", "training.learning_rate=1e-2"]
    recipe = small_recipe(
        tmp_path, coarse, *sizes, f"data.valid={{path: {valid}, columns: {{en: 1, es: 2}}, header: false}}"
    )
    (chosen,) = (report for report in run(recipe) if isinstance(report, Chosen))
    sources, references = zip(*(line.split("\t") for line in valid.read_text().splitlines()), strict=True)
    texts = [one.text for one in trasluz.load(tmp_path / "run")(list(sources))]
    assert chosen.metrics["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, [list(references)]).score)
    assert chosen.metrics["bleu"] > 5


@pytest.mark.parametrize("has_instructions", [True, False])
def test_bf16_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_instructions: bool) -> None:
    monkeypatch.setattr("trasluz.training.run.multiplies_bf16", lambda device: has_instructions)
    reports = run(small_recipe(tmp_path, "training.precision=bf16", "training.max_steps=5"))
    assert f"on cpu in {'bf16' if has_instructions else 'fp32'}" in notices(reports) and ended(reports).step == 5
    assert ("no instructions for bf16" in notices(reports)) != has_instructions


@pytest.mark.parametrize("can_round", [True, False])
@pytest.mark.parametrize("has_bf16", [True, False])
def test_int8_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_round: bool, has_bf16: bool) -> None:
    if not rounds_rows():
        pytest.skip("the compiled kernels, or VNNI, are not there")
    for module in ("run", "trainer"):
        monkeypatch.setattr(f"trasluz.training.{module}.multiplies_bf16", lambda device: has_bf16)
    monkeypatch.setattr("trasluz.training.run.rounds_rows", lambda: can_round)
    wide = ["model.model_dim=64", "training.max_steps=8"]
    reports = run(small_recipe(tmp_path, "training.precision=int8", *wide))
    here = "bf16" if has_bf16 else "fp32"
    assert f"on cpu in {'int8' if can_round else here}" in notices(reports)
    assert ("Products of eight bits need" in notices(reports)) != can_round
    plain = run(small_recipe(tmp_path, f"training.precision={here}", *wide, name="plain"))
    losses, expected = ([one.loss for one in told if isinstance(one, Update)] for told in (reports, plain))
    assert losses == pytest.approx(expected, rel=0.01)
    assert (losses != expected) == can_round


def test_kernels_that_were_not_compiled_are_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in (True, False):
        monkeypatch.setattr("trasluz.training.run.kernels_are_missing", lambda missing=missing: missing)
        reports = run(small_recipe(tmp_path, "training.max_steps=1", name=f"run-{missing}"))
        assert ("The compiled kernels are not there" in notices(reports)) == missing


def test_int8_goes_on_to_the_bit(tmp_path: Path) -> None:
    wide = ["training.precision=int8", "model.model_dim=64"]
    whole = run(small_recipe(tmp_path, *wide, "training.max_steps=8", name="whole"))
    run(small_recipe(tmp_path, *wide, "training.max_steps=4"))
    rest = run(small_recipe(tmp_path, *wide, "training.max_steps=8"), resume=True)
    assert [one.loss for one in rest if isinstance(one, Update)] == [
        one.loss for one in whole if isinstance(one, Update)
    ][4:]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "model=transformer-tinny",
            r"override model=transformer-tinny: model: .*did you mean the preset transformer-tiny",
        ),
        (
            "model.num_heads=3",
            r"override model\.num_heads=3: model\.num_heads: .*`model_dim` \(16\) must be a multiple of `num_heads`",
        ),
        ("model.num_haeds=2", r"override model\.num_haeds=2: model\.num_haeds: .*Did you mean num_heads"),
    ],
)
def test_impossible_sizes_are_refused_before_any_reading(tmp_path: Path, override: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        run(small_recipe(tmp_path, override))
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_too_small_for_its_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"tokenizer\.vocab_size.*too small: a bpe tokenizer"):
        run(small_recipe(tmp_path, "tokenizer={kind: bpe, vocab_size: 50}"))


def test_what_stands_below_a_key_is_refused_with_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("cat\tCAT\n")
    text = (
        "model:\n  preset: transformer-tiny\n  num_encoder_layerz: 3\n"
        f"data:\n  train:\n    - {tmp_path / 'pairs.tsv'}\n    - path: {tmp_path / 'pairs.tsv'}\n      formt: tsv\n"
        f"output: {tmp_path / 'run'}\n"
    )
    with pytest.raises(RecipeError, match=r"^r:3: model\.num_encoder_layerz: .*Did you mean num_encoder_layers"):
        run(parse_recipe(text, name="r"))
    with pytest.raises(RecipeError, match=r"^r:2: model\.preset: .*no preset 'transformer-tinny'"):
        run(parse_recipe(text.replace("transformer-tiny", "transformer-tinny"), name="r"))
    with pytest.raises(DataError, match=r"^r:7: data\.train\.1\.formt: the key 'formt' .*did you mean format"):
        run(parse_recipe(text.replace("  num_encoder_layerz: 3\n", ""), name="r"))


def test_data_that_is_not_there_is_refused_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.valid: there is no file .*none\.tsv"):
        run(small_recipe(tmp_path, f"data.valid={tmp_path / 'none.tsv'}"))
    with pytest.raises(DataError, match=r"data\.train: there is no file .*pears\.tsv; did you mean .*pairs\.tsv"):
        run(small_recipe(tmp_path, f"data.train={tmp_path / 'pears.tsv'}"))


def test_a_minimal_recipe_needs_no_more_than_two_files(tmp_path: Path) -> None:
    lines = [line.split("\t") for line in write_pairs(tmp_path / "all.tsv").read_text().splitlines()]
    (tmp_path / "c.en").write_text("".join(f"{source}\n" for source, _ in lines))
    (tmp_path / "c.es").write_text("".join(f"{target}\n" for _, target in lines))
    recipe: Recipe = parse_recipe(
        f'data: {{train: "{tmp_path}/c.{{en,es}}"}}\noutput: {tmp_path / "run"}\n',
        ["training.max_steps=1", "tokenizer.vocab_size=300", "model.model_dim=16", "evaluation.sentences=2"],
    )
    assert ended(run(recipe)).step == 1


def test_a_disk_that_is_full_ends_the_run_and_harms_no_checkpoint(tmp_path: Path) -> None:
    run(small_recipe(tmp_path, "training.max_steps=5"))

    def with_small_files() -> None:
        # What a full disk does, for one process: files of more than 20 kB are refused.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        with pytest.raises(WriteError, match=r"cannot write .*step-10: File too large.*nothing that was there"):
            run(small_recipe(tmp_path), resume=True)

    assert in_child(with_small_files) == 0
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("*step*")] == ["step-5"]
    assert ended(run(small_recipe(tmp_path), resume=True)).step == 24


def test_a_folder_one_may_not_write_to(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file in the way")
    with pytest.raises(WriteError, match=r"cannot write .*run"):
        run(small_recipe(tmp_path))


@pytest.mark.parametrize(("beam", "wanted"), [(1, 4), (6, 6)])
def test_a_narrow_search_while_training_does_not_narrow_the_model(tmp_path: Path, beam: int, wanted: int) -> None:
    run(small_recipe(tmp_path, "training.max_steps=1", f"evaluation.beam={beam}"))
    assert load_model(tmp_path / "run").generation["num_beams"] == wanted


@pytest.mark.gpu
def test_a_gpu_trains_in_bf16_stops_and_goes_on(tmp_path: Path) -> None:
    options = ("training.device=cuda", "training.precision=auto")
    running = run_recipe(small_recipe(tmp_path, *options))
    said = [report for report in running if not (isinstance(report, Update) and report.step == 7 and interrupt())]
    assert "on cuda in bf16" in notices(said) and ended(said).reason == "interrupted"
    again = run(small_recipe(tmp_path, *options), resume=True)
    assert ended(again).step == 24 and load_model(tmp_path / "run").attention_default is not None


def interrupt() -> bool:
    os.kill(os.getpid(), signal.SIGINT)
    return False
