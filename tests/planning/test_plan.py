"""Plans against what papers say of their trainings, and against sums done by hand."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trasluz.cli.main import run
from trasluz.cli.plan import lines_of
from trasluz.errors import RequestError
from trasluz.models.registry import build_config, build_model, model_of, presets
from trasluz.models.workload import Workload, attention_layer
from trasluz.planning.layout import smallest_layout
from trasluz.planning.machines import Accelerator, find_accelerator
from trasluz.planning.memory import training_memory
from trasluz.planning.plan import Plan, make_plan
from trasluz.planning.run import Run, preset_run
from trasluz.tasks.loading import read_model
from trasluz.text.batching import make_causal_batch
from trasluz.training.job import freeze_layers
from trasluz.training.muon import state_matrices
from trasluz.training.recomputation import recompute_activations

# As V100 was planned with before its lack of bf16 counted.
ROOMY = Accelerator("roomy", 125e12, 32e9, 15.7e12)


def plan_of(
    preset: Any, device: Accelerator, *, devices: int | None = None, utilisation: float = 0.4, **known: Any
) -> Plan:
    return make_plan(preset_run(preset, **known), device, devices=devices, utilisation=utilisation)


@pytest.mark.parametrize(
    ("preset", "steps", "hours", "published", "share"),
    [("transformer-base", 100_000, 12, 3.3e18, 0.29), ("transformer-big", 300_000, 84, 2.3e19, 0.42)],
)
def test_the_transformer_of_2017(preset: str, steps: int, hours: float, published: float, share: float) -> None:
    """Its table 2 reckons with time times rate, on eight P100; its batches had 25,000 tokens a side."""
    device = find_accelerator("p100")
    plan = plan_of(preset, device, tokens=steps * 25_000.0, length=25, devices=8)
    seconds = hours * 3600.0
    assert seconds * 8 * device.operations == pytest.approx(published, rel=0.01)
    # What the model needs is a part of that: six operations a parameter and target token, and a few for pairs.
    assert plan.operations == pytest.approx(6 * plan.run.parameters * steps * 25_000, rel=0.02)
    assert plan.utilisation_within(seconds) == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize(
    ("preset", "published"),
    [("gpt3-125m", 2.25e20), ("gpt3-1.3b", 2.38e21), ("gpt3-13b", 2.31e22), ("gpt3-175b", 3.14e23)],
)
def test_gpt_3(preset: str, published: float) -> None:
    """Its table D.1; it reckons with six operations a parameter and token, pairs of positions left out."""
    plan = plan_of(preset, find_accelerator("v100"), tokens=300e9)
    assert 6.0 * plan.run.parameters * 300e9 == pytest.approx(published, rel=0.06)
    pairs = 3 * 300e9 * architecture_pairs(preset)
    assert plan.operations - pairs == pytest.approx(published, rel=0.06)
    if preset == "gpt3-175b":
        assert plan.operations == pytest.approx(published, rel=0.1)


def architecture_pairs(preset: str) -> float:
    """Return what attention computes for pairs, for each token of a window of 2,048; half of the layers see a band."""
    config: Any = build_config(preset, vocab_size=50_257)
    # A block of 256 queries and the 255 positions before it, but for the first block.
    band = 511 - 255 / 8
    return float(4 * config.model_dim * (config.num_layers / 2) * (2048 + band))


def test_a_band_saves_operations_and_weights_of_attention_that_are_kept() -> None:
    device = ROOMY
    plan, dense = (plan_of({"preset": "gpt3-125m", "band": band}, device) for band in (256, None))
    saved = 4 * 768 * 6 * (2048 - 479.125)
    assert dense.run.forward_a_token - plan.run.forward_a_token == pytest.approx(saved)
    assert dense.memory.activations == plan.memory.activations
    kept = dense.memory.activations_with_scores - plan.memory.activations_with_scores
    assert kept == pytest.approx(6 * 5 * 12 * 2048 * (2048 - 479.125))


def test_memory_is_the_sum_of_its_parts() -> None:
    stack = attention_layer("target", 3, dim=8, feed_forward_dim=32, num_heads=2)
    memory = training_memory(1000, Workload((stack,), 8, 100), source=0, target=10, sequences=4)
    assert memory.state == 16 * 1000
    head = 4 * 100 * 40
    assert memory.activations == 4 * 3 * 10 * (18 * 8 + 4 * 32) + head
    assert memory.activations_with_scores - memory.activations == 4 * 3 * 5 * 2 * 10 * 10
    assert memory.activations_recomputed == 4 * (3 * 2 * 8 * 10 + 10 * (18 * 8 + 4 * 32)) + head
    # Four matrices of attention and two of the feed-forward network in each layer; the output head is a matrix, too.
    layer = 4 * 8 * 8 + 2 * 8 * 32
    assert memory.copies == 2 * (3 * layer + 8 * 100) and memory.copies_recomputed == 2 * (layer + 8 * 100)
    assert memory.gathered == (4 + 4) * (1000 - 3 * layer + 2 * layer)
    assert memory.total() == memory.state + memory.activations + memory.copies
    assert memory.total(recompute=True) == memory.state + memory.activations_recomputed + memory.copies_recomputed
    assert memory.total(recompute=True) < memory.total()
    in_fp32 = training_memory(1000, Workload((stack,), 8, 100), source=0, target=10, sequences=4, number_bytes=4)
    assert in_fp32.copies == in_fp32.copies_recomputed == 0 and in_fp32.gathered == memory.gathered


def test_frozen_layers_have_no_gradients_and_keep_nothing() -> None:
    stack = attention_layer("target", 3, dim=8, feed_forward_dim=32, num_heads=2)
    layer = 4 * 8 * 8 + 2 * 8 * 32
    # Of 3,000 numbers those of two layers are frozen, and 500 below them.
    memory = training_memory(
        3000, Workload((stack,)), source=0, target=10, sequences=4, frozen=2 * layer + 500, frozen_layers=2
    )
    learnt = 3000 - 2 * layer - 500
    assert (memory.weights, memory.gradients, memory.optimizer) == (4 * 3000, 4 * learnt, 8 * learnt)
    kept = 10 * (18 * 8 + 4 * 32)
    assert memory.activations == 4 * kept and memory.activations_recomputed == 4 * kept
    assert memory.copies == memory.copies_recomputed == 2 * layer
    outside = 3000 - 3 * layer
    assert memory.gathered == 4 * (outside + 2 * layer) + 4 * (outside - 500 + 2 * layer)


def test_a_recipe_that_freezes_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    text = (
        "task: classify\nmodel: pocket-bert\ndata: {{train: x.tsv, max_length: 40}}\ntraining: {{max_tokens: 1M{}}}\n"
    )

    def planned(freeze: int) -> Any:
        recipe.write_text(f"{text.format(f', freeze_layers: {freeze}' if freeze else '')}output: out\n")
        assert run(["plan", str(recipe), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    config: Any = read_model("pocket-bert").config
    whole, frozen, all_of_them = (planned(count) for count in (0, 2, config.num_layers))
    # As training freezes them.
    model: Any = model_of(config)
    freeze_layers(model, 2)
    learnt = sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert frozen["parameters"] - frozen["frozen_parameters"] == learnt < whole["parameters"]
    assert frozen["bytes"]["gradients"] == 4 * learnt and frozen["bytes"]["optimizer"] == 8 * learnt
    of_layers = config.num_layers * frozen["frozen_operations_a_token"] / 2
    assert of_layers == pytest.approx(frozen["forward_operations_a_token"])
    assert whole["operations"] - frozen["operations"] == pytest.approx(2e6 * frozen["frozen_operations_a_token"])
    assert all_of_them["operations"] == pytest.approx(whole["operations"] / 3)
    assert all_of_them["bytes"]["copies"] == all_of_them["bytes"]["activations"] == 0
    assert run(["plan", str(recipe)]) == 0
    assert f"of which {all_of_them['frozen_parameters']:,} are frozen" in capsys.readouterr().out


def test_recurrent_layers_are_neither_recomputed_nor_sliced() -> None:
    plan = plan_of("gnmt-8", replace(find_accelerator("a100-40gb"), memory=20e9), batch_tokens=131_072)
    assert plan.smallest is not None and plan.smallest.parallel == "ddp" and not plan.smallest.recompute
    (copies,) = (line for line in lines_of(plan, None) if "copies of weights" in line)
    assert copies.endswith("bf16") and not any("recomputed" in line for line in lines_of(plan, None))


@pytest.mark.parametrize("recompute", [False, True])
def test_copies_are_those_that_autocast_keeps(monkeypatch: pytest.MonkeyPatch, recompute: bool) -> None:
    """Counted among what the forward pass leaves for the backward pass, by the way that a GPU goes."""
    monkeypatch.setattr("trasluz.layers.linear.trains_on_cpu", lambda *_: False)
    small = {"preset": "gpt2", "num_layers": 3, "model_dim": 64, "num_heads": 2, "feed_forward_dim": 256}
    model = build_model(small, vocab_size=500)
    if recompute:
        recompute_activations(model)
    matrices = {tuple(one.shape) for name, one in model.named_parameters() if one.ndim == 2 and "embedding" not in name}
    kept: dict[int, int] = {}

    def note(saved: torch.Tensor) -> torch.Tensor:
        if saved.dtype == torch.bfloat16 and {tuple(saved.shape), tuple(saved.shape)[::-1]} & matrices:
            kept[saved.untyped_storage().data_ptr()] = 2 * saved.numel()
        return saved

    batch = make_causal_batch([list(range(10, 43))] * 3, pad_id=0)
    with (
        torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=not recompute),
        torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved),
    ):
        states = model(batch)
    memory = plan_of(small, ROOMY, vocab_size=500, length=32).memory
    head = 2 * 64 * 500
    layer = memory.copies_recomputed - head
    assert states.requires_grad and memory.copies - head == 3 * layer
    assert sum(kept.values()) == (0 if recompute else 3 * layer)


@pytest.mark.parametrize(("num_layers", "length"), [(1, 10), (1, 8192), (2, 8192), (12, 65_536)])
def test_recomputing_never_takes_more(num_layers: int, length: int) -> None:
    stack = attention_layer("target", num_layers, dim=64, feed_forward_dim=256, num_heads=12)
    memory = training_memory(1000, Workload((stack,), 64, 100), source=0, target=length, sequences=2)
    assert memory.activations_recomputed <= memory.activations <= memory.activations_with_scores


def test_layouts_grow_only_when_they_must() -> None:
    stack = attention_layer("target", 12, dim=768, feed_forward_dim=3072, num_heads=12)
    memory = training_memory(100_000_000, Workload((stack,), 768, 30_000), source=0, target=512, sequences=8)
    roomy, tight, small = (Accelerator("x", 1e12, size) for size in (1e10, memory.total() * 1.05, 1.1e9))
    whole = smallest_layout(lambda _: memory, roomy)
    assert whole is not None and (whole.devices, whole.parallel, whole.recompute) == (1, "none", False)
    recomputed = smallest_layout(lambda _: memory, tight)
    assert recomputed is not None and recomputed.devices == 1 and recomputed.recompute
    sliced = smallest_layout(lambda _: memory, small)
    assert sliced is not None and sliced.parallel == "fsdp" and sliced.devices > 1
    assert sliced.bytes_a_device <= 0.9 * small.memory
    assert smallest_layout(lambda _: memory, Accelerator("x", 1e12, 1e6)) is None


def test_on_the_devices_that_there_are() -> None:
    device = ROOMY
    # Two of its layers, whole, are too much for one of 32 GB.
    assert plan_of("gpt3-175b", device, tokens=300e9).smallest is None
    roomier = replace(device, memory=80e9)
    wanted = plan_of("gpt3-175b", roomier, tokens=300e9)
    assert wanted.smallest is not None and wanted.smallest.recompute and wanted.used == wanted.smallest
    few = plan_of("gpt3-175b", roomier, tokens=300e9, devices=wanted.smallest.devices // 2)
    assert few.used is None and few.smallest == wanted.smallest and few.recompute
    # One device holds it only with recomputation; three do without.
    small = {"preset": "gpt3-1.3b", "num_layers": 12}
    one, three = (plan_of(small, device, batch_sequences=12, devices=devices) for devices in (1, 3))
    assert one.smallest == three.smallest == one.used and one.recompute
    assert three.used is not None and three.used.devices == 3 and not three.recompute
    assert one.seconds is not None and three.seconds is not None
    assert one.seconds == pytest.approx(three.seconds * 3 * 4 / 3)


def test_nothing_is_built() -> None:
    plan = plan_of("bert-large", find_accelerator("h100"))
    assert plan.run.target == 512 and plan.tokens == plan.optimal_tokens == 20 * plan.run.parameters
    small = {"preset": "bert-tiny", "num_layers": 1}
    model = build_model(small, vocab_size=100)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert plan_of(small, find_accelerator("a100"), vocab_size=100).run.parameters == counted


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0}, "`length` must be at least 1, but is 0"),
        ({"utilisation": 1.5}, r"`utilisation` is 1\.5; it is a share of the peak"),
        ({"utilisation": float("nan")}, "`utilisation` is nan; it is a share of the peak"),
        ({"devices": -1}, "`devices` must be at least 1, but is -1"),
        ({"vocab_size": 0}, "`vocab_size` must be at least 1, but is 0"),
        ({"tokens": float("nan")}, "`tokens` must be at least 1, but is nan"),
        ({"batch_sequences": 0}, "`batch_sequences` must be at least 1, but is 0"),
        ({"length": 100_000}, "length is 100,000, but bert-tiny reads at most 512 tokens: it must be that or less"),
    ],
)
def test_what_means_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        plan_of("bert-tiny", find_accelerator("h100"), **settings)


def test_sinusoidal_positions_have_no_end() -> None:
    device = find_accelerator("h100")
    assert plan_of("transformer-base", device, length=100_000).run.target == 100_000
    with pytest.raises(RequestError, match="length is 600, but transformer-base reads at most 512"):
        plan_of({"preset": "transformer-base", "positions": "trainable"}, device, length=600)


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "transformer-base", "--gpu", "p100", "--gpus", "8", "--tokens", "2500M", "--length", "25"]
    assert run([*arguments, "--time", "12h"]) == 0
    out = capsys.readouterr().out
    assert "63,082,496" in out and "time times rate is 3.28e+18 operations, of which 29%" in out
    assert run([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["layout"]["devices"] == 1 and told["bytes"]["weights"] == 4 * 63_082_496
    for wrong, message in (
        (["plan", "bert-bse"], "there is no preset 'bert-bse'. Did you mean bert-base?"),
        (["plan", "bert-base", "--gpu", "h10"], "there is no device 'h10' in the list; did you mean h100?"),
        (["plan", "bert-base", "--tokens", "many"], "--tokens is 'many': write a whole number"),
        (["plan", "bert-base", "--time", "soon"], "--time is 'soon': write a time with its unit"),
        (["plan", "bert-base", "--memory", "0"], "--memory is 0.0; it must be a number above 0"),
        (["plan", "bert-base", "--vocab-size", "0"], "--vocab-size must be at least 1, but is 0."),
        (["plan", "bert-base", "--batch", "0"], "--batch must be at least 1, but is 0."),
        (["plan", "bert-base", "--gpus", "0"], "--gpus must be at least 1, but is 0."),
        (["plan", "bert-base", "--peak", "nan"], "--peak is nan; it must be a number above 0"),
    ):
        assert run(wrong) == 2
        assert message in capsys.readouterr().err


def test_what_is_assumed_and_what_does_not_fit_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "gpt3-175b", "--gpu", "h100", "--gpus", "1"]) == 0
    out = capsys.readouterr().out
    assert "assumed, since no number of tokens or updates is given" in out
    assert "the run does not fit on 1 x h100: the layout is what it takes" in out
    assert run(["plan", "gpt3-175b", "--gpu", "h100", "--tokens", "300G"]) == 0
    out = capsys.readouterr().out
    assert "assumed" not in out and "warning" not in out and "activations recomputed" in out
    assert run(["plan", "gpt3-175b", "--gpu", "h100", "--gpus", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["tokens_assumed"], told["fits"], told["recompute"]) == (True, False, True)


@pytest.mark.parametrize(
    ("training", "options", "batch", "tokens"),
    [
        ("max_time: 2h, batch_tokens: 4000", [], 100, None),
        ("max_steps: 100, batch_tokens: 4000, max_tokens: 3M", ["--gpus", "4"], 25, 400_000),
        ("max_tokens: 3M, batch_tokens: 4000, micro_batch_tokens: 400", ["--length", "20"], 20, 3_000_000),
        ("max_epochs: 3, batch_tokens: 4000", ["--batch", "7"], 7, None),
    ],
)
def test_batch_and_budget_of_a_recipe(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    training: str,
    options: list[str],
    batch: int,
    tokens: float | None,
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"task: generate\nmodel: gpt2\ndata: {{train: x.txt, max_length: 40}}\ntraining: {{{training}}}\noutput: out\n"
    )
    assert run(["plan", str(recipe), *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["batch"] == batch
    assert told["tokens"] == (tokens or told["compute_optimal_tokens"])
    assert told["tokens_assumed"] == (tokens is None)


def test_a_recipe_longer_than_its_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts to classify are cut; windows of texts that go on are refused, as training does."""
    recipe = tmp_path / "recipe.yaml"
    text = "task: {}\nmodel: {}\ndata: {{train: x.tsv, max_length: 2000}}\ntraining: {{max_steps: 9}}\noutput: out\n"
    recipe.write_text(text.format("classify", "bert-base"))
    assert run(["plan", str(recipe), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["length"] == 512
    recipe.write_text(text.format("generate", "gpt2"))
    assert run(["plan", str(recipe)]) == 2
    assert "length is 2,000, but gpt2 reads at most 1,024 tokens" in capsys.readouterr().err


def test_of_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "task: translate\nmodel: {preset: transformer-tiny, num_layers: 2}\ndata: {train: x.tsv, max_length: 40}\n"
        "tokenizer: {vocab_size: 5000}\ntraining: {max_tokens: 3M}\noutput: out\n"
    )
    assert run(["plan", str(recipe), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tokens"] == 3e6 and told["length"] == told["source_length"] == 40


def test_a_batch_that_is_too_much_is_called_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "gpt2", "--batch", "4096"]) == 0
    assert "no number of h100 suffices: 4,096 sequences at once are too much for a device" in capsys.readouterr().out


def test_of_a_trained_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def planned(*arguments: str) -> Any:
        assert run(["plan", *arguments, "--tokens", "1M", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    config: Any = read_model("pocket-bert").config
    layers = config.num_layers * (8 * config.model_dim**2 + 4 * config.model_dim * config.feed_forward_dim)
    pairs = config.num_layers * 4 * config.model_dim * 100
    whole = planned("pocket-bert", "--length", "100")
    words = 2 * config.model_dim * (config.model_dim + config.vocab_size) * 0.15
    assert whole["model"] == "pocket-bert"
    # The last layer gives queries, keys and values everywhere, and the rest where words are masked.
    spared = 0.85 * 2 * (config.model_dim**2 + 2 * config.model_dim * config.feed_forward_dim)
    assert whole["forward_operations_a_token"] == pytest.approx(layers + pairs + words - spared)
    # Labels take next to nothing, and every second layer is left out.
    recipe = tmp_path / "recipe.yaml"
    text = "task: {}\nmodel: {{from: {}, layers: every-second}}\ndata: {{train: x.tsv}}\noutput: out\n"
    recipe.write_text(text.format("classify", "pocket-bert"))
    half = planned(str(recipe), "--length", "100")
    assert half["forward_operations_a_token"] == pytest.approx((layers + pairs) / 2)
    assert half["parameters"] < whole["parameters"]
    for arguments, message in (
        ([str(recipe), "--vocab-size", "900"], "pocket-bert has a vocabulary already"),
        (["bert-bsae"], "Did you mean bert-base?"),
        (["no/such/folder"], "there is no model 'no/such/folder'"),
    ):
        assert run(["plan", *arguments]) == 2
        assert message in capsys.readouterr().err
    recipe.write_text(text.format("classify", "pocket-brt"))
    assert run(["plan", str(recipe)]) == 2
    assert "recipe.yaml:2: model.from: there is no model 'pocket-brt'" in capsys.readouterr().err


RECIPE = "task: {}\nmodel: {}\ndata: {{train: x.txt, max_length: {}}}\ntraining: {{{}}}\noutput: out\n"


def test_an_update_is_shared_by_the_devices_that_are_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"

    def planned(*options: str) -> Any:
        assert run(["plan", str(recipe), *options, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    recipe.write_text(RECIPE.format("generate", "gpt3-6.7b", 2048, "max_tokens: 3G, batch_tokens: 524288"))
    alone, many = planned(), planned("--gpus", "128")
    # 256 sequences: 128 on each of two are too many, 32 on each of eight are not, nor 16 at once on two.
    assert (alone["devices"], alone["batch"], alone["fits"]) == (8, 32, True)
    assert alone["layout"] == many["layout"] and many["layout"]["batch"] == 32 and many["batch"] == 2
    assert (alone["layout_with_less_at_once"]["devices"], alone["layout_with_less_at_once"]["batch"]) == (2, 16)
    few = planned("--gpus", "2")
    assert few["batch"] == 128 and not few["fits"]
    assert few["layout_with_less_at_once"] == alone["layout_with_less_at_once"]
    assert run(["plan", str(recipe), "--gpus", "2"]) == 0
    out = capsys.readouterr().out
    assert "with training.micro_batch_tokens: 32768, 2 devices, parallel: fsdp, activations recomputed: 69.1 GB" in out
    assert "the run does not fit on 2 x h100: the layout is what it takes\n" in out
    assert run(["plan", str(recipe), "--gpus", "1"]) == 0
    assert "the layout is what it takes; not even one sequence at once fits" in capsys.readouterr().out
    # It is as said: in pieces the run fits where it did not.
    pieces = "max_tokens: 3G, batch_tokens: 524288, micro_batch_tokens: 32768"
    recipe.write_text(RECIPE.format("generate", "gpt3-6.7b", 2048, pieces))
    told = planned()
    assert told["layout"] == alone["layout_with_less_at_once"] and told["layout_with_less_at_once"] is None


def test_small_models_are_copied() -> None:
    """Where only activations are too many, each device has the whole model."""
    device = Accelerator("x", 1e12, 2.8e9, 1e11)
    plan = plan_of("gpt2", device, batch_tokens=16 * 1024)
    assert plan.used is not None and plan.used.parallel == "ddp" and plan.used.devices * plan.used.sequences == 16


def test_precision_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bf16, fp32 = (plan_of("gpt2", find_accelerator("a100"), precision=precision) for precision in ("auto", "fp32"))
    assert (bf16.precision, fp32.precision) == ("bf16", "fp32")
    head = 4 * 50_257 * 256
    assert fp32.memory.activations - head == 2 * (bf16.memory.activations - head)
    assert fp32.memory.state == bf16.memory.state
    assert bf16.seconds is not None and fp32.seconds == pytest.approx(bf16.seconds * 312 / 19.5)
    # The list's rate gives way to one that was measured, whatever the type.
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format("generate", "gpt2", 1024, "max_steps: 9, precision: fp32"))
    for options, precision, rate in (
        ([], "fp32\n", "67"),
        (["--peak", "300"], "fp32\n", "300"),
        (["--gpu", "v100"], "fp32, since v100 has no instructions for bf16", "15.7"),
    ):
        if "v100" in options:
            recipe.write_text(RECIPE.format("generate", "gpt2", 1024, "max_steps: 9, precision: bf16"))
        assert run(["plan", str(recipe), *options]) == 0
        out = capsys.readouterr().out
        assert f"precision            {precision}" in out and f" of {rate} TFLOP/s" in out


@pytest.mark.parametrize("name", ["gpt2", "bert-tiny", "transformer-tiny", "gpt-modern-small"])
def test_moments_of_muon(name: str) -> None:
    """One of the matrices that it handles, two of the rest."""
    preset = {"preset": name, "num_layers": 2}
    config = plan_of(preset, ROOMY, vocab_size=1000).run.config
    with torch.device("meta"):
        model = model_of(config)
    matrices = sum(weight.numel() for weight in state_matrices(model))
    whole = sum(weight.numel() for weight in model.parameters())
    plan = plan_of(preset, ROOMY, vocab_size=1000, optimizer="muon")
    assert plan.memory.optimizer == 4 * matrices + 8 * (whole - matrices)


def test_what_muon_trains_is_sliced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format("generate", "gpt3-13b", 2048, "max_steps: 9, optimizer: muon"))
    assert run(["plan", str(recipe)]) == 0
    assert "parallel: fsdp" in capsys.readouterr().out


def test_a_teacher_is_held_and_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def planned(taught: str) -> Any:
        recipe = tmp_path / "recipe.yaml"
        text = (
            "task: fill-mask\nmodel: {from: pocket-bert, layers: every-second}\ndata: {train: x.txt, max_length: 40}\n"
        )
        recipe.write_text(f"{text}{taught}training: {{max_tokens: 1M, batch_tokens: 400}}\noutput: out\n")
        assert run(["plan", str(recipe), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    alone, taught = planned(""), planned("distillation: {teacher: pocket-bert}\n")
    assert alone["bytes"]["teacher"] == alone["teacher_operations_a_token"] == 0
    config: Any = read_model("pocket-bert").config
    of_teacher = Run("pocket-bert", config, length=40)
    layer = 10 * 40 * (18 * config.model_dim + 4 * config.feed_forward_dim)
    logits = 16 * (config.model_dim + config.vocab_size) * 0.15 * 10 * 40
    assert taught["bytes"]["teacher"] == pytest.approx(4 * of_teacher.parameters + layer + logits)
    assert taught["layout"]["bytes_a_device"] - alone["layout"]["bytes_a_device"] == taught["bytes"]["teacher"]
    assert taught["teacher_operations_a_token"] == pytest.approx(of_teacher.forward_a_token)
    assert taught["operations"] - alone["operations"] == pytest.approx(1e6 * of_teacher.forward_a_token)
    assert taught["seconds"] > alone["seconds"]


def test_what_fits_nowhere_takes_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "gpt3-175b", "--gpu", "k80", "--time", "9d"]
    assert run([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [told[key] for key in ("layout", "devices", "seconds", "utilisation_within_time")] == [None] * 4
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert "no number of k80 suffices: one sequence of 2,048 tokens is too much for a device" in out
    assert "years" not in out and "time times rate" not in out
    # Of devices that are named the rate is known.
    assert run([*arguments, "--gpus", "64"]) == 0
    out = capsys.readouterr().out
    assert "the run does not fit on 64 x k80; not even one sequence at once fits" in out and "years on 64 x k80" in out


@pytest.mark.parametrize("preset", sorted(presets()))
def test_every_preset_has_a_plan(preset: str) -> None:
    plan = plan_of(preset, find_accelerator("h200"), tokens=1e9)
    assert plan.memory.weights == 4 * plan.run.parameters and plan.devices and plan.seconds and plan.seconds > 0
    # Six operations a parameter and token: embeddings that are looked up and words that are not judged cost none, pairs
    # of positions cost more.
    assert 0.25 < plan.operations / (6 * plan.run.parameters * 1e9) < 1.4
    assert any("parameters" in line for line in lines_of(plan, None))
