"""What long texts cost: block-sparse attention beside full attention and beside transformers' BigBird, by length.

    python benchmarks/block_sparse_speed.py --minutes 15 --lengths 1024 2048 4096 8192 16384
    python benchmarks/block_sparse_speed.py --minutes 3 --lengths 1024 2048 4096 --dropout 0.1
    python benchmarks/block_sparse_speed.py --minutes 3 --lengths 65536 --layers 12 --forward-only

Two layers, or so many as are asked for, of BigBird's base size (768 wide, 12 heads, blocks of 64, 3 random ones), one
text, forward and backward, or forward alone, in fp32, with dropout on the weights of attention where it is asked for.
Full attention is trasluz's own. Peak memory is the process's after all turns of a length; each length has processes of
its own. transformers fills a square of all positions for every layer, and is left out where that alone would take more
than a quarter of the machine's memory.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from alternate import (
    ALLOCATOR,
    Contender,
    Contest,
    Reply,
    Spread,
    chosen,
    print_report,
    question_parser,
    ratio,
    report_of,
    say,
    serve,
    serving,
    speed,
    threads_of,
)

SCRIPT = "block_sparse_speed.py"
LENGTHS = (1024, 2048, 4096, 8192, 16384)
SPARSE, DENSE, PEER = "block-sparse", "full attention", "transformers, block_sparse"
SHAPE = {"model_dim": 768, "num_heads": 12, "feed_forward_dim": 3072}
TINY = {"model_dim": 32, "num_heads": 2, "feed_forward_dim": 64}


def contenders(length: int, settings: Mapping[str, Any], dense_up_to: int) -> list[Contender]:
    """Return who takes part at a length."""

    def one(kind: str, package: str, **other: Any) -> Contender:
        return Contender(kind, SCRIPT, {**settings, "kind": kind, "length": length}, "fp32", (package,), **other)

    found = [one(SPARSE, "trasluz")]
    if length <= dense_up_to:
        found.append(one(DENSE, "trasluz"))
    square = 4 * settings["shape"]["num_heads"] * length**2 * settings["shape"]["num_layers"]
    if square < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 4:
        found.append(one(PEER, "transformers", environment=ALLOCATOR))
    return found


def _prepare(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    import torch

    from trasluz.devices import tune_allocator

    shape, length = settings["shape"], settings["length"]
    if settings["kind"] != PEER:
        tune_allocator()
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    dropout = settings["dropout"]
    if settings["kind"] == PEER:
        forward = _transformers(shape, length, dropout)
    else:
        forward = _trasluz(shape, settings["kind"], dropout)

    def turn(_: dict[str, Any]) -> Reply:
        x = torch.randn(1, length, shape["model_dim"], requires_grad=not settings["forward_only"])
        start = time.perf_counter()
        with torch.set_grad_enabled(x.requires_grad):
            reached = forward(x).sum()
        if x.requires_grad:
            reached.backward()
        return {"amount": length, "seconds": time.perf_counter() - start}

    return turn


def _trasluz(shape: Mapping[str, int], kind: str, dropout: float) -> Callable[[Any], Any]:
    from trasluz.layers.masks import EVERYTHING
    from trasluz.models.registry import find_architecture, make_config, model_of

    attention = "block-sparse" if kind == SPARSE else "full"
    fields = {**shape, "vocab_size": 10, "attention": attention, "dropout": 0.0, "attention_dropout": dropout}
    model: Any = model_of(make_config(find_architecture("bigbird"), fields, "benchmark"))

    def forward(x: Any) -> Any:
        for block in model.blocks:
            x = block(x, EVERYTHING)
        return x

    return forward


def _transformers(shape: Mapping[str, int], length: int, dropout: float) -> Callable[[Any], Any]:
    import torch
    from transformers import BigBirdConfig, BigBirdModel

    config = BigBirdConfig(
        vocab_size=10,
        hidden_size=shape["model_dim"],
        num_attention_heads=shape["num_heads"],
        intermediate_size=shape["feed_forward_dim"],
        num_hidden_layers=shape["num_layers"],
        max_position_embeddings=length,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=dropout,
    )
    model = BigBirdModel(config, add_pooling_layer=False).train(dropout > 0)
    masks = BigBirdModel.create_masks_for_block_sparse_attn(torch.ones(1, length), config.block_size)
    names = ("blocked_encoder_mask", "band_mask", "from_mask", "to_mask")
    given = dict(zip(names, masks, strict=True))
    return lambda x: model.encoder(x, **given).last_hidden_state


def measure(options: Any) -> dict[str, Any]:
    """Let all take turns, length by length."""
    notes: list[str] = []
    shape = {**(TINY if options.quick else SHAPE), "num_layers": options.layers}
    settings = {
        "shape": shape,
        "threads": threads_of(options),
        "seed": options.seed,
        "dropout": options.dropout,
        "forward_only": options.forward_only,
    }
    lengths = [768, 1024] if options.quick else options.lengths
    by_length, everybody = {}, {}
    for length in lengths:
        taking_part = chosen(options, contenders(length, settings, options.dense_up_to), notes)
        everybody |= {one.name: one for one in taking_part}
        say(f"{length:,} tokens")
        with Contest(taking_part) as contest:
            minutes = 0 if options.quick else options.minutes / len(lengths)
            by_length[str(length)] = contest.rounds({}, minutes, 2 if options.quick else 3)
            notes += [f"{length:,} tokens: {note}" for note in contest.notes]
    return report_of(
        SCRIPT,
        options,
        list(everybody.values()),
        notes,
        shape=shape,
        by_length=by_length,
        forward_only=options.forward_only,
    )


def table(report: Mapping[str, Any]) -> str:
    """Return the question as Markdown."""
    names = [one["name"] for one in report["contenders"]]
    ways = "forward" if report.get("forward_only") else "forward and backward"
    lines = [
        f"{report['shape']['num_layers']} layers, {report['shape']['model_dim']} wide, {ways}: "
        "microseconds a token; peak memory in MB.",
        "",
        "| tokens | " + " | ".join(names) + " | sparse, beside full attention |",
        "|---" * (len(names) + 2) + "|",
    ]
    costs: dict[int, float] = {}
    for length, replies in report["by_length"].items():
        cells = []
        for name in names:
            found = replies.get(name, [])
            if not found:
                cells.append("-")
                continue
            cost = Spread.of([1e6 / speed(reply) for reply in found])
            cells.append(f"{cost}; {found[-1]['peak_mb']:,.0f} MB")
            if name == SPARSE:
                costs[int(length)] = cost.median
        rates = {name: [speed(reply) for reply in replies.get(name, [])] for name in names}
        times = f"{ratio(rates[SPARSE], rates[DENSE])} times as fast" if rates.get(DENSE) else "-"
        lines.append(f"| {int(length):,} | " + " | ".join(cells) + f" | {times} |")
    if {2048, 16384} <= set(costs):
        grown = costs[16384] / costs[2048]
        lines += ["", f"A token of a text of 16,384 costs {grown:.2f} times one of a text of 2,048, block-sparse."]
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = question_parser(__doc__, 15)
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--dense-up-to", type=int, default=8192, help="longest text for full attention")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--forward-only", action="store_true", help="no gradients")
    parser.add_argument("--dropout", type=float, default=0.0, help="share of the weights of attention")
    options = parser.parse_args()
    print_report(options, measure(options), table)


if __name__ == "__main__":
    serve(_prepare) if serving() else main()
