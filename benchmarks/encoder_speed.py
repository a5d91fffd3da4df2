"""How fast does an encoder read: trasluz beside transformers, sentence-transformers and ONNX Runtime, same weights.

    python benchmarks/encoder_speed.py --minutes 10

6 layers, 384 wide, 12 heads, vocabulary 30,522, random weights; texts of made-up words with log-normal lengths, 40
tokens in the mean and at most 128. A turn turns 512 texts into vectors (the means of their states, of length 1), and
everybody works through them sorted by length: trasluz and sentence-transformers from the text on, as their users do,
the others from ready ids, in batches of 32. trasluz and ONNX Runtime know int8; its optimizer of transformers and its
quantizer make the peer's.

How near the vectors are to those of transformers in fp32 is shown: the greatest difference of a number in fp32, the
least cosine in less.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from alternate import (
    ALLOCATOR,
    Contender,
    Contest,
    Reply,
    Spread,
    chosen,
    fastest,
    print_report,
    question_parser,
    ratio,
    report_of,
    say,
    serve,
    serving,
    speed,
    threads_of,
    without_kernels,
    write_first,
)
from encoder_folder import MEAN_LENGTH, SMALL, TINY, TINY_VOCAB_SIZE, VOCAB_SIZE, texts, write_encoder_folder
from machine_limits import LIMITS, sentence, share

SCRIPT = "encoder_speed.py"
TEXTS_A_TURN = 512
BATCH = 32
REFERENCE = "transformers, fp32"


def gflop_a_token(shape: Mapping[str, int]) -> float:
    """Return the operations for each token, from the shapes of the matrices and the mean length."""
    dim = shape["model_dim"]
    layer = 4 * dim * dim + 2 * dim * shape["feed_forward_dim"] + 2 * dim * MEAN_LENGTH
    return 2 * shape["num_layers"] * layer / 1e9


def contenders(settings: Mapping[str, Any]) -> list[Contender]:
    """Return all that take part."""

    def one(kind: str, precision: str, name: str, package: str, **other: Any) -> Contender:
        told = {**settings, "kind": kind, "precision": precision}
        return Contender(f"{name}, {precision}", SCRIPT, told, precision, (package,), **other)

    found = [one("trasluz", precision, "trasluz", "trasluz") for precision in ("fp32", "bf16", "int8")]
    found.append(without_kernels(one("trasluz", "bf16", "trasluz", "trasluz")))
    for precision in ("fp32", "bf16"):
        tuned = {"environment": ALLOCATOR}
        found.append(one("transformers", precision, "transformers", "transformers", **tuned))
        found.append(one("sentence-transformers", precision, "sentence-transformers", "sentence-transformers", **tuned))
    return found + [one("onnxruntime", precision, "ONNX Runtime", "onnxruntime") for precision in ("fp32", "int8")]


Embed = Callable[[list[str]], Any]


def _prepare(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    work = Path(settings["work"])
    writes = {
        "write": lambda: write_encoder_folder(
            work / "encoder", settings["shape"], settings["vocab_size"], settings["seed"]
        ),
        "convert for onnxruntime": lambda: _export(work),
    }
    if settings["kind"] in writes:
        writes[settings["kind"]]()
        return lambda _: {}
    kinds: dict[str, Callable[[Path, dict[str, Any]], Embed]] = {
        "trasluz": _trasluz,
        "transformers": _transformers,
        "sentence-transformers": _sentence_transformers,
        "onnxruntime": _onnxruntime,
    }
    embed = kinds[settings["kind"]](work, settings)

    def turn(request: dict[str, Any]) -> Reply:
        some = texts(settings["texts"], settings["vocab_size"], settings["seed"] + 1_000 * request["round"])
        start = time.perf_counter()
        vectors = embed(some)
        seconds = time.perf_counter() - start
        tokens = sum(len(text.split()) + 2 for text in some)
        return {"amount": tokens, "seconds": seconds, "vectors": [[float(x) for x in one] for one in vectors[:64]]}

    return turn


def _trasluz(work: Path, settings: dict[str, Any]) -> Embed:
    import trasluz
    from trasluz.devices import set_threads, tune_allocator

    # As the command line does before it loads a model.
    tune_allocator()
    set_threads(settings["threads"])
    embedder = trasluz.load(work / "encoder", task="embed", device="cpu", dtype=settings["precision"])
    return lambda some: embedder.vectors(some)


def _sentence_transformers(work: Path, settings: dict[str, Any]) -> Embed:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(settings["threads"])
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[settings["precision"]]
    model = SentenceTransformer(str(work / "encoder"), device="cpu", model_kwargs={"dtype": dtype})
    return lambda some: model.encode(
        some, batch_size=BATCH, show_progress_bar=False, convert_to_tensor=True, normalize_embeddings=True
    ).float()


def _batches(work: Path, some: list[str]) -> Iterator[tuple[list[int], Any]]:
    """Yield batches of texts sorted by length: their numbers, and ids with padding."""
    from transformers import AutoTokenizer

    global _tokenizer
    if _tokenizer is None:
        _tokenizer = AutoTokenizer.from_pretrained(work / "encoder")
    order = sorted(range(len(some)), key=lambda number: len(some[number]))
    for begin in range(0, len(order), BATCH):
        rows = order[begin : begin + BATCH]
        yield rows, _tokenizer([some[row] for row in rows], padding=True, return_tensors="pt")


_tokenizer: Any = None


def _pooled(hidden: Any, real: Any) -> Any:
    import torch

    weights = real[:, :, None].float()
    return torch.nn.functional.normalize((hidden.float() * weights).sum(1) / weights.sum(1))


def _with_states(work: Path, states: Callable[[Any], Any]) -> Embed:
    import torch

    def embed(some: list[str]) -> Any:
        found: Any = [None] * len(some)
        with torch.inference_mode():
            for rows, batch in _batches(work, some):
                for row, vector in zip(rows, _pooled(states(batch), batch["attention_mask"]), strict=True):
                    found[row] = vector
        return found

    return embed


def _transformers(work: Path, settings: dict[str, Any]) -> Embed:
    import torch
    from transformers import AutoModel

    torch.set_num_threads(settings["threads"])
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[settings["precision"]]
    model = AutoModel.from_pretrained(work / "encoder", dtype=dtype, attn_implementation="sdpa").eval()
    return _with_states(work, lambda batch: model(**batch).last_hidden_state)


def _export(work: Path) -> None:
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model
    from transformers import AutoModel

    model = AutoModel.from_pretrained(work / "encoder", attn_implementation="eager").eval()

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, real: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=ids, attention_mask=real, token_type_ids=segments).last_hidden_state

    some = torch.ones(2, 7, dtype=torch.long)
    names = ["ids", "real", "segments"]
    with torch.no_grad():
        torch.onnx.export(
            States(),
            (some, some, some - 1),
            str(work / "encoder-fp32.onnx"),
            input_names=names,
            output_names=["states"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in [*names, "states"]},
            opset_version=17,
            dynamo=False,
        )
    # It joins heads into one operator, and residuals with norms; the passes of the runtime are its session's.
    path = str(work / "encoder-fp32.onnx")
    heads, width = model.config.num_attention_heads, model.config.hidden_size
    optimized = optimize_model(path, model_type="bert", num_heads=heads, hidden_size=width, opt_level=0)
    optimized.save_model_to_file(path)
    quantize_dynamic(
        work / "encoder-fp32.onnx",
        work / "encoder-int8.onnx",
        weight_type=QuantType.QInt8,
        per_channel=True,
        # Of what comes out of a joined operator the quantizer does not know the type.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def _onnxruntime(work: Path, settings: dict[str, Any]) -> Embed:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    session = onnxruntime.InferenceSession(
        str(work / f"encoder-{settings['precision']}.onnx"), options, providers=["CPUExecutionProvider"]
    )

    def states(batch: Any) -> Any:
        given = {
            "ids": batch["input_ids"].numpy(),
            "real": batch["attention_mask"].numpy(),
            "segments": batch["token_type_ids"].numpy(),
        }
        return torch.from_numpy(session.run(["states"], given)[0])

    return _with_states(work, states)


def measure(options: Any) -> dict[str, Any]:
    """Let all read in turns."""
    notes: list[str] = []
    shape, vocab_size = (TINY, TINY_VOCAB_SIZE) if options.quick else (SMALL, VOCAB_SIZE)
    with tempfile.TemporaryDirectory() as name:
        settings = {
            "work": name,
            "shape": shape,
            "vocab_size": vocab_size,
            "seed": options.seed,
            "threads": threads_of(options),
            "texts": 64 if options.quick else TEXTS_A_TURN,
        }
        say("reading with an encoder; first the model is written for all")
        taking_part = chosen(options, contenders(settings), notes)
        for kind in ("write", "convert for onnxruntime"):
            if kind == "write" or any("onnxruntime" in one.packages for one in taking_part):
                write_first(kind, SCRIPT, settings, notes)
        limits = Contender(LIMITS.name, LIMITS.script, {"threads": threads_of(options)})
        with Contest([*taking_part, limits]) as contest:
            replies = contest.rounds({}, 0 if options.quick else options.minutes, 2 if options.quick else 5)
            notes += contest.notes
    near = _nearness(replies)
    for rounds in replies.values():
        for reply in rounds:
            reply.pop("vectors", None)
    cost = {"gflop": gflop_a_token(shape)}
    return report_of(SCRIPT, options, taking_part, notes, shape=shape, near=near, replies=replies, cost=cost)


def _nearness(replies: Mapping[str, list[Reply]]) -> dict[str, tuple[float, float]]:
    """Return each contender's greatest difference from the reference, and its least cosine."""
    import numpy as np

    found = {}
    for name, rounds in replies.items():
        pairs = [
            (np.array(mine["vectors"]), np.array(theirs["vectors"]))
            for mine, theirs in zip(rounds, replies.get(REFERENCE, []), strict=False)
            if "vectors" in mine
        ]
        if pairs:
            ours, theirs = (np.concatenate(side) for side in zip(*pairs, strict=True))
            # Vectors in bf16 are of length 1 only to within their rounding.
            lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
            found[name] = float(np.abs(ours - theirs).max()), float(((ours * theirs).sum(1) / lengths).min())
    return found


def table(report: Mapping[str, Any]) -> str:
    """Return the question as Markdown."""
    shape, replies = report["shape"], report["replies"]
    known = {one["name"]: one for one in report["contenders"]}
    rates = {name: [speed(reply) for reply in found] for name, found in replies.items() if name in known}
    limits = replies.get(LIMITS.name, [])
    lines = [
        f"Encoder, {shape['num_layers']} layers, {shape['model_dim']} wide, {TEXTS_A_TURN} texts of "
        f"{MEAN_LENGTH} tokens in the mean, sorted by length. {len(next(iter(replies.values()), []))} rounds.",
        "",
        f"| | tokens/s | share of the limit | peak memory, MB | greatest difference from {REFERENCE} | least cosine |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted(rates, key=lambda name: -Spread.of(rates[name]).median):
        shares = [
            part
            for rate, limit in zip(rates[name], limits, strict=False)
            if (part := share(rate, report["cost"], limit, known[name]["precision"])) is not None
        ]
        part = f"{Spread.of(shares).median:.0%}" if shares else "-"
        marked = f"**{name}**" if known[name]["ours"] else name
        peak, (difference, cosine) = replies[name][-1]["peak_mb"], report["near"].get(name, (float("nan"),) * 2)
        lines.append(
            f"| {marked} | {Spread.of(rates[name])} | {part} | {peak:,.0f} | {difference:.1e} | {cosine:.5f} |"
        )
    lines += [""]
    for what, wanted in (("in fp32", ("fp32",)), ("in less than fp32", ("bf16", "int8"))):
        ours, theirs = (
            fastest(
                rates,
                [name for name, one in known.items() if one["ours"] == own and one["precision"] in wanted],
            )
            for own in (True, False)
        )
        if ours and theirs:
            times = ratio(rates[ours], rates[theirs])
            lines.append(f"{ours}, beside the best peer {what}, {theirs}: {times} times as fast.")
    if limits:
        lines += ["", sentence(limits)]
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    options = question_parser(__doc__, 10).parse_args()
    print_report(options, measure(options), table)


if __name__ == "__main__":
    serve(_prepare) if serving() else main()
