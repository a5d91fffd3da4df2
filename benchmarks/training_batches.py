"""The text that training is measured on, cut into the same batches for everybody, in the same order.

Multi30k, English to German, from the folder that the variable TRASLUZ_DATA names; without it random words, in sentences
as long as those. trasluz trains from a recipe, as a user would; the peers get the very batches that recipe makes:
bucketed by length, at most 4,096 padded places a side.
"""

import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from alternate import HERE, Reply
from marian_folder import made_up_word

BATCH_TOKENS = 4_096
VOCAB_SIZE = 8_000
LEARNING_RATE = 5e-4
SMOOTHING = DROPOUT = 0.1

# Of Multi30k's German sides: the logarithm of the length in tokens, and by how many tokens English is longer.
_LOG_LENGTH, _LOG_DEVIATION = 2.63, 0.35
_LONGER, _LONGER_DEVIATION = -0.5, 2.7
_RANDOM_PAIRS = 29_000

_RECIPE = f"""
data: {{languages: [en, de]}}
tokenizer: {{vocab_size: {VOCAB_SIZE}, shared: true}}
training:
  max_steps: 100000000
  learning_rate: {LEARNING_RATE}
  schedule: constant
  warmup_steps: 0
  label_smoothing: {SMOOTHING}
  save_every: 100 h
evaluation: {{every: 100000000 steps, metric: loss, patience: null}}
"""


def text_name() -> str:
    """Say what is trained on."""
    if "TRASLUZ_DATA" in os.environ:
        return "Multi30k, English to German, byte pairs"
    return "random words, in sentences as long as Multi30k's (the variable TRASLUZ_DATA names no data)"


def our_precisions() -> tuple[str, ...]:
    """Return what trasluz can be told to train in on this processor."""
    from trasluz.layers.kernels.int8_training import rounds_rows

    return ("fp32", "bf16", "int8") if rounds_rows() else ("fp32", "bf16")


def prepare_text(work: Path, seed: int, pairs: int = _RANDOM_PAIRS, **more: Any) -> dict[str, Any]:
    """Store the tokens once, so that every worker finds them; return what is to be known of the batches.

    `more` is what a recipe is told besides.
    """
    if "TRASLUZ_DATA" not in os.environ:
        for name, count in (("train", pairs), ("valid", min(pairs, 1_000))):
            _write_random_pairs(work / f"{name}.tsv", count, seed)
    stream = _stream({**more, "work": str(work), "seed": seed, "threads": 1})
    updates = stream.num_updates(0)
    batches = [batch for pieces in itertools.islice(stream.updates(0, 0), 100) for batch in pieces]
    sources = sum(int(batch.source_lengths.sum()) for batch in batches)
    targets = sum(batch.num_target_tokens for batch in batches)
    places = sum(batch.source.numel() + batch.target_output.numel() for batch in batches)
    return {
        "text": text_name(),
        "updates_an_epoch": updates,
        "sentences_a_batch": round(sum(len(batch.source) for batch in batches) / len(batches)),
        "target_tokens_a_batch": round(targets / len(batches)),
        "source_tokens_a_target_token": sources / targets,
        "padding": 1 - (sources + targets) / places,
    }


def recipe(settings: Mapping[str, Any], model: str = "transformer-tiny", precision: str = "fp32") -> Any:
    """Return the recipe that all batches come from."""
    from trasluz.training.recipe_file import parse_recipe

    work = settings["work"]
    train, valid, kind = f"{work}/train.tsv", f"{work}/valid.tsv", "word"
    if "TRASLUZ_DATA" in os.environ:
        train, valid = (f"${{TRASLUZ_DATA}}/multi30k/{part}.{{en,de}}.gz" for part in ("train", "val"))
        kind = "bpe"
    return parse_recipe(
        _RECIPE,
        [
            f"model={model}",
            f'data.train="{train}"',
            f'data.valid="{valid}"',
            f'data.cache="{work}/cache"',
            f"tokenizer.kind={kind}",
            f"training.device={settings.get('device', 'cpu')}",
            f"training.batch_tokens={settings.get('batch_tokens', BATCH_TOKENS)}",
            f"training.precision={precision}",
            f"training.threads={settings['threads']}",
            f"training.seed={settings['seed']}",
            f'output="{work}/{run_name(settings, precision)}"',
        ],
    )


def run_name(settings: Mapping[str, Any], precision: str) -> str:
    """Return the name of a contender's run folder, of which each needs its own."""
    return f"run-{precision}{'-without-kernels' if settings.get('without_kernels') else ''}"


def _write_random_pairs(path: Path, count: int, seed: int) -> None:
    draw = random.Random(f"{seed} {path.name}")
    # Four ids are padding, beginning, end and unknown.
    words = [made_up_word(number) for number in range(VOCAB_SIZE - 4)]
    lines = ["en\tde\n"]
    for _ in range(count):
        target = min(max(3, round(draw.lognormvariate(_LOG_LENGTH, _LOG_DEVIATION))), 50)
        source = max(3, round(target + draw.gauss(_LONGER, _LONGER_DEVIATION)))
        lines.append(f"{' '.join(draw.choices(words, k=source))}\t{' '.join(draw.choices(words, k=target))}\n")
    path.write_text("".join(lines), encoding="utf-8")


def prepared(described: Any, examples: Any) -> Any:
    """Return the data of a recipe, read and stored, or found again."""
    from trasluz.training.data import prepare_data

    preparing = prepare_data(described, examples)
    while True:
        try:
            next(preparing)
        except StopIteration as ended:
            return ended.value


def _stream(settings: dict[str, Any]) -> Any:
    from trasluz.training.translation_examples import TranslationExamples
    from trasluz.training.translation_stream import TranslationStream

    described = recipe(settings)
    data = prepared(described, TranslationExamples(described))
    tokenizer = data.target_tokenizer
    return TranslationStream(
        data.cache,
        data.files,
        pad_id=tokenizer.pad_id,
        start_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        tags=None,
        batch_tokens=described.training.batch_tokens,
        micro_batch_tokens=None,
        seed=described.training.seed,
    )


def batches(settings: dict[str, Any]) -> tuple[Iterator[Any], dict[str, int]]:
    """Return the batches of all epochs, one after the other, and the special ids."""
    stream = _stream(settings)
    endless = (batch for epoch in itertools.count() for pieces in stream.updates(epoch, 0) for batch in pieces)
    return endless, stream.ids


def feed(settings: dict[str, Any]) -> None:
    """Write the special ids and all batches to standard output, a line of JSON each, until nobody reads them."""
    endless, ids = batches(settings)
    with contextlib.suppress(BrokenPipeError):
        print(json.dumps(ids), flush=True)
        for batch in endless:
            told = {name: getattr(batch, name).tolist() for name in _TENSORS}
            print(json.dumps({**told, "num_target_tokens": batch.num_target_tokens}), flush=True)


_TENSORS = ("source", "source_lengths", "target_input", "target_output")


def fed_batches(settings: dict[str, Any]) -> tuple[Iterator[Any], dict[str, int]]:
    """Return what `batches` does, in an environment without trasluz: another one's Python, the `feeder`, makes them.

    It waits where it is not read from, so that it takes nothing from a turn.
    """
    import torch

    command = [settings["feeder"], str(HERE / "training_batches.py"), "--feed", json.dumps(settings)]
    # It ends when its reader does, and its pipe with it.
    lines = subprocess.Popen(command, stdout=subprocess.PIPE, text=True).stdout
    assert lines is not None
    ids: dict[str, int] = json.loads(lines.readline())

    def endless() -> Iterator[Any]:
        for line in lines:
            told = json.loads(line)
            yield SimpleNamespace(**{**told, **{name: torch.tensor(told[name]) for name in _TENSORS}})

    return endless(), ids


def trasluz_turns(settings: dict[str, Any], model: str) -> Callable[[dict[str, Any]], Reply]:
    """Return turns of trasluz training a translator of this preset."""
    return turns_of(recipe(settings, model, settings["precision"]))


def turns_of(described: Any) -> Callable[[dict[str, Any]], Reply]:
    """Return turns of trasluz training from a recipe: a turn goes on with the run for so many updates."""
    from trasluz.training.reports import Update
    from trasluz.training.run import run_recipe

    # What comes before the first update is the business of the first turn, which warms up and does not count.
    reports = run_recipe(described)

    def turn(request: dict[str, Any]) -> Reply:
        start, updates = time.perf_counter(), []
        while len(updates) < request["updates"]:
            report = next(reports)
            if isinstance(report, Update):
                updates.append(report)
        finish(described.training.device)
        seconds = time.perf_counter() - start
        tokens = sum(update.tokens for update in updates)
        loss = sum(update.loss * update.tokens for update in updates) / tokens
        return {"amount": tokens, "seconds": seconds, "loss": loss, **on_gpu(described.training.device)}

    return turn


def on_gpu(device: str) -> dict[str, float]:
    """Return the most memory that tensors have taken on a GPU so far, in MB; nothing for another device."""
    if not device.startswith("cuda"):
        return {}
    import torch

    return {"gpu_mb": torch.cuda.max_memory_allocated(device) / 1e6}


def finish(device: str) -> None:
    """Wait until a GPU has done what it was given: before that no clock is read."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def peer_turns(
    settings: dict[str, Any], model: Any, loss_of: Callable[[Any], Any], endless: Iterator[Any]
) -> Callable[[dict[str, Any]], Reply]:
    """Return turns of a plain, honest loop: fused AdamW, clipping, autocast where it is asked for.

    `loss_of` gives the summed loss of a batch; it is divided by the number of real target tokens. The batches of a turn
    are at hand before its clock starts.
    """
    import torch

    # Before 2.4 PyTorch fuses it on GPUs alone; all tensors of an operation at once are the next best.
    fused = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 4)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=LEARNING_RATE,
        betas=(0.9, 0.98),
        eps=1e-9,
        weight_decay=0.0,
        fused=fused,
        foreach=not fused,
    )
    narrow, device = settings["precision"] == "bf16", settings.get("device", "cpu")
    model.train()

    def turn(request: dict[str, Any]) -> Reply:
        todo = list(itertools.islice(endless, request["updates"]))
        start, tokens, losses = time.perf_counter(), 0, torch.zeros((), device=device)
        for batch in todo:
            if device != "cpu":
                batch = batch.to(torch.device(device))
            with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=narrow):
                loss = loss_of(batch)
            (loss / batch.num_target_tokens).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            tokens += batch.num_target_tokens
            losses += loss.detach()
        finish(device)
        seconds = time.perf_counter() - start
        return {"amount": tokens, "seconds": seconds, "loss": float(losses) / tokens, **on_gpu(device)}

    return turn


if __name__ == "__main__":
    feed(json.loads(sys.argv[sys.argv.index("--feed") + 1]))
