"""How fast this machine trains and decodes: a quick look, without the peers that `make bench` measures beside.

    python benchmarks/speed.py --threads 2

Random weights and random sentences of everyday lengths; what is timed is the work, not the text. Prints Markdown.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

import trasluz
from trasluz.decoding.search import search
from trasluz.decoding.settings import DecodingTokens, SearchSettings
from trasluz.devices import set_threads, tune_allocator
from trasluz.models.registry import build_model
from trasluz.objectives.translation import TranslationObjective
from trasluz.text.batching import TranslationBatch, make_batch

VOCAB_SIZE = 8_000
# Sizes at which the three kinds are alike enough to stand in one table.
NARROW = {"embedding_dim": 256, "hidden_dim": 512, "readout_dim": 256}
MODELS: dict[str, str | dict[str, Any]] = {
    "transformer-tiny": "transformer-tiny",
    "rnnsearch, 512 wide": {"preset": "rnnsearch", "attention_dim": 512, **NARROW},
    "rnn-encdec, 512 wide": {"preset": "rnn-encdec", **NARROW},
}


def random_sentences(count: int, generator: torch.Generator) -> list[list[int]]:
    """Return sentences of 4 to 40 tokens, most of them short."""
    lengths = (4 + 36 * torch.rand(count, generator=generator) ** 2).long().tolist()
    return [torch.randint(4, VOCAB_SIZE, (length,), generator=generator).tolist() for length in lengths]


def batches(num_tokens: int, generator: torch.Generator) -> list[TranslationBatch]:
    """Return batches of like lengths, each near `num_tokens` padded target tokens."""
    sentences = sorted(random_sentences(4_000, generator), key=len)
    found, group = [], []
    for sentence in sentences:
        group.append(sentence)
        if len(group) * (len(sentence) + 1) >= num_tokens:
            found.append(make_batch(group, group, pad_id=0, start_id=1, eos_id=2))
            group = []
    return found


def median_rate(work: Callable[[], int], seconds: float) -> tuple[float, float, float]:
    """Return the median, lowest and highest rate (of what `work` counts, a second) over at least three rounds."""
    work()  # the first round also allocates
    rates: list[float] = []
    began = time.perf_counter()
    while len(rates) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        done = work()
        rates.append(done / (time.perf_counter() - start))
    return statistics.median(rates), min(rates), max(rates)


def training_round(model: Any, todo: list[TranslationBatch]) -> Callable[[], int]:
    """Return a round of updates that counts its target tokens."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=True)
    objective = TranslationObjective()

    def work() -> int:
        model.train()
        tokens = 0
        for batch in todo:
            loss = objective(model, batch)
            (loss.total / loss.count).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            tokens += loss.count
        return tokens

    return work


def decoding_round(model: Any, batch: TranslationBatch, beam: int) -> Callable[[], int]:
    """Return a search over one batch, to a fixed length, that counts its sentences."""
    settings = SearchSettings(beam=beam, min_length_ratio=1.0, max_length_ratio=1.0)
    tokens = DecodingTokens(start_id=1, eos_id=2)

    def work() -> int:
        model.eval()
        with torch.inference_mode():
            return len(search(model, batch.source, batch.source_lengths, settings, tokens))

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each figure (default: 10)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tune_allocator()
    set_threads(options.threads)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    todo = batches(4_096, generator)[::6]
    sentences = random_sentences(16, generator)
    together = make_batch(sentences, sentences, pad_id=0, start_id=1, eos_id=2)
    print(
        f"trasluz {trasluz.__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, fp32, seed {options.seed}\n"
    )
    print("| model | training, target tokens/s | greedy, sentences/s | beam 4, sentences/s |")
    print("|---|---|---|---|")
    for name, preset in MODELS.items():
        model = build_model(preset, source_vocab_size=VOCAB_SIZE, target_vocab_size=VOCAB_SIZE)
        rounds = (training_round(model, todo), decoding_round(model, together, 1), decoding_round(model, together, 4))
        cells = []
        for work in rounds:
            median, low, high = median_rate(work, options.seconds)
            cells.append(
                f"{median:,.0f} ({low:,.0f} to {high:,.0f})"
                if median > 100
                else f"{median:.1f} ({low:.1f} to {high:.1f})"
            )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
