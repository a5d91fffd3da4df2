"""How fast does an encoder learn from masked words: trasluz beside transformers' BertForMaskedLM and its Trainer.

    python benchmarks/masked_training_speed.py --minutes 15

6 layers, 384 wide, 12 heads, vocabulary 30,522; texts of made-up words with log-normal lengths, 40 tokens in the mean
and at most 128; 15 % of them to be guessed; dropout 0.1, Adam, clipping. trasluz is what `trasluz train` runs, with no
environment variable set. BertForMaskedLM gets the very same batches, bucketed by length, at most 4,096 padded places
each, in a plain loop with fused AdamW, as it is and with glibc's allocator told to keep its buffers, in fp32 and in
bf16 autocast. In eight bits, trasluz makes two thirds of its layers' products so, and the rest in bf16; its share is
of products in eight bits. The Trainer makes batches of its own of the same texts, grouped by length and of as many
texts as those have in the mean, with its own collator. What is counted is tokens that are no padding.
"""

import collections
import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from alternate import (
    ALLOCATOR,
    Contender,
    Contest,
    Reply,
    chosen,
    print_report,
    question_parser,
    report_of,
    say,
    serve,
    serving,
    threads_of,
    without_kernels,
)
from encoder_folder import LONGEST, MEAN_LENGTH, SMALL, TINY, TINY_VOCAB_SIZE, VOCAB_SIZE, texts, write_tokenizer
from machine_limits import LIMITS
from training_batches import LEARNING_RATE, our_precisions, peer_turns, prepared, run_name, turns_of
from training_speed import training_rows

SCRIPT = "masked_training_speed.py"
TEXTS = 20_000
BATCH_TOKENS = 4_096
RATE = 0.15
UPDATES_A_TURN = 4


def gflop_a_token(shape: Mapping[str, int], vocab_size: int) -> float:
    """Return the operations of one update for each token, where only masked places are guessed.

    Two for each weight a token meets, forward; twice that again backward.
    """
    dim = shape["model_dim"]
    layer = 4 * dim * dim + 2 * dim * shape["feed_forward_dim"] + 2 * dim * MEAN_LENGTH
    return 6 * (shape["num_layers"] * layer + RATE * (dim * dim + dim * vocab_size)) / 1e9


def contenders(settings: Mapping[str, Any]) -> list[Contender]:
    """Return all that take part."""

    def one(kind: str, name: str, precision: str, package: str, **other: Any) -> Contender:
        told = {**settings, "kind": kind, "precision": precision}
        return Contender(f"{name}, {precision}", SCRIPT, told, precision, (package,), **other)

    found = [one("trasluz", "trasluz", precision, "trasluz") for precision in our_precisions()]
    found.append(without_kernels(one("trasluz", "trasluz", "bf16", "trasluz")))
    for precision in ("fp32", "bf16"):
        found.append(one("bert", "BertForMaskedLM", precision, "transformers"))
        found.append(one("bert", "BertForMaskedLM, allocator", precision, "transformers", environment=ALLOCATOR))
        found.append(one("trainer", "Trainer, allocator", precision, "transformers", environment=ALLOCATOR))
    return found


def recipe(settings: Mapping[str, Any]) -> Any:
    """Return the recipe that all batches come from."""
    from trasluz.training.recipe_file import parse_recipe

    work, shape = settings["work"], settings["shape"]
    return parse_recipe(
        f"""
task: fill-mask
model: {{preset: bert-base, {", ".join(f"{key}: {value}" for key, value in shape.items())}}}
data: {{train: {work}/train.txt, valid: {work}/valid.txt, max_length: {LONGEST}, cache: {work}/cache}}
tokenizer: {{kind: wordpiece, load: {work}/tokenizer}}
masking: {{rate: {RATE}}}
training:
  max_steps: 100000000
  batch_tokens: {settings.get("batch_tokens", BATCH_TOKENS)}
  learning_rate: {LEARNING_RATE}
  schedule: constant
  warmup_steps: 0
  label_smoothing: 0.0
  device: {settings.get("device", "cpu")}
  precision: {settings.get("precision", "fp32")}
  threads: {settings["threads"]}
  seed: {settings["seed"]}
  save_every: 100 h
evaluation: {{every: 100000000 steps, patience: null}}
output: {work}/{run_name(settings, settings.get("precision", "fp32"))}
"""
    )


def _stream(settings: Mapping[str, Any]) -> Any:
    from trasluz.models.registry import build_model
    from trasluz.training.masked_words_job import MaskedWordsJob
    from trasluz.training.processes import ALONE

    described = recipe(settings)
    job = MaskedWordsJob(described, None)
    data = prepared(described, job.examples)
    # Of the model only the padding is asked for.
    small = build_model({"preset": "bert-tiny", "num_layers": 1}, vocab_size=data.source_tokenizer.vocab_size)
    return job.stream(data, small, ALONE)


def _batches(settings: Mapping[str, Any]) -> Iterator[Any]:
    stream = _stream(settings)
    return (batch for epoch in itertools.count() for pieces in stream.updates(epoch, 0) for batch in pieces)


def _prepare(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    return {"trasluz": _trasluz, "bert": _bert, "trainer": _trainer}[settings["kind"]](settings)


def _trasluz(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    return turns_of(recipe(settings))


def _model(settings: dict[str, Any]) -> Any:
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    shape = settings["shape"]
    return BertForMaskedLM(
        BertConfig(
            vocab_size=settings["vocab_size"],
            hidden_size=shape["model_dim"],
            num_hidden_layers=shape["num_layers"],
            num_attention_heads=shape["num_heads"],
            intermediate_size=shape["feed_forward_dim"],
            max_position_embeddings=512,
            attn_implementation="sdpa",
        )
    ).to(settings.get("device", "cpu"))


def _bert(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    import torch

    model = _model(settings)

    def loss_of(batch: Any) -> Any:
        ids, lengths = batch.texts.ids, batch.texts.lengths
        labels = torch.full_like(ids, -100)
        labels[batch.rows, batch.columns] = batch.targets
        real = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
        found = model(input_ids=ids, attention_mask=real, token_type_ids=batch.texts.segments, labels=labels)
        # The loop divides a sum by the number of tokens; theirs is a mean over the places to guess.
        return found.loss * batch.num_target_tokens

    return peer_turns(settings, model, loss_of, _batches(settings))


def _trainer(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    from transformers import (
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    work = Path(settings["work"])
    tokenizer = AutoTokenizer.from_pretrained(work / "tokenizer")
    lines = (work / "train.txt").read_text(encoding="utf-8").splitlines()
    encoded = [{"input_ids": ids} for ids in tokenizer(lines, truncation=True, max_length=LONGEST)["input_ids"]]
    # Batches are made ahead of their turn.
    made: collections.deque[int] = collections.deque()
    losses: list[float] = []

    class Counted(DataCollatorForLanguageModeling):  # type: ignore[misc]
        def __call__(self, features: Any, return_tensors: Any = None) -> Any:
            batch = super().__call__(features, return_tensors)
            made.append(int(batch["attention_mask"].sum()))
            return batch

    class Told(Trainer):  # type: ignore[misc]
        def compute_loss(self, *given: Any, **more: Any) -> Any:
            loss = super().compute_loss(*given, **more)
            losses.append(float(loss.detach()))
            return loss

    wanted, done = threading.Semaphore(0), threading.Semaphore(0)

    class InTurns(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            wanted.acquire()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            done.release()

    arguments = TrainingArguments(
        output_dir=str(work / f"trainer-{settings['precision']}"),
        max_steps=100_000_000,
        per_device_train_batch_size=settings["texts_a_batch"],
        train_sampling_strategy="group_by_length",
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        bf16=settings["precision"] == "bf16",
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        seed=settings["seed"],
    )
    trainer = Told(
        model=_model(settings),
        args=arguments,
        train_dataset=encoded,
        data_collator=Counted(tokenizer, mlm_probability=RATE),
        callbacks=[InTurns()],
    )
    failed: list[BaseException] = []

    def run() -> None:
        try:
            trainer.train()
        except BaseException as error:
            failed.append(error)
            done.release()

    threading.Thread(target=run, daemon=True).start()

    def turn(request: dict[str, Any]) -> Reply:
        start, tokens = time.perf_counter(), 0
        for _ in range(request["updates"]):
            wanted.release()
            done.acquire()
            if failed:
                raise failed[0]
            tokens += made.popleft()
        return {"amount": tokens, "seconds": time.perf_counter() - start, "loss": losses[-1]}

    return turn


def write_texts(work: Path, vocab_size: int, count: int, seed: int) -> None:
    """Write a tokenizer, so many texts to train on, and some to choose by."""
    write_tokenizer(work / "tokenizer", vocab_size)
    for number, (part, amount) in enumerate((("train", count), ("valid", 100))):
        lines = "".join(f"{text}\n" for text in texts(amount, vocab_size, seed + number))
        (work / f"{part}.txt").write_text(lines, encoding="utf-8")


def measure(options: Any) -> dict[str, Any]:
    """Let all train in turns."""
    notes: list[str] = []
    shape, vocab_size = (TINY, TINY_VOCAB_SIZE) if options.quick else (SMALL, VOCAB_SIZE)
    with tempfile.TemporaryDirectory() as name:
        settings: dict[str, Any] = {
            "work": name,
            "seed": options.seed,
            "threads": threads_of(options),
            "shape": shape,
            "vocab_size": vocab_size,
        }
        say("training an encoder on masked words")
        write_texts(Path(name), vocab_size, 500 if options.quick else TEXTS, options.seed)
        some = list(itertools.islice(_batches(settings), 100))
        tokens, places = (sum(amounts) for amounts in zip(*map(_sizes, some), strict=True))
        settings["texts_a_batch"] = round(sum(len(batch.texts.lengths) for batch in some) / len(some))
        taking_part = chosen(options, contenders(settings), notes)
        limits = Contender(LIMITS.name, LIMITS.script, {"threads": threads_of(options)})
        # A peer holds up to ten gigabytes.
        with Contest([*taking_part, limits], warm_up={"updates": 1}) as contest:
            request = {"updates": 1 if options.quick else UPDATES_A_TURN}
            replies = contest.rounds(request, 0 if options.quick else options.minutes, 2 if options.quick else 5)
            notes += contest.notes
    text = {
        "texts_a_batch": settings["texts_a_batch"],
        "tokens_a_batch": round(tokens / len(some)),
        "padding": 1 - tokens / places,
    }
    cost = {"gflop": gflop_a_token(shape, vocab_size)}
    return report_of(SCRIPT, options, taking_part, notes, shape=shape, text=text, replies=replies, cost=cost)


def _sizes(batch: Any) -> tuple[int, int]:
    return int(batch.texts.lengths.sum()), batch.texts.ids.numel()


def table(report: Mapping[str, Any]) -> str:
    """Return the question as Markdown."""
    shape, text = report["shape"], report["text"]
    heading = (
        f"Encoder, {shape['num_layers']} layers, {shape['model_dim']} wide, masked words: {text['texts_a_batch']} "
        f"texts and {text['tokens_a_batch']:,} tokens a batch, {text['padding']:.1%} padding for all but the Trainer. "
        f"{len(next(iter(report['replies'].values()), []))} rounds."
    )
    rows = [line.replace("target tokens/s", "tokens/s") for line in training_rows(report)]
    return "\n".join([heading, "", *rows])


def main() -> None:
    """Measure, and print the table."""
    options = question_parser(__doc__, 15).parse_args()
    print_report(options, measure(options), table)


if __name__ == "__main__":
    serve(_prepare) if serving() else main()
