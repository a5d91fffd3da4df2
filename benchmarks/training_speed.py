"""How fast is a Transformer trained: trasluz beside transformers' MarianMTModel and torch.nn.Transformer.

    TRASLUZ_DATA=... python benchmarks/training_speed.py --minutes 15

3 + 3 layers, 256 wide, feed-forward 1,024, 4 heads, vocabulary 8,000, one tied matrix; label smoothing 0.1, dropout
0.1, Adam, clipping. All train on the same batches in the same order, bucketed by length, at most 4,096 padded places a
side. trasluz is what `trasluz train` runs, data, clipping and reports included, with no environment variable set; the
peers run in a plain loop with fused AdamW, each as it is and with glibc's allocator told to keep its buffers, in fp32
and in bf16 autocast. In eight bits, trasluz makes two thirds of its layers' products so, and the gradients of weights
in bf16; its share is of products in eight bits. A turn is some updates; its speed counts target tokens that are no
padding.
"""

import math
import tempfile
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
)
from machine_limits import LIMITS, sentence, share
from training_batches import (
    DROPOUT,
    SMOOTHING,
    VOCAB_SIZE,
    batches,
    our_precisions,
    peer_turns,
    prepare_text,
    trasluz_turns,
)

SCRIPT = "training_speed.py"
SHAPE = {"dim": 256, "feed_forward": 1_024, "heads": 4, "layers": 3}
DIM, FEED_FORWARD, HEADS, LAYERS = SHAPE.values()
UPDATES_A_TURN = 4


def gflop_a_target_token(source_tokens: float, shape: Mapping[str, int] = SHAPE) -> float:
    """Return the operations of one update for each target token, from the shapes of the matrices alone.

    Two for each weight a token meets, forward; twice that again backward. Scores of attention are left out: short
    sentences make them 1 %.
    """
    dim, layers = shape["dim"], shape["layers"]
    attention, feed_forward = 4 * dim * dim, 2 * dim * shape["feed_forward"]
    encoder = layers * (attention + feed_forward)
    # Of the attention over the source, keys and values are made once a source token.
    keys_and_values = layers * 2 * dim * dim
    decoder = layers * (2 * attention + feed_forward) - keys_and_values + dim * VOCAB_SIZE
    return 6 * (source_tokens * (encoder + keys_and_values) + decoder) / 1e9


def contenders(settings: Mapping[str, Any]) -> list[Contender]:
    """Return all that take part."""

    def one(kind: str, name: str, precision: str, packages: tuple[str, ...], **other: Any) -> Contender:
        told = {**settings, "kind": kind, "precision": precision, **other.pop("told", {})}
        return Contender(f"{name}, {precision}", SCRIPT, told, precision, packages, **other)

    tuned = {"environment": ALLOCATOR}
    found = [one("trasluz", "trasluz", precision, ("trasluz",)) for precision in our_precisions()]
    found.append(without_kernels(one("trasluz", "trasluz", "bf16", ("trasluz",))))
    found.append(one("marian", "transformers", "fp32", ("transformers",), told={"attention": "sdpa"}))
    for precision in ("fp32", "bf16"):
        for attention in ("sdpa", "eager"):
            name = f"transformers, allocator, {attention}"
            found.append(one("marian", name, precision, ("transformers",), told={"attention": attention}, **tuned))
        found.append(one("torch", "torch.nn.Transformer, allocator", precision, ("torch",), **tuned))
    return found


def _prepare(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    if settings["kind"] == "trasluz":
        return trasluz_turns(settings, settings.get("model", f"{{preset: transformer-tiny, dropout: {DROPOUT}}}"))
    import torch

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    endless, ids = batches(settings)
    build = {"marian": _marian, "torch": _torch_transformer}[settings["kind"]]
    model, logits_of = build(settings, ids)

    def loss_of(batch: Any) -> Any:
        logits = logits_of(batch)
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(),
            batch.target_output.flatten(),
            ignore_index=ids["pad_id"],
            label_smoothing=SMOOTHING,
            reduction="sum",
        )

    return peer_turns(settings, model, loss_of, endless)


def _marian(settings: dict[str, Any], ids: Mapping[str, int]) -> tuple[Any, Callable[[Any], Any]]:
    from transformers import MarianConfig, MarianMTModel

    shape = settings.get("shape", SHAPE)
    config = MarianConfig(
        vocab_size=VOCAB_SIZE,
        d_model=shape["dim"],
        encoder_layers=shape["layers"],
        decoder_layers=shape["layers"],
        encoder_attention_heads=shape["heads"],
        decoder_attention_heads=shape["heads"],
        encoder_ffn_dim=shape["feed_forward"],
        decoder_ffn_dim=shape["feed_forward"],
        activation_function="relu",
        dropout=DROPOUT,
        scale_embedding=True,
        init_std=shape["dim"] ** -0.5,
        max_position_embeddings=512,
        pad_token_id=ids["pad_id"],
        decoder_start_token_id=ids["start_id"],
        eos_token_id=ids["eos_id"],
        attn_implementation=settings["attention"],
    )
    model = MarianMTModel(config).to(settings.get("device", "cpu"))

    def logits_of(batch: Any) -> Any:
        return model(
            input_ids=batch.source,
            attention_mask=_real(batch.source_lengths, batch.source.shape[1]),
            decoder_input_ids=batch.target_input,
            use_cache=False,
        ).logits

    return model, logits_of


def _torch_transformer(settings: dict[str, Any], ids: Mapping[str, int]) -> tuple[Any, Callable[[Any], Any]]:
    """Return PyTorch's own layers with the least around them: tied scaled embeddings and sinusoids."""
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(VOCAB_SIZE, DIM)
            nn.init.normal_(self.embedding.weight, std=DIM**-0.5)
            self.layers = nn.Transformer(
                DIM, HEADS, LAYERS, LAYERS, FEED_FORWARD, DROPOUT, activation="relu", batch_first=True
            )
            places = torch.arange(512)[:, None] * 10_000 ** (-torch.arange(0, DIM, 2) / DIM)
            self.register_buffer("positions", torch.cat([places.sin(), places.cos()], dim=-1))
            self.dropout = nn.Dropout(DROPOUT)

        def embed(self, tokens: torch.Tensor) -> torch.Tensor:
            scaled = self.embedding(tokens) * math.sqrt(DIM)
            return self.dropout(scaled + self.positions[: tokens.shape[1]])

        def forward(self, batch: Any) -> torch.Tensor:
            padding = ~_real(batch.source_lengths, batch.source.shape[1])
            length = batch.target_input.shape[1]
            causal = torch.ones(length, length, dtype=torch.bool).triu(1)
            hidden = self.layers(
                self.embed(batch.source),
                self.embed(batch.target_input),
                tgt_mask=causal,
                src_key_padding_mask=padding,
                memory_key_padding_mask=padding,
                tgt_is_causal=True,
            )
            return nn.functional.linear(hidden, self.embedding.weight)

    model = Model()
    return model, model


def _real(lengths: Any, width: int) -> Any:
    import torch

    return torch.arange(width, device=lengths.device) < lengths[:, None]


def measure(options: Any) -> dict[str, Any]:
    """Let all train in turns."""

    def costs(taking_part: list[Contender], source_tokens: float) -> dict[str, Any]:
        return {"cost": {"gflop": gflop_a_target_token(source_tokens)}}

    return measure_training(SCRIPT, options, "a Transformer", contenders, costs)


def measure_training(
    script: str,
    options: Any,
    what: str,
    contenders: Callable[[Mapping[str, Any]], list[Contender]],
    costs: Callable[[list[Contender], float], dict[str, Any]],
    warm_up: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Let contenders train in turns; `costs` says what a target token costs them, by the source tokens beside it.

    Where all together hold more than there is, they give back between turns, and have a `warm_up` before each.
    """
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        settings = {"work": name, "seed": options.seed, "threads": threads_of(options)}
        say(f"training {what}")
        text = prepare_text(Path(name), options.seed)
        taking_part = chosen(options, contenders(settings), notes)
        limits = Contender(LIMITS.name, LIMITS.script, {"threads": threads_of(options)})
        with Contest([*taking_part, limits], warm_up) as contest:
            request = {"updates": 1 if options.quick else UPDATES_A_TURN}
            least = 2 if options.quick else 5
            replies = contest.rounds(request, 0 if options.quick else options.minutes, least)
            notes += contest.notes
    of_tokens = costs(taking_part, text["source_tokens_a_target_token"])
    return report_of(script, options, taking_part, notes, text=text, replies=replies, **of_tokens)


def training_rows(report: Mapping[str, Any]) -> list[str]:
    """Return the rows of a table of training, fastest first, and the sentences that compare."""
    replies = report["replies"]
    limits = replies.get(LIMITS.name, [])
    known = {one["name"]: one for one in report["contenders"]}
    rates = {name: [speed(reply) for reply in found] for name, found in replies.items() if name in known}
    lines = [
        "| | target tokens/s | MFLOP a token | share of the matrix-product limit | peak memory, MB | last loss |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted(rates, key=lambda name: -Spread.of(rates[name]).median):
        found = replies[name]
        cost = report["costs"][name] if "costs" in report else report["cost"]
        shares = [
            part
            for rate, limit in zip(rates[name], limits, strict=False)
            if (part := share(rate, cost, limit, known[name]["precision"])) is not None
        ]
        part = f"{Spread.of(shares).median:.0%}" if shares else "-"
        marked = f"**{name}**" if known[name]["ours"] else name
        peak, loss = found[-1]["peak_mb"], found[-1]["loss"]
        lines.append(
            f"| {marked} | {Spread.of(rates[name])} | {cost['gflop'] * 1e3:.0f} | {part} | {peak:,.0f} | {loss:.2f} |"
        )
    lines += ["", *comparisons(rates, list(known.values()))]
    if limits:
        lines += ["", sentence(limits)]
    return lines


def comparisons(rates: Mapping[str, list[float]], known: list[dict[str, Any]]) -> list[str]:
    """Say how many times as fast trasluz is as the best peer, at any precision and in fp32."""
    said: dict[tuple[str, str], str] = {}
    for what, wanted in (("", ("fp32", "bf16", "int8")), (" in fp32", ("fp32",))):
        ours = fastest(rates, [one["name"] for one in known if one["ours"] and one["precision"] in wanted])
        theirs = fastest(
            rates,
            [one["name"] for one in known if not one["ours"] and one["compared"] and one["precision"] in wanted],
        )
        if ours and theirs:
            times = ratio(rates[ours], rates[theirs])
            said.setdefault((ours, theirs), f"{ours}, beside the best peer{what}, {theirs}: {times} times as fast.")
    return list(said.values())


def training_heading(report: Mapping[str, Any], what: str) -> str:
    """Return the sentence above a table of training."""
    text = report["text"]
    return (
        f"{what}: {text['text']}; {text['sentences_a_batch']} sentences and {text['target_tokens_a_batch']:,} target "
        f"tokens a batch, {text['padding']:.1%} padding for all. "
        f"{len(next(iter(report['replies'].values()), []))} rounds."
    )


def table(report: Mapping[str, Any]) -> str:
    """Return the question as Markdown."""
    return "\n".join([training_heading(report, "Transformer, 3 + 3 layers, 256 wide"), "", *training_rows(report)])


def main() -> None:
    """Measure, and print the table."""
    options = question_parser(__doc__, 15).parse_args()
    print_report(options, measure(options), table)


if __name__ == "__main__":
    serve(_prepare) if serving() else main()
