"""Where does the time of training go: trasluz beside a peer, by what is computed.

    TRASLUZ_DATA=... python benchmarks/where_time_goes.py --threads 1

A Transformer, an encoder by masked words and a recurrent translator, of the same sizes and on the same batches as the
questions of speed. PyTorch's profiler watches some updates after one that does not count; what an operation takes
without those that it calls is put down to one part. Shares are of each program's own time: where one is faster, its
parts are shorter, too.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import masked_training_speed
import recurrent_training_speed
import training_speed
from alternate import Contender, Contest, Reply, say, speed
from training_batches import prepare_text

_UPDATES = 3

# What belongs to a part, by how the names of operations begin; the first that fits counts.
PARTS: dict[str, tuple[str, ...]] = {
    "matrix products": ("mkldnn::_linear_pointwise", "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "linear layers beside them: rounding, products in eight bits, biases, activations": (
        *("_Products", "_Activated", "aten::gelu", "aten::relu", "aten::clamp_min"),
        *("aten::threshold", "aten::native_dropout"),
    ),
    "attention": ("_TextAttention", "aten::_scaled_dot", "aten::_softmax", "aten::softmax", "aten::masked_fill"),
    "recurrences: cells, attention in the loop, products in eight bits": (
        "CompiledAttentive",
        "CompiledGRU",
        "CompiledLSTM",
    ),
    "norms, sums, dropout": ("_SumNorm", "_Sum", "_Dropout", "aten::native_layer_norm", "aten::bernoulli", "aten::add"),
    "loss": ("_ChunkedCrossEntropy", "aten::_log_softmax", "aten::nll", "aten::log_softmax"),
    "optimizer, clipping": ("aten::_fused_adam", "aten::linalg_vector_norm", "aten::_foreach", "Optimizer"),
    "copies, casts, new memory": ("aten::copy_", "aten::fill_", "aten::zero", "aten::empty", "aten::cat", "aten::_to"),
}
REST = "all else"


def part_of(name: str) -> str:
    """Return what an operation belongs to."""
    return next((part for part, begins in PARTS.items() if name.startswith(begins)), REST)


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Give what will hold the milliseconds of each part of what is done inside."""
    from torch.profiler import ProfilerActivity, profile

    times = dict.fromkeys([*PARTS, REST], 0.0)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        yield times
    for event in profiler.key_averages():
        times[part_of(event.key)] += event.self_cpu_time_total / 1e3


Prepare = Callable[[Path, Mapping[str, Any]], Mapping[str, Any]]


def _text(work: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    prepare_text(work, settings["seed"])
    return {}


def _masked(work: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    vocab_size = masked_training_speed.VOCAB_SIZE
    masked_training_speed.write_texts(work, vocab_size, 3_000, settings["seed"])
    return {"shape": masked_training_speed.SMALL, "vocab_size": vocab_size}


# What is trained, the question that trains it, how its text is made, and who takes part beside trasluz.
QUESTIONS: tuple[tuple[str, Any, Prepare, str], ...] = (
    ("Transformer, 3 + 3 layers, 256 wide", training_speed, _text, "transformers, allocator, eager"),
    ("Encoder, 6 layers, 384 wide, masked words", masked_training_speed, _masked, "BertForMaskedLM, allocator"),
    ("Recurrent translator, additive attention", recurrent_training_speed, _text, "JoeyNMT, additive attention"),
)


def measure(options: argparse.Namespace) -> list[tuple[str, dict[str, list[Reply]]]]:
    """Return, of each question, everybody's turns."""
    found = []
    for title, module, prepare, peer in QUESTIONS:
        say(title)
        with tempfile.TemporaryDirectory() as name:
            settings: dict[str, Any] = {"work": name, "seed": options.seed, "threads": options.threads}
            settings |= prepare(Path(name), settings)
            taking_part = [one for one in module.contenders(settings) if _is_wanted(one, peer, options.precisions)]
            with Contest(taking_part) as contest:
                replies = contest.rounds({"updates": _UPDATES, "watch": True}, 0, 1)
                for note in contest.notes:
                    say(note)
            found.append((title, replies))
    return found


def _is_wanted(one: Contender, peer: str, precisions: list[str]) -> bool:
    is_plain = one.ours and not one.settings.get("without_kernels")
    return one.precision in precisions and (is_plain or one.name.startswith(peer))


def table(title: str, replies: Mapping[str, list[Reply]]) -> str:
    """Return the shares of a question's time as Markdown."""
    names = list(replies)
    times = {name: replies[name][0]["times"] for name in names}
    lines = [
        f"| {title} | {' | '.join(names)} |",
        f"|---{'|---' * len(names)}|",
        f"| tokens a second | {' | '.join(f'{speed(replies[name][0]):,.0f}' for name in names)} |",
    ]
    for part in [*PARTS, REST]:
        shares = [times[name][part] / sum(times[name].values()) for name in names]
        if max(shares) >= 0.001:
            lines.append(f"| {part} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads (1: nobody waits for another)")
    parser.add_argument("--precisions", nargs="+", default=["bf16", "int8"], help="fp32, bf16, int8 (bf16 int8)")
    parser.add_argument("--seed", type=int, default=1)
    for title, replies in measure(parser.parse_args()):
        print(table(title, replies), end="\n\n")


if __name__ == "__main__":
    main()
