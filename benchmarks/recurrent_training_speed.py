"""How fast is a recurrent model with attention trained: rnnsearch beside those of JoeyNMT, eole and OpenNMT-py.

    TRASLUZ_DATA=... python benchmarks/recurrent_training_speed.py --minutes 15

About 7.6 million parameters each, GRU cells, one bidirectional layer to read and one to write, what was looked at fed
back into the recurrence; vocabulary 8,000, one matrix for source, target and output; label smoothing 0.1, dropout 0.1,
Adam, clipping. Batches, turns and figures are those of training_speed.py. The peers' own models and losses run in a
plain loop with fused AdamW, the allocator told to keep its buffers; where they leave a choice that costs time, both are
shown. One row of eole has no attention inside the recurrence: a lesser model, shown but not compared with.

OpenNMT-py 3.5.1 wants a PyTorch below 2.3 and runs in an environment of its own, with PyTorch 2.2, which has no fused
AdamW for CPUs; `make bench-opennmt` makes it.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from alternate import (
    ALLOCATOR,
    HERE,
    Contender,
    Reply,
    print_report,
    question_parser,
    serve,
    serving,
    without_kernels,
)
from training_batches import (
    DROPOUT,
    SMOOTHING,
    VOCAB_SIZE,
    batches,
    fed_batches,
    our_precisions,
    peer_turns,
    trasluz_turns,
)
from training_speed import measure_training, training_heading, training_rows

SCRIPT = "recurrent_training_speed.py"
# Embedding and hidden size that make each 7.6 million parameters large, with one matrix for source, target and output.
# The peers can tie the output only where both sizes are equal; the operations of a target token come out alike.
SIZES = {"trasluz": (256, 440), "joeynmt": (392, 392), "eole": (480, 480), "OpenNMT-py": (480, 480)}
# Where `make bench-opennmt` puts the environment.
OPENNMT_VENV = Path(os.environ.get("BENCH_OPENNMT_VENV", HERE.parent / ".venv-bench-opennmt"))


def gflop_a_target_token(kind: str, source_tokens: float) -> float:
    """Return the operations of one update for each target token, from the shapes of the matrices alone.

    Two for each weight a token meets, forward; twice that again backward. Scores of attention are left out.
    """
    e, h = SIZES[kind]
    if kind == "trasluz":
        source = 2 * 3 * h * (e + h) + 2 * h * h
        target = 3 * h * (e + 3 * h) + h * h + 2 * e * (e + 3 * h)
    elif kind == "joeynmt":
        source = 2 * 3 * h * (e + h) + 2 * h * h
        target = 3 * h * (e + 2 * h) + h * h + 3 * h * h
    else:
        source = 3 * h * (e + h // 2)
        target = 3 * h * (e + 2 * h) + h * h + 2 * h * h
    return 6 * (source_tokens * source + target + e * VOCAB_SIZE) / 1e9


def contenders(settings: Mapping[str, Any]) -> list[Contender]:
    """Return all that take part."""

    def one(kind: str, name: str, told: Mapping[str, Any], precision: str, **other: Any) -> Contender:
        told = {**settings, "kind": kind, "precision": precision, **told}
        return Contender(f"{name}, {precision}", SCRIPT, told, precision, (kind,), **other)

    found = [one("trasluz", "trasluz rnnsearch", {}, precision) for precision in our_precisions()]
    found.append(without_kernels(one("trasluz", "trasluz rnnsearch", {}, "fp32")))
    for precision in ("fp32", "bf16"):
        found += [
            one("joeynmt", "JoeyNMT, additive attention", {"attention": "bahdanau"}, precision, environment=ALLOCATOR),
            one("joeynmt", "JoeyNMT, bilinear attention", {"attention": "luong"}, precision, environment=ALLOCATOR),
            one("eole", "eole, additive attention", {"attention": "mlp"}, precision, environment=ALLOCATOR),
            one("eole", "eole, bilinear attention", {"attention": "general"}, precision, environment=ALLOCATOR),
            one(
                "eole",
                "eole, attention outside the recurrence",
                {"attention": "general", "feeds": False},
                precision,
                environment=ALLOCATOR,
                compared=False,
            ),
            *(
                one(
                    "OpenNMT-py",
                    f"OpenNMT-py, {name} attention",
                    {"attention": attention, "feeder": sys.executable},
                    precision,
                    environment=ALLOCATOR,
                    python=str(OPENNMT_VENV / "bin/python"),
                    made_by="`make bench-opennmt` makes it",
                )
                for name, attention in (("additive", "mlp"), ("bilinear", "general"))
            ),
        ]
    return found


def _prepare(settings: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    if settings["kind"] == "trasluz":
        embedding, hidden = SIZES["trasluz"]
        return trasluz_turns(
            settings,
            f"{{preset: rnnsearch, embedding_dim: {embedding}, readout_dim: {embedding}, hidden_dim: {hidden}, "
            f"attention_dim: {hidden}, share_embeddings: true, dropout: {DROPOUT}}}",
        )
    import torch

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    endless, ids = (fed_batches if "feeder" in settings else batches)(settings)
    build = {"joeynmt": _joeynmt, "eole": _eole, "OpenNMT-py": _opennmt}[settings["kind"]]
    model, loss_of = build(settings, ids)
    return peer_turns(settings, model, loss_of, endless)


def _joeynmt(settings: dict[str, Any], ids: Mapping[str, int]) -> tuple[Any, Callable[[Any], Any]]:
    from joeynmt.model import build_model

    indices = {"unk": 3, "pad": ids["pad_id"], "bos": ids["start_id"], "eos": ids["eos_id"]}

    class Vocabulary(SimpleNamespace):
        def __len__(self) -> int:
            return VOCAB_SIZE

        def lookup(self, token: str) -> int:
            return indices[token]

    vocabulary = Vocabulary(specials=list(indices), lang_tags=[], sep_index=None)
    for name, index in indices.items():
        setattr(vocabulary, f"{name}_index", index)
    embedding, hidden = SIZES["joeynmt"]
    side = {
        "rnn_type": "gru",
        "embeddings": {"embedding_dim": embedding, "dropout": DROPOUT},
        "hidden_size": hidden,
        "num_layers": 1,
        "dropout": DROPOUT,
    }
    model = build_model(
        {
            "tied_embeddings": True,
            "tied_softmax": True,
            "encoder": {"type": "recurrent", "bidirectional": True, **side},
            "decoder": {
                "type": "recurrent",
                "attention": settings["attention"],
                "input_feeding": True,
                "init_hidden": "bridge",
                "hidden_dropout": DROPOUT,
                **side,
            },
        },
        vocabulary,
        vocabulary,
    )
    model.loss_function = ("crossentropy", SMOOTHING)
    pad_id = ids["pad_id"]

    def loss_of(batch: Any) -> Any:
        # Its encoder wants the longest source first.
        order = batch.source_lengths.argsort(descending=True)
        source, target = batch.source[order], batch.target_output[order]
        return model(
            return_type="loss",
            src=source,
            src_length=batch.source_lengths[order],
            src_mask=(source != pad_id)[:, None],
            trg_input=batch.target_input[order],
            trg=target,
            trg_mask=(target != pad_id)[:, None],
        )[0]

    return model, loss_of


def _eole(settings: dict[str, Any], ids: Mapping[str, int]) -> tuple[Any, Callable[[Any], Any]]:
    import torch
    from eole.config.models import RnnDecoderConfig, RnnEncoderConfig
    from eole.decoders.rnn_decoder import InputFeedRNNDecoder, StdRNNDecoder
    from eole.encoders.rnn_encoder import RNNEncoder
    from eole.models.model import EncoderDecoderModel
    from eole.modules.embeddings import Embeddings

    (width, hidden), pad_id = SIZES["eole"], ids["pad_id"]
    running = SimpleNamespace(dropout=[DROPOUT])
    embedding = Embeddings(
        word_vec_size=width,
        word_vocab_size=VOCAB_SIZE,
        word_padding_idx=pad_id,
        position_encoding_type=None,
        dropout=DROPOUT,
    )
    encoder = RnnEncoderConfig(
        encoder_type="brnn", rnn_type="GRU", layers=1, hidden_size=hidden, src_word_vec_size=width
    )
    decoder = RnnDecoderConfig(
        rnn_type="GRU",
        layers=1,
        hidden_size=hidden,
        tgt_word_vec_size=width,
        global_attention=settings["attention"],
        bidirectional_encoder=True,
    )
    kind = InputFeedRNNDecoder if settings.get("feeds", True) else StdRNNDecoder
    model = EncoderDecoderModel(
        encoder=RNNEncoder(encoder, running),
        decoder=kind(decoder, running),
        src_emb=embedding,
        tgt_emb=embedding,
        hidden_size=hidden,
    )
    model.generator = torch.nn.Linear(hidden, VOCAB_SIZE)
    model.generator.weight = embedding.embeddings.weight
    for parameter in model.parameters():
        # As it does where nothing else is asked for; its embeddings start as whatever stands in memory.
        torch.nn.init.uniform_(parameter, -0.1, 0.1)
    criterion = torch.nn.CrossEntropyLoss(ignore_index=pad_id, reduction="sum", label_smoothing=SMOOTHING)

    def loss_of(batch: Any) -> Any:
        # It shifts for itself: what it reads is all but the last token, and that it never looks at.
        target = torch.nn.functional.pad(batch.target_input, (0, 1), value=pad_id)
        hidden = model(batch.source, target, batch.source_lengths).dec_out
        return criterion(model.generator(hidden.flatten(0, 1)).float(), batch.target_output.flatten())

    return model, loss_of


def _opennmt(settings: dict[str, Any], ids: Mapping[str, int]) -> tuple[Any, Callable[[Any], Any]]:
    import torch
    from onmt.decoders import InputFeedRNNDecoder
    from onmt.encoders import RNNEncoder
    from onmt.models import NMTModel
    from onmt.modules import Embeddings

    (width, hidden), pad_id = SIZES["OpenNMT-py"], ids["pad_id"]
    embedding = Embeddings(word_vec_size=width, word_vocab_size=VOCAB_SIZE, word_padding_idx=pad_id, dropout=DROPOUT)
    encoder = RNNEncoder("GRU", True, 1, hidden, DROPOUT, embedding)
    decoder = InputFeedRNNDecoder(
        "GRU", True, 1, hidden, attn_type=settings["attention"], dropout=DROPOUT, embeddings=embedding
    )
    model = NMTModel(encoder, decoder)
    model.generator = torch.nn.Linear(hidden, VOCAB_SIZE)
    for parameter in model.parameters():
        # As it does where nothing else is asked for.
        torch.nn.init.uniform_(parameter, -0.1, 0.1)
    model.generator.weight = embedding.word_lut.weight
    criterion = torch.nn.CrossEntropyLoss(ignore_index=pad_id, reduction="sum", label_smoothing=SMOOTHING)

    def loss_of(batch: Any) -> Any:
        # It shifts for itself: what it reads is all but the last token, and that it never looks at.
        target = torch.nn.functional.pad(batch.target_input, (0, 1), value=pad_id)
        hidden, _ = model(batch.source[:, :, None], target[:, :, None], batch.source_lengths)
        return criterion(model.generator(hidden.flatten(0, 1)).float(), batch.target_output.flatten())

    return model, loss_of


def measure(options: Any) -> dict[str, Any]:
    """Let all train in turns."""

    def costs(taking_part: list[Contender], source_tokens: float) -> dict[str, Any]:
        return {
            "costs": {one.name: {"gflop": gflop_a_target_token(one.packages[0], source_tokens)} for one in taking_part}
        }

    return measure_training(SCRIPT, options, "a recurrent model", contenders, costs, warm_up={"updates": 1})


def table(report: Mapping[str, Any]) -> str:
    """Return the question as Markdown."""
    lines = [
        training_heading(report, "Recurrent models of some 7.6 million parameters"),
        "",
        *training_rows(report),
        "",
        "JoeyNMT reports a divergence from its smoothed targets, so that its loss lies lower by their entropy.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    options = question_parser(__doc__, 15).parse_args()
    print_report(options, measure(options), table)


if __name__ == "__main__":
    serve(_prepare) if serving() else main()
