"""How fast is trasluz on a GPU, beside transformers: training, its share of the bf16 peak, and translating.

    TRASLUZ_DATA=... python benchmarks/gpu_speed.py --minutes 30

Transformer-base and -big (vocabulary 8,000, batches of 25,000 target tokens, dropout 0.1) and BERT-base (masked words,
batches of 16,384 tokens) are trained in bf16 on the batches of training_speed.py and masked_training_speed.py, by the
programs those two use: trasluz as `trasluz train` runs it, the peers in a plain loop with fused AdamW and autocast. A
Marian model of base shape translates as in decoding_speed.py. A clock is read only when the GPU has done all it was
given. The peak is the best of many products of two square matrices of 8,192, measured in the same rounds. Beside what
trasluz takes stands what `trasluz plan` says of the same run, before it begins: memory, and tokens a second at its
usual 40 % of the peak.

Without a GPU it measures nothing; `--device cpu --tiny` runs all of it small, to see that it runs.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import decoding_speed
import masked_training_speed as masked
import training_speed
from alternate import (
    Contender,
    Contest,
    Reply,
    Spread,
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
    write_first,
)
from encoder_folder import MEAN_LENGTH, TINY_VOCAB_SIZE, VOCAB_SIZE
from encoder_folder import TINY as TINY_ENCODER
from marian_folder import BASE, TINY
from onnx_marian import BEAM
from training_batches import DROPOUT, finish, prepare_text, recipe
from training_batches import VOCAB_SIZE as VOCABULARY

SCRIPT = "gpu_speed.py"
PEAK = "the peak of products"
# Vaswani et al. 2017, table 3; Devlin et al. 2019, section 3.
TRANSFORMERS = {
    "Transformer-base": {"dim": 512, "feed_forward": 2_048, "heads": 8, "layers": 6},
    "Transformer-big": {"dim": 1_024, "feed_forward": 4_096, "heads": 16, "layers": 6},
}
TINY_TRANSFORMER = {"dim": 32, "feed_forward": 64, "heads": 2, "layers": 1}
BERT = {"model_dim": 768, "num_heads": 12, "feed_forward_dim": 3_072, "num_layers": 12}
TRANSLATION_TOKENS, ENCODER_TOKENS, TINY_TOKENS = 25_000, 16_384, 256
UPDATES_A_TURN = 10
# What `trasluz plan` reckons with where nothing else is said.
USUAL_SHARE = 0.4
BATCHES = (1, 16, 64, 256)


def refusal(options: argparse.Namespace) -> str | None:
    """Return why nothing can be measured here; None where something can."""
    import torch

    if options.device == "cpu":
        return None if options.quick else "gpu_speed.py measures GPUs; on a CPU it only runs small: --device cpu --tiny"
    if not torch.cuda.is_available():
        return "there is no CUDA device here; --device cpu --tiny runs everything small, to see that it runs"
    return None


def _prepare(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    """Be the peak: products of large matrices in the precision that the others train in."""
    import torch

    device, size = settings["device"], 128 if settings["tiny"] else 8_192
    dtype = torch.bfloat16 if settings["precision"] == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device

    @torch.inference_mode()
    def turn(_: dict[str, Any]) -> Reply:
        best = 0.0
        for _ in range(20):
            finish(device)
            start = time.perf_counter()
            for _ in range(5):
                left @ right
            finish(device)
            best = max(best, 5 * 2 * size**3 / 1e9 / (time.perf_counter() - start))
        return {"gflop_a_second": best, "device": name}

    return turn


def _pair(script: str, told: Mapping[str, Any], peer: str, precisions: tuple[str, ...]) -> list[Contender]:
    """Return trasluz and transformers, each in these precisions."""
    return [
        Contender(f"{name}, {precision}", script, {**told, "kind": kind, "precision": precision}, precision, (name,))
        for name, kind in (("trasluz", "trasluz"), ("transformers", peer))
        for precision in precisions
    ]


def _planned(recipe: Any, tokens_a_text: float, vocab_size: int) -> dict[str, float]:
    """Return what a plan says of a run over texts of so many tokens: MB, and operations for each token."""
    from trasluz.training.planned_run import planned_run

    run = planned_run(recipe, vocab_size, length=round(tokens_a_text))
    memory = run.memory_on(1, recipe.training.precision)
    return {"mb": memory.total() / 1e6, "gflop": 3 * run.forward_a_token / 1e9}


def _rounds(
    case: str, contenders: list[Contender], peak: Contender, request: Mapping[str, Any], options: Any, notes: list[str]
) -> dict[str, list[Reply]]:
    say(f" {case}")
    with Contest([*contenders, peak]) as contest:
        share = options.minutes / (len(TRANSFORMERS) + 2)
        found = contest.rounds(request, 0 if options.quick else share, 2 if options.quick else 5)
        notes += [f"{case}: {note}" for note in contest.notes]
    return found


def measure(options: Any) -> dict[str, Any]:
    """Let both take turns, case after case."""
    notes: list[str] = []
    tiny, training = options.quick, "fp32" if options.device == "cpu" else "bf16"
    told = {"seed": options.seed, "threads": threads_of(options), "device": options.device, "tiny": tiny}
    peak = Contender(PEAK, SCRIPT, {**told, "precision": training})
    request = {"updates": 1 if tiny else UPDATES_A_TURN}
    replies: dict[str, dict[str, list[Reply]]] = {}
    costs: dict[str, float] = {}
    planned: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        settings = {**told, "work": name, "batch_tokens": TINY_TOKENS if tiny else TRANSLATION_TOKENS}
        text = prepare_text(Path(name), options.seed, *([200] if tiny else []), batch_tokens=settings["batch_tokens"])
        for case, shape in TRANSFORMERS.items():
            shape = TINY_TRANSFORMER if tiny else shape
            model = (
                f"{{preset: transformer-base, model_dim: {shape['dim']}, num_heads: {shape['heads']}, "
                f"feed_forward_dim: {shape['feed_forward']}, num_layers: {shape['layers']}, dropout: {DROPOUT}}}"
            )
            of_case = {**settings, "shape": shape, "model": model, "attention": "sdpa"}
            costs[case] = training_speed.gflop_a_target_token(text["source_tokens_a_target_token"], shape)
            of_text = text["target_tokens_a_batch"] / text["sentences_a_batch"]
            planned[case] = _planned(recipe(of_case, model, training), of_text, VOCABULARY)
            both = _pair(training_speed.SCRIPT, of_case, "marian", (training,))
            replies[case] = _rounds(case, both, peak, request, options, notes)
    with tempfile.TemporaryDirectory() as name:
        shape, vocab_size = (TINY_ENCODER, TINY_VOCAB_SIZE) if tiny else (BERT, VOCAB_SIZE)
        masked.write_texts(Path(name), vocab_size, 200 if tiny else masked.TEXTS, options.seed)
        of_case = {**told, "work": name, "shape": shape, "vocab_size": vocab_size}
        of_case["batch_tokens"] = TINY_TOKENS if tiny else ENCODER_TOKENS
        planned["BERT-base"] = _planned(masked.recipe({**of_case, "precision": training}), MEAN_LENGTH, vocab_size)
        costs["BERT-base"] = masked.gflop_a_token(shape, vocab_size)
        both = _pair(masked.SCRIPT, of_case, "bert", (training,))
        replies["BERT-base"] = _rounds("BERT-base", both, peak, request, options, notes)
    decoding, decoders = _translate(options, told, notes)
    told = {"text": text, "costs": costs, "planned": planned, "replies": replies, "decoding": decoding}
    return report_of(SCRIPT, options, [*both, *decoders], notes, **told)


def _translate(
    options: Any, told: Mapping[str, Any], notes: list[str]
) -> tuple[dict[str, dict[str, list[Reply]]], list[Contender]]:
    cases = list(itertools.product((1, 2) if options.quick else BATCHES, (1, BEAM)))
    found: dict[str, dict[str, list[Reply]]] = {}
    with tempfile.TemporaryDirectory() as name:
        shape, steps = (TINY, 4) if options.quick else (BASE, 32)
        settings = {**told, "work": name, "shape": shape, "steps": steps}
        write_first("write", decoding_speed.SCRIPT, settings, notes)
        precisions = ("fp32",) if options.device == "cpu" else ("fp32", "bf16")
        contenders = _pair(decoding_speed.SCRIPT, settings, "transformers", precisions)
        say(" translating")
        with Contest(contenders) as contest:
            for batch, beam in cases:
                minutes = 0 if options.quick else options.minutes / (len(TRANSFORMERS) + 2) / len(cases)
                replies = contest.rounds({"beam": beam, "batch": batch}, minutes, 2 if options.quick else 3)
                for reply in itertools.chain.from_iterable(replies.values()):
                    reply.pop("ids")
                found[decoding_speed.case_name(beam, batch)] = replies
            notes += contest.notes
    return found, contenders


def table(report: Mapping[str, Any]) -> str:
    """Return the question as Markdown: training, then translating."""
    peaks = [reply for found in report["replies"].values() for reply in found.get(PEAK, [])]
    lines = [
        f"On {peaks[0]['device']}; peak of products {Spread.of([one['gflop_a_second'] / 1e3 for one in peaks])} "
        "TFLOP/s."
        if peaks
        else "The peak of products could not be measured.",
        "",
        "| training | | tokens/s | share of the peak | GPU memory, MB |",
        "|---|---|---|---|---|",
    ]
    for case, found in report["replies"].items():
        rates = {name: [speed(reply) for reply in replies] for name, replies in found.items() if name != PEAK}
        for name, values in rates.items():
            shares = [
                rate * report["costs"][case] / peak["gflop_a_second"]
                for rate, peak in zip(values, found.get(PEAK, []), strict=False)
            ]
            part = f"{Spread.of(shares).median:.0%}" if shares else "-"
            taken = [reply["gpu_mb"] for reply in found[name] if "gpu_mb" in reply]
            memory = f"{max(taken):,.0f}" if taken else "-"
            lines.append(f"| {case} | {name} | {Spread.of(values)} | {part} | {memory} |")
        plan, peak = report["planned"][case], [reply["gflop_a_second"] for reply in found.get(PEAK, [])]
        rate = f"{USUAL_SHARE * Spread.of(peak).median / plan['gflop']:,.0f}" if peak else "-"
        lines.append(f"| | as planned | {rate} | {USUAL_SHARE:.0%} | {plan['mb']:,.0f} |")
        lines.append(f"| | trasluz / transformers | {_times(rates)} | | |")
    lines += ["", "| translating, sentences/s | | |", "|---|---|---|"]
    for case, found in report["decoding"].items():
        rates = {name: [speed(reply) for reply in replies] for name, replies in found.items()}
        lines += [f"| {case} | {name} | {Spread.of(values)} |" for name, values in rates.items()]
        lines.append(f"| | trasluz's fastest / transformers' | {_times(rates)} |")
    return "\n".join(lines)


def _times(rates: Mapping[str, list[float]]) -> str:
    ours, theirs = (fastest(rates, [name for name in rates if name.startswith(kind)]) for kind in ("tras", "trans"))
    return str(ratio(rates[ours], rates[theirs])) if ours and theirs else "-"


def main() -> None:
    """Measure, and print the tables."""
    parser = question_parser(__doc__, 30)
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N; cpu only with --tiny")
    parser.add_argument("--tiny", action="store_true", dest="quick", help="the same as --quick")
    options = parser.parse_args()
    if why := refusal(options):
        sys.exit(why)
    print_report(options, measure(options), table)


if __name__ == "__main__":
    serve(_prepare) if serving() else main()
