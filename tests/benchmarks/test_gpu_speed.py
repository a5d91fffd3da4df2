"""What measures a GPU refuses in one line where there is none, and its peak and table are right on a CPU."""

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import gpu_speed
import pytest
import torch

SCRIPT = Path(gpu_speed.__file__)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_it_refuses_in_one_line() -> None:
    ended = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.count("\n") == 1 and "there is no CUDA device here" in ended.stderr


def test_a_cpu_is_only_for_seeing_that_it_runs() -> None:
    assert "--device cpu --tiny" in (gpu_speed.refusal(Namespace(device="cpu", quick=False)) or "")
    assert gpu_speed.refusal(Namespace(device="cpu", quick=True)) is None


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_the_peak_is_measured(device: str) -> None:
    reply = gpu_speed._prepare({"device": device, "tiny": True, "precision": "fp32"})({})
    assert reply["gflop_a_second"] > 0 and reply["device"]


def test_the_table_has_shares_of_the_peak_and_ratios_of_the_rounds() -> None:
    def turns(*rates: float) -> list[dict[str, Any]]:
        return [{"amount": rate, "seconds": 1.0, "gpu_mb": 50 * rate} for rate in rates]

    found = {"trasluz, bf16": turns(20, 40), "transformers, bf16": turns(10, 10)}
    peaks = [{"gflop_a_second": 100.0, "device": "a GPU"}] * 2
    report = {
        "replies": {"Transformer-base": {**found, gpu_speed.PEAK: peaks}},
        "costs": {"Transformer-base": 2.0},
        "planned": {"Transformer-base": {"mb": 1_900.0, "gflop": 2.5}},
        "decoding": {"greedy, 1": found},
    }
    table = gpu_speed.table(report)
    assert "On a GPU; peak of products 0.10" in table
    assert "| Transformer-base | trasluz, bf16 | 30.0 (20.0 to 40.0) | 60% | 2,000 |" in table
    assert "| | as planned | 16 | 40% | 1,900 |" in table
    assert table.count("3.00 (2.00 to 4.00)") == 2
