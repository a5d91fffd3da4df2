"""How fast is a text continued: trasluz beside transformers and CTranslate2, with the same weights.

    python benchmarks/generation_speed.py --minutes 15 --threads 1

A GPT of GPT-2's smallest shape (12 layers, 768 wide, vocabulary 50,257) with random weights of large spread, written
once and read by all. One prompt of 8 tokens, other ones each round; greedily 256 tokens more, one after the other, with
whatever cache an engine has. A turn is one text. At one text at a time every weight is read once a token and used once,
so reading memory is the limit; how fast it is read is measured in the same rounds. What counts as read is all weights
once a token; what of them a cache still holds is not read from memory, which shows most in int8.

How many tokens equal those of transformers is shown for fp32: that is the proof that all do the same work. A random
model has nothing that brings it back once a token differs, so rounding to int8 shows from the first near tie on.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
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
from gpt_folder import SMALL, TINY, num_weights, write_gpt_folder
from machine_limits import LIMITS, sentence

SCRIPT = "generation_speed.py"
PROMPT_TOKENS, NEW_TOKENS = 8, 256
REFERENCE = "transformers, fp32"
_BYTES = {"fp32": 4, "int8": 1}


def contenders(settings: Mapping[str, Any]) -> list[Contender]:
    """Return all that take part."""

    def one(kind: str, precision: str, name: str = "", **other: Any) -> Contender:
        told = {**settings, "kind": kind, "precision": precision}
        return Contender(f"{name or kind}, {precision}", SCRIPT, told, precision, (kind,), **other)

    return [
        *(one("trasluz", precision) for precision in ("fp32", "int8")),
        without_kernels(one("trasluz", "int8")),
        one("transformers", "fp32", environment=ALLOCATOR),
        *(one("ctranslate2", precision, "CTranslate2") for precision in ("fp32", "int8")),
    ]


def prompt(vocab_size: int, seed: int) -> list[int]:
    """Return a text to go on with; its pieces are pairs of bytes, and none is the end."""
    import random

    draw = random.Random(seed)
    return [draw.randrange(vocab_size // 2, vocab_size - 1) for _ in range(PROMPT_TOKENS)]


Continue = Callable[[list[int]], list[int]]


def _prepare(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    work = Path(settings["work"])
    writes = {
        "write": lambda: write_gpt_folder(work / "gpt", settings["shape"], settings["seed"]),
        "convert for ctranslate2": lambda: _convert(work),
    }
    if settings["kind"] in writes:
        writes[settings["kind"]]()
        return lambda _: {}
    kinds = {"trasluz": _trasluz, "transformers": _transformers, "ctranslate2": _ctranslate2}
    continue_text = kinds[settings["kind"]](work, settings)

    def turn(request: dict[str, Any]) -> Reply:
        ids = prompt(settings["shape"]["vocab_size"], settings["seed"] + 1_000 * request["round"])
        start = time.perf_counter()
        found = continue_text(ids)
        seconds = time.perf_counter() - start
        if len(found) != settings["steps"]:
            raise RuntimeError(f"{len(found)} tokens in place of {settings['steps']}")
        return {"amount": len(found), "seconds": seconds, "ids": found}

    return turn


def _trasluz(work: Path, settings: dict[str, Any]) -> Continue:
    import torch

    import trasluz
    from trasluz.decoding.sampling import Sampling, SamplingSettings, generator_of
    from trasluz.decoding.settings import NO_END, DecodingTokens
    from trasluz.devices import set_threads, tune_allocator

    # As the command line does before it loads a model.
    tune_allocator()
    set_threads(settings["threads"])
    generator = trasluz.load(work / "gpt", device="cpu", dtype=settings["precision"])
    greedy, tokens = SamplingSettings(temperature=0.0), DecodingTokens(0, NO_END)

    def continue_text(ids: list[int]) -> list[int]:
        source = torch.tensor([ids])
        sampling = Sampling(generator.model, source, greedy, tokens, [generator_of(1, 0)], settings["steps"])
        found = []
        while not sampling.is_over:
            found += [one.token for one in sampling.step()]
        return found

    return continue_text


def _transformers(work: Path, settings: dict[str, Any]) -> Continue:
    import torch
    from transformers import GenerationConfig, GPT2LMHeadModel

    torch.set_num_threads(settings["threads"])
    model = GPT2LMHeadModel.from_pretrained(work / "gpt").eval()
    end = model.config.eos_token_id
    wanted = GenerationConfig(
        do_sample=False,
        use_cache=True,
        min_new_tokens=settings["steps"],
        max_new_tokens=settings["steps"],
        eos_token_id=end,
        pad_token_id=end,
    )
    # What the folder says of searching would be laid over the settings that are not given.
    model.generation_config = wanted

    @torch.inference_mode()
    def continue_text(ids: list[int]) -> list[int]:
        source = torch.tensor([ids])
        found = model.generate(source, attention_mask=torch.ones_like(source), generation_config=wanted)
        new: list[int] = found[0, len(ids) :].tolist()
        return new

    return continue_text


def _convert(work: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    for precision, quantization in (("fp32", "float32"), ("int8", "int8")):
        converter = TransformersConverter(str(work / "gpt"))
        converter.convert(str(work / f"ctranslate2-{precision}"), quantization=quantization, force=True)


def _ctranslate2(work: Path, settings: dict[str, Any]) -> Continue:
    import json

    import ctranslate2

    precision, steps = settings["precision"], settings["steps"]
    generator = ctranslate2.Generator(
        str(work / f"ctranslate2-{precision}"),
        device="cpu",
        compute_type={"fp32": "float32", "int8": "int8"}[precision],
        inter_threads=1,
        intra_threads=settings["threads"],
    )
    ids = json.loads((work / "gpt" / "vocab.json").read_text(encoding="utf-8"))
    names = {index: name for name, index in ids.items()}

    def continue_text(prompt_ids: list[int]) -> list[int]:
        (result,) = generator.generate_batch(
            [[names[index] for index in prompt_ids]],
            beam_size=1,
            sampling_topk=1,
            min_length=steps,
            max_length=steps,
            include_prompt_in_result=False,
        )
        return list(result.sequences_ids[0])

    return continue_text


def measure(options: Any) -> dict[str, Any]:
    """Let all continue texts in turns."""
    notes: list[str] = []
    shape, steps = (TINY, 16) if options.quick else (SMALL, NEW_TOKENS)
    with tempfile.TemporaryDirectory() as name:
        settings = {"work": name, "shape": shape, "steps": steps, "seed": options.seed, "threads": threads_of(options)}
        say("generation; first the model is written for all")
        taking_part = chosen(options, contenders(settings), notes)
        write_first("write", SCRIPT, settings, notes)
        if any("ctranslate2" in one.packages for one in taking_part):
            write_first("convert for ctranslate2", SCRIPT, settings, notes)
        limits = Contender(LIMITS.name, LIMITS.script, {"threads": threads_of(options)})
        with Contest([*taking_part, limits]) as contest:
            minutes = 0 if options.quick else options.minutes
            replies = contest.rounds({}, minutes, 2 if options.quick else 3)
            notes += contest.notes
    same = _same_tokens(replies)
    for rounds in replies.values():
        for reply in rounds:
            reply.pop("ids", None)
    return report_of(SCRIPT, options, taking_part, notes, shape=shape, steps=steps, same=same, replies=replies)


def _same_tokens(found: Mapping[str, list[Reply]]) -> dict[str, float]:
    """Return each contender's share of tokens that equal the reference's; none where that is not there."""
    reference = found.get(REFERENCE)
    if reference is None:
        return {}
    return {
        name: statistics.mean(
            mine == other
            for ours, theirs in zip(rounds, reference, strict=False)
            for mine, other in zip(ours["ids"], theirs["ids"], strict=True)
        )
        for name, rounds in found.items()
        if "ids" in rounds[0]
    }


def table(report: Mapping[str, Any]) -> str:
    """Return the question as Markdown: speed, share of reading, memory and agreement."""
    shape, replies = report["shape"], report["replies"]
    rates = {name: [speed(reply) for reply in rounds] for name, rounds in replies.items() if name != LIMITS.name}
    limits = replies.get(LIMITS.name, [])
    lines = [
        f"GPT, {shape['num_layers']} layers, {shape['model_dim']} wide, vocabulary {shape['vocab_size']:,}; "
        f"{report['steps']} tokens behind {PROMPT_TOKENS}, one text at a time, {report['threads']} thread(s), "
        f"{min(map(len, rates.values()))} rounds:",
        "",
        "| | tokens a second | of reading | peak MB | tokens as transformers, fp32 |",
        "|---|---|---|---|---|",
    ]
    for one in report["contenders"]:
        name = one["name"]
        if not rates.get(name):
            continue
        gigabytes = num_weights(shape) * _BYTES[one["precision"]] / 1e9
        shares = [rate * gigabytes / limit["read"] for rate, limit in zip(rates[name], limits, strict=False)]
        same = report["same"].get(name) if one["precision"] == "fp32" else None
        cells = [
            f"**{name}**" if one["ours"] else name,
            str(Spread.of(rates[name])),
            f"{statistics.median(shares):.0%}" if shares else "-",
            f"{replies[name][-1]['peak_mb']:,.0f}",
            "-" if same is None else f"{same:.1%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for precision in ("fp32", "int8"):
        wanted = [one for one in report["contenders"] if one["precision"] == precision]
        ours = fastest(rates, [one["name"] for one in wanted if one["ours"]])
        theirs = fastest(rates, [one["name"] for one in wanted if not one["ours"]])
        if ours and theirs:
            lines.append(f"- {ours} / {theirs}: {ratio(rates[ours], rates[theirs])} times as fast")
    if limits:
        lines += ["", sentence(limits)]
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    options = question_parser(__doc__, 15).parse_args()
    print_report(options, measure(options), table)


if __name__ == "__main__":
    serve(_prepare) if serving() else main()
