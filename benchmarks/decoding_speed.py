"""How fast does a model translate: trasluz beside transformers, CTranslate2 and ONNX Runtime, with the same weights.

    python benchmarks/decoding_speed.py --minutes 30

A Marian model of base shape (6 + 6 layers, 512 wide, feed-forward 2,048, vocabulary 32,000) with random weights of
large spread, written once and read by all. Sources of 32 tokens, targets of exactly 32; greedy search and a beam of 4;
1, 16 and 64 sentences at once. A turn is one batch, or four where a batch is one sentence, and different ones each
round. CTranslate2 takes part at two settings: all threads on one batch, and the batch in two halves beside each other
with half of the threads each, where there is more than one sentence and one thread. ONNX Runtime runs graphs that
PyTorch exports, with residual and norm joined by its optimizer of transformers, quantised by its own quantizer;
optimum, which would make them, does not know transformers 5. Memory is the most a process has held so far, loading
included, from the smallest case to the largest.

How many of the first 31 tokens equal those of transformers is shown for fp32: that is the proof that all do the same
work. (Our last token is the end, theirs one more word, so that a beam may choose another of nearly equal ones.) A
random model has nothing that brings it back once a token differs, so rounding to bf16 or int8 shows from the first near
tie on, and says nothing of what it costs a trained one.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
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
from machine_limits import LIMITS, sentence, share
from marian_folder import BASE, TINY, sources, write_marian_folder
from onnx_marian import BEAM, OnnxMarian, export
from training_batches import finish

SCRIPT = "decoding_speed.py"
SOURCE_TOKENS = 32
BATCHES = (1, 16, 64)
SENTENCES_A_TURN = 4
REFERENCE = "transformers, fp32"
HALVED = "CTranslate2, two halves at once"
_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}


def case_name(beam: int, batch: int) -> str:
    """Return how a case is called."""
    return f"{'greedy' if beam == 1 else f'beam {beam}'}, {batch}"


def cost(shape: Mapping[str, int], beam: int, batch: int, steps: int, precision: str) -> dict[str, float]:
    """Return what a sentence needs at least: operations, and weights read from memory."""
    dim, layers = shape["dim"], shape["layers"]
    encoder = layers * (4 * dim * dim + 2 * dim * shape["feed_forward"]) + layers * 2 * dim * dim
    decoder = layers * (6 * dim * dim + 2 * dim * shape["feed_forward"]) + dim * shape["vocab_size"]
    return {
        "gflop": 2 * (encoder * SOURCE_TOKENS + decoder * steps * beam) / 1e9,
        "gb": _BYTES[precision] * (encoder + decoder * steps) / batch / 1e9,
    }


def contenders(settings: Mapping[str, Any]) -> list[Contender]:
    """Return all that take part."""

    def one(
        kind: str, precision: str, name: str = "", told: Mapping[str, Any] = MappingProxyType({}), **other: Any
    ) -> Contender:
        told = {**settings, "kind": kind, "precision": precision, **told}
        return Contender(f"{name or kind}, {precision}", SCRIPT, told, precision, (kind,), **other)

    halved = [one("ctranslate2", precision, HALVED, {"halved": True}) for precision in ("fp32", "int8")]
    return [
        *(one("trasluz", precision) for precision in ("fp32", "bf16", "int8")),
        without_kernels(one("trasluz", "int8")),
        *(one("transformers", precision, environment=ALLOCATOR) for precision in ("fp32", "bf16")),
        *(one("ctranslate2", precision, "CTranslate2") for precision in ("fp32", "int8")),
        *(halved if settings["threads"] > 1 else ()),
        *(one("onnxruntime", precision, "ONNX Runtime") for precision in ("fp32", "int8")),
    ]


def _prepare(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    work = Path(settings["work"])
    writes = {
        "write": lambda: write_marian_folder(work / "marian", settings["shape"], settings["seed"]),
        "convert for ctranslate2": lambda: _convert(work),
        "convert for onnxruntime": lambda: export(work / "marian", work / "onnx"),
    }
    if settings["kind"] in writes:
        writes[settings["kind"]]()
        return lambda _: {}
    kinds = {
        "trasluz": _trasluz,
        "transformers": _transformers,
        "ctranslate2": _ctranslate2,
        "onnxruntime": _onnxruntime,
    }
    translate = kinds[settings["kind"]](work, settings)

    def turn(request: dict[str, Any]) -> Reply:
        beam, batch = request["beam"], request["batch"]
        count = max(batch, SENTENCES_A_TURN)
        texts = sources(
            count, SOURCE_TOKENS, settings["shape"]["vocab_size"], settings["seed"] + 1_000 * request["round"]
        )
        found, seconds = [], 0.0
        for begin in range(0, count, batch):
            some = texts[begin : begin + batch]
            start = time.perf_counter()
            targets = translate(some, beam)
            finish(settings.get("device", "cpu"))
            seconds += time.perf_counter() - start
            found += targets
        # The last token may be forced to be the end.
        return {"amount": count, "seconds": seconds, "ids": [ids[: settings["steps"] - 1] for ids in found]}

    return turn


Translate = Callable[[list[list[int]], int], list[list[int]]]


def _trasluz(work: Path, settings: dict[str, Any]) -> Translate:
    import torch

    import trasluz
    from trasluz.decoding.search import search
    from trasluz.decoding.settings import DecodingTokens, SearchSettings
    from trasluz.devices import set_threads, tune_allocator
    from trasluz.text.batching import pad_sequences

    # As the command line does before it loads a model.
    tune_allocator()
    set_threads(settings["threads"])
    device = settings.get("device", "cpu")
    translator = trasluz.load(work / "marian", device=device, dtype=settings["precision"])
    config, steps = translator.config, settings["steps"]
    tokens = DecodingTokens(config.start_id, config.eos_id)

    @torch.inference_mode()
    def translate(texts: list[list[int]], beam: int) -> list[list[int]]:
        source, lengths = pad_sequences([text[:-1] for text in texts], pad_id=config.pad_id, last_id=config.eos_id)
        wanted = SearchSettings(
            beam=beam, min_length_ratio=1.0, max_length_ratio=1.0, max_length=steps, at_limit="free-end"
        )
        found = search(translator.model, source.to(device), lengths.to(device), wanted, tokens)
        return [list(hypotheses[0].ids) for hypotheses in found]

    return translate


def _transformers(work: Path, settings: dict[str, Any]) -> Translate:
    import torch
    from transformers import GenerationConfig, MarianMTModel

    torch.set_num_threads(settings["threads"])
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[settings["precision"]]
    device = settings.get("device", "cpu")
    model = MarianMTModel.from_pretrained(work / "marian", dtype=dtype).eval().to(device)
    config, steps = model.config, settings["steps"]

    @torch.inference_mode()
    def translate(texts: list[list[int]], beam: int) -> list[list[int]]:
        source = torch.tensor(texts, device=device)
        wanted = GenerationConfig(
            num_beams=beam,
            do_sample=False,
            min_new_tokens=steps,
            max_new_tokens=steps,
            decoder_start_token_id=config.decoder_start_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        )
        # What the folder says of searching would be laid over the settings that are not given.
        model.generation_config = wanted
        found = model.generate(source, attention_mask=torch.ones_like(source), generation_config=wanted)
        targets: list[list[int]] = found[:, 1:].tolist()
        return targets

    return translate


def _convert(work: Path) -> None:
    from ctranslate2.converters import TransformersConverter

    for precision, quantization in (("fp32", "float32"), ("int8", "int8")):
        converter = TransformersConverter(str(work / "marian"))
        converter.convert(str(work / f"ctranslate2-{precision}"), quantization=quantization, force=True)


def _ctranslate2(work: Path, settings: dict[str, Any]) -> Translate:
    import ctranslate2

    precision, steps = settings["precision"], settings["steps"]
    workers = 2 if settings.get("halved") else 1
    translator = ctranslate2.Translator(
        str(work / f"ctranslate2-{precision}"),
        device="cpu",
        compute_type={"fp32": "float32", "int8": "int8"}[precision],
        # Two workers share one copy of the weights.
        inter_threads=workers,
        intra_threads=settings["threads"] // workers,
    )
    ids = json.loads((work / "marian" / "vocab.json").read_text(encoding="utf-8"))
    names = {index: name for name, index in ids.items()}

    def translate(texts: list[list[int]], beam: int) -> list[list[int]]:
        found = translator.translate_batch(
            [[names[index] for index in text] for text in texts],
            # It deals batches out, not sentences.
            max_batch_size=-(-len(texts) // workers),
            beam_size=beam,
            min_decoding_length=steps,
            max_decoding_length=steps,
        )
        return [[ids[name] for name in result.hypotheses[0]] for result in found]

    return translate


def _onnxruntime(work: Path, settings: dict[str, Any]) -> Translate:
    config = json.loads((work / "marian" / "config.json").read_text(encoding="utf-8"))
    model = OnnxMarian(work / "onnx", settings["precision"], settings["threads"], config)
    return lambda texts, beam: model.translate(texts, beam, settings["steps"])


def measure(options: Any) -> dict[str, Any]:
    """Let all translate in turns, one case after the other."""
    notes: list[str] = []
    shape, steps = (TINY, 8) if options.quick else (BASE, 32)
    with tempfile.TemporaryDirectory() as name:
        settings = {
            "work": name,
            "shape": shape,
            "steps": steps,
            "seed": options.seed,
            "threads": threads_of(options),
        }
        say("decoding; first the model is written for all")
        taking_part = chosen(options, contenders(settings), notes)
        for kind in ("write", "convert for ctranslate2", "convert for onnxruntime"):
            if kind == "write" or any(kind.endswith(one.packages[0]) for one in taking_part):
                write_first(kind, SCRIPT, settings, notes)
        limits = Contender(LIMITS.name, LIMITS.script, {"threads": threads_of(options)})
        # From small to large, so that the memory a case needs is what has been held so far.
        cases = [(beam, batch) for batch in sorted(options.batches) for beam in (1, BEAM)]
        replies: dict[str, dict[str, list[Reply]]] = {}
        with Contest([*taking_part, limits]) as contest:
            for beam, batch in cases:
                say(f" {case_name(beam, batch)}")
                minutes = 0 if options.quick else options.minutes / len(cases)
                request = {"beam": beam, "batch": batch}
                least = 2 if options.quick else 3
                # One sentence has no halves.
                left_out = {one.name for one in taking_part if batch == 1 and one.settings.get("halved")}
                replies[case_name(beam, batch)] = contest.rounds(request, minutes, least, left_out)
            notes += contest.notes
    same = {case: _same_tokens(found) for case, found in replies.items()}
    for found in replies.values():
        for rounds in found.values():
            for reply in rounds:
                reply.pop("ids", None)
    return report_of(
        SCRIPT, options, taking_part, notes, shape=shape, steps=steps, cases=cases, same=same, replies=replies
    )


def _same_tokens(found: Mapping[str, list[Reply]]) -> dict[str, float]:
    """Return each contender's share of tokens that equal the reference's; none where that is not there."""
    reference = found.get(REFERENCE)
    if reference is None:
        return {}
    shares = {}
    for name, rounds in found.items():
        pairs = [
            (ours, theirs)
            for mine, other in zip(rounds, reference, strict=False)
            if "ids" in mine
            for one, another in zip(mine["ids"], other["ids"], strict=True)
            for ours, theirs in zip(one, another, strict=False)
        ]
        if pairs:
            shares[name] = sum(ours == theirs for ours, theirs in pairs) / len(pairs)
    return shares


def table(report: Mapping[str, Any]) -> str:
    """Return the question as Markdown: speed, then memory, share of the limits and agreement."""
    cases = [case_name(beam, batch) for beam, batch in report["cases"]]
    known = [one["name"] for one in report["contenders"]]
    by_case = report["replies"]
    rates = {case: {name: [speed(reply) for reply in by_case[case].get(name, [])] for name in known} for case in cases}
    shape = report["shape"]
    rounds = [len(next(iter(by_case[case].values()), [])) for case in cases]
    lines = [
        f"Marian, {shape['layers']} + {shape['layers']} layers, {shape['dim']} wide, vocabulary "
        f"{shape['vocab_size']:,}, sources of {SOURCE_TOKENS} tokens, targets of {report['steps']}; sentences a second "
        f"by search and sentences at once, at least {min(rounds)} rounds each:",
        "",
        *_grid(
            cases,
            [
                (name, [str(Spread.of(rates[case][name])) if rates[case][name] else "-" for case in cases])
                for name in known
            ],
        ),
        *(
            _ratio_row(what, wanted, cases, rates, report["contenders"])
            for what, wanted in (("trasluz's fastest / the best peer", None), ("fp32 / the best peer in fp32", "fp32"))
        ),
        "",
        "Peak memory so far, MB:",
        "",
        *_grid(cases, [(name, [_peak(by_case[case].get(name)) for case in cases]) for name in known]),
        "",
        "Share of the machine's limit (of matrix products, or of reading the weights, whichever is larger):",
        "",
        *_grid(cases, [(one["name"], _shares(report, one)) for one in report["contenders"]]),
        "",
        f"Tokens that equal those of {REFERENCE}:",
        "",
        *_grid(
            cases,
            [
                (one["name"], [_percent(report["same"][case].get(one["name"])) for case in cases])
                for one in report["contenders"]
                if one["precision"] == "fp32" and one["name"] != REFERENCE
            ],
        ),
    ]
    limits = [reply for case in cases for reply in by_case[case].get(LIMITS.name, [])]
    if limits:
        lines += ["", sentence(limits)]
    return "\n".join(lines)


def _grid(cases: list[str], rows: list[tuple[str, list[str]]]) -> list[str]:
    head = [f"| | {' | '.join(cases)} |", "|---|" + "---|" * len(cases)]
    return head + [f"| {_marked(name)} | {' | '.join(cells)} |" for name, cells in rows]


def _marked(name: str) -> str:
    return f"**{name}**" if name.startswith("trasluz") else name


def _ratio_row(
    what: str, precision: str | None, cases: list[str], rates: Mapping[str, Any], known: list[dict[str, Any]]
) -> str:
    cells = []
    for case in cases:
        wanted = [one for one in known if precision in (None, one["precision"])]
        ours = fastest(rates[case], [one["name"] for one in wanted if one["ours"]])
        theirs = fastest(rates[case], [one["name"] for one in wanted if not one["ours"]])
        cells.append(str(ratio(rates[case][ours], rates[case][theirs])) if ours and theirs else "-")
    return f"| {what} | {' | '.join(cells)} |"


def _peak(replies: list[Reply] | None) -> str:
    return f"{replies[-1]['peak_mb']:,.0f}" if replies else "-"


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{part:.1%}"


def _shares(report: Mapping[str, Any], one: Mapping[str, Any]) -> list[str]:
    cells = []
    for beam, batch in report["cases"]:
        found = report["replies"][case_name(beam, batch)]
        needed = cost(report["shape"], beam, batch, report["steps"], one["precision"])
        parts = [
            part
            for reply, limit in zip(found.get(one["name"], []), found.get(LIMITS.name, []), strict=False)
            if (part := share(speed(reply), needed, limit, one["precision"])) is not None
        ]
        cells.append(f"{statistics.median(parts):.0%}" if parts else "-")
    return cells


def main() -> None:
    """Measure, and print the tables."""
    parser = question_parser(__doc__, 30)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), help="sentences at once (1 16 64)")
    options = parser.parse_args()
    print_report(options, measure(options), table)


if __name__ == "__main__":
    serve(_prepare) if serving() else main()
