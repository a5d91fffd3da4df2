"""What packing costs or saves in pre-training: short texts packed into rows beside batches of texts of like length.

    python benchmarks/packing_speed.py --updates 20 --threads 1

An encoder of 4 layers, 256 wide, vocabulary 8,000; random texts with log-normal lengths (mean 40, at most 128), 15 in
100 pieces to guess, AdamW, 4,096 places an update. Both take turns, update by update, so that a noisy machine slows
both; tokens are those that are not padding.
"""

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from trasluz.devices import tune_allocator
from trasluz.models.registry import build_model
from trasluz.objectives.masked_words import MaskedWordsObjective
from trasluz.text.encoder_tokenizer import train_encoder_tokenizer
from trasluz.text.masking import Masking
from trasluz.text.token_cache import TokenCache
from trasluz.training.masked_stream import MaskedStream, PackedStream

VOCAB_SIZE, LONGEST, MEAN, DEVIATION = 8000, 128, 40, 0.6
BATCH_TOKENS = 4096


def write_cache(folder: Path, texts: int) -> TokenCache:
    """Write random texts of the lengths said above, special tokens not counted."""
    drawn = np.random.default_rng(1)
    lengths = np.exp(drawn.normal(math.log(MEAN) - DEVIATION**2 / 2, DEVIATION, texts))
    rows = (
        (drawn.integers(5, VOCAB_SIZE, int(length), np.uint16), [0, number])
        for number, length in enumerate(np.clip(lengths, 4, LONGEST - 2))
    )
    return TokenCache.build(folder, rows, fingerprint="packing", names=("ids", "place"))


def main() -> None:
    """Print tokens a second and the share of padding of both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--texts", type=int, default=40_000)
    parser.add_argument("--threads", type=int, default=1)
    told = parser.parse_args()
    tune_allocator()
    torch.set_num_threads(told.threads)
    # The tokenizer gives special tokens only; ids are drawn.
    tokenizer = train_encoder_tokenizer(["a lamp", "a door"], vocab_size=300)
    tokenizer.vocab_size = VOCAB_SIZE
    masking = Masking(4, np.arange(5, VOCAB_SIZE, dtype=np.uint16), unit="tokens")
    with tempfile.TemporaryDirectory() as folder:
        cache = write_cache(Path(folder) / "tokens", told.texts)
        settings = {"tokenizer": tokenizer, "masking": masking, "pad_id": 0, "seed": 1}
        sizes = {"batch_tokens": BATCH_TOKENS, "micro_batch_tokens": None}
        streams = {
            "of like length": MaskedStream(cache, ["random"], **settings, **sizes),
            "packed": PackedStream(cache, ["random"], row_length=LONGEST, **settings, **sizes),
        }
        for precision in ("fp32", "bf16"):
            model = build_model({"preset": "bert-mini", "heads": ["fill-mask"]}, vocab_size=VOCAB_SIZE).train()
            optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
            updates = {name: stream.updates(0, 0) for name, stream in streams.items()}
            speeds: dict[str, list[float]] = {name: [] for name in streams}
            padding: dict[str, list[float]] = {name: [] for name in streams}
            for _ in range(told.updates + 1):
                for name, some in updates.items():
                    (batch,) = next(some)
                    assert batch is not None
                    began = time.perf_counter()
                    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                        loss = MaskedWordsObjective()(model, batch)
                    (loss.total / loss.count).backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    speeds[name].append(batch.num_target_tokens / (time.perf_counter() - began))
                    padding[name].append(batch.padding_share)
            for name in streams:
                # The first one warms up.
                print(
                    f"{precision}  {name:15s}{statistics.median(speeds[name][1:]):8,.0f} tokens/s, "
                    f"{100 * statistics.mean(padding[name]):.1f} % padding"
                )


if __name__ == "__main__":
    main()
