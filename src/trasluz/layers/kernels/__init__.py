"""Compiled kernels for x86 processors with AVX2: there where a compiler was at hand at installation, else not.

Each file here is one kernel's door, beside its C++; `hatch_build.py` compiles them into one library. Whoever calls a
kernel has the same in PyTorch's words, for when there is none.

Kernels believe what they are told: doors give every tensor's type and device outright, not torch's defaults, and leave
shapes that do not fit to PyTorch, which refuses them.
"""

import ctypes
import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trasluz.devices import cpu_flags

LANES = 8
"""So many numbers at a time the kernels take: rows of whole eights."""

LIBRARY = Path(__file__).with_name("_kernels.so")
_VERSION = 11
_LEVELS = 1 << 32
_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
# The seed, the threshold and the scale of what is dropped out.
_DROPOUT = (ctypes.c_uint64, ctypes.c_uint32, ctypes.c_float)
# Whether numbers are bfloat16, and how many threads.
_KIND = (_INT, _INT)
_TEXTS = [
    *[*[_POINTER, _SIZE] * 3, _SIZE, *[_POINTER, _POINTER, _SIZE] * 2],
    *[*[_SIZE] * 3, ctypes.c_uint64, ctypes.c_double, _INT, _INT],
]
_FUNCTIONS = {
    "trasluz_int8_product": [_POINTER, *[_SIZE] * 3, *[_POINTER] * 4, _SIZE, _POINTER, _INT],
    "trasluz_int8_look_up": [_POINTER, _POINTER, *[_SIZE] * 3, _POINTER, _SIZE, ctypes.c_float, _POINTER, _INT],
    "trasluz_int8_pack": [_POINTER, *[_SIZE] * 3, _INT, *[_POINTER] * 3, _INT],
    "trasluz_int8_rows": [_POINTER, *[_SIZE] * 3, *[_POINTER] * 4, _SIZE, _POINTER, *_KIND],
    "trasluz_attention_step": [
        *[_POINTER, *[_SIZE] * 3],
        *[_POINTER, _POINTER, _INT, _SIZE, _POINTER, _SIZE, _POINTER, _SIZE, _POINTER],
        *[_POINTER, _INT],
    ],
    "trasluz_few_rows": [_POINTER, _SIZE, _SIZE, _POINTER, _POINTER, _SIZE, _POINTER, _INT],
    "trasluz_sum_norm": [
        *[_POINTER, _POINTER, *_DROPOUT, _SIZE, _SIZE, _POINTER, _POINTER, ctypes.c_float, _INT, _INT],
        *[_POINTER, _POINTER, _POINTER, _INT],
    ],
    "trasluz_sum_norm_backward": [
        *[_POINTER, _POINTER, _POINTER, *_DROPOUT, _SIZE, _SIZE, _POINTER, _INT],
        *[_POINTER, _POINTER, _INT, _POINTER, _POINTER, _INT],
    ],
    "trasluz_dropout": [_POINTER, _SIZE, *_DROPOUT, _POINTER, _INT, _POINTER, _INT],
    "trasluz_column_sums": [_POINTER, _SIZE, _SIZE, _INT, _POINTER, _INT],
    "trasluz_summed_products": [*[_POINTER, _SIZE] * 2, *[_SIZE] * 3, _INT, _POINTER, _INT],
    "trasluz_softmax_loss": [
        *[_POINTER, _SIZE, _SIZE, _POINTER, _POINTER, ctypes.c_float, _INT],
        *[_POINTER, _POINTER, _INT, _INT],
    ],
    "trasluz_text_attention": [*_TEXTS, _POINTER],
    "trasluz_text_attention_gradients": [*_TEXTS, _POINTER, *[_POINTER, _SIZE] * 3],
    "trasluz_gelu": [_POINTER, _SIZE, _SIZE, _POINTER, _INT, _POINTER, _INT],
    "trasluz_activation_backward": [
        *[_POINTER, _POINTER, _SIZE, _SIZE, _INT, _INT],
        *[_POINTER, _POINTER, _INT],
    ],
    "trasluz_blocks_step": [_POINTER, _SIZE, *[_POINTER] * 3, _SIZE, _POINTER, _INT],
    "trasluz_blocks_read": [_POINTER, _SIZE, _POINTER, _POINTER, _SIZE, _POINTER, _SIZE, _POINTER, _INT],
    "trasluz_remember": [_POINTER, _SIZE, _POINTER, _SIZE, _POINTER, _INT],
    "trasluz_look": [*[_POINTER] * 5, *[_SIZE] * 4, _POINTER, _POINTER, *_KIND],
    "trasluz_look_backward": [_POINTER, _SIZE, *[_POINTER] * 6, *[_SIZE] * 4, *[_POINTER] * 4, *_KIND],
    "trasluz_memory_gradients": [*[_POINTER] * 5, *[_SIZE] * 5, *[_POINTER] * 5, *_KIND],
    "trasluz_gru_gates": [_POINTER, _SIZE, *[_POINTER] * 3, _SIZE, _SIZE, *[_POINTER] * 2, *_KIND],
    "trasluz_gru_proposal": [_POINTER, _SIZE, *[_POINTER] * 3, _SIZE, _SIZE, *[_POINTER] * 3, *_KIND],
    "trasluz_gru_proposal_backward": [_POINTER, _SIZE, *[_POINTER] * 2, _SIZE, _SIZE, *[_POINTER] * 2, *_KIND],
    "trasluz_gru_gates_backward": [*[_POINTER] * 3, _SIZE, _SIZE, *[_POINTER] * 2, *_KIND],
    "trasluz_lstm": [_POINTER, _SIZE, *[_POINTER] * 3, _SIZE, _SIZE, *[_POINTER] * 3, *_KIND],
    "trasluz_lstm_backward": [_POINTER, _SIZE, *[_POINTER] * 3, _SIZE, _SIZE, *[_POINTER] * 2, *_KIND],
    "trasluz_torch_gru": [
        *[_POINTER, _SIZE, *[_POINTER] * 4, _SIZE, _SIZE, _SIZE],
        *[*[_POINTER] * 4, _SIZE, *_KIND],
    ],
    "trasluz_torch_gru_backward": [
        *[_POINTER, _SIZE, *[_POINTER] * 4, _SIZE, _SIZE, _SIZE],
        *[_POINTER, _POINTER, _SIZE, _POINTER, *_KIND],
    ],
    "trasluz_log_sum_exp": [_POINTER, _SIZE, _SIZE, _POINTER, _INT],
    "trasluz_best_of_rows": [_POINTER, *[_SIZE] * 3, _POINTER, _POINTER, _INT],
}

# Those that tell whether what they were given can be.
_ANSWERS = {"trasluz_int8_look_up"}


@cache
def load_kernels() -> ctypes.CDLL | None:
    """Return the library; None where it was not built, is of another version, or does not run on this processor."""
    try:
        for runtime in _thread_libraries():
            # The kernels' threads are torch's: two pools on the same cores would wait for each other.
            ctypes.CDLL(runtime, ctypes.RTLD_GLOBAL)
        library = ctypes.CDLL(str(LIBRARY))
        if library.trasluz_kernels_version() != _VERSION or not library.trasluz_int8_levels():
            return None
        for name, arguments in _FUNCTIONS.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, _INT if name in _ANSWERS else None
    except (OSError, AttributeError):
        return None
    return library


def kernels_are_missing() -> bool:
    """Tell whether they would run here, had they been compiled."""
    would_run = sys.platform == "linux" and {"avx2", "fma"} <= cpu_flags()
    return would_run and load_kernels() is None


def kernels_for(x: Tensor, dtypes: Collection[torch.dtype] = (torch.float32,)) -> ctypes.CDLL | None:
    """Return the library for work on this tensor: of a known type on a CPU, no gradients wanted, no graph being drawn.

    None under autocast, too: what is projected from a float32 tensor is of another type there.
    """
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return None
    return training_kernels_for(x, dtypes)


def training_kernels_for(
    x: Tensor, dtypes: Collection[torch.dtype] = (torch.float32, torch.bfloat16)
) -> ctypes.CDLL | None:
    """Return the library for work on this tensor by somebody who gives its gradients, too."""
    if draws_graph() or not x.is_cpu or x.dtype not in dtypes:
        return None
    return load_kernels()


def draws_graph() -> bool:
    """Tell whether a graph is being drawn, in which what a kernel computes would be missing."""
    return torch.compiler.is_exporting() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


def call_kernel(name: str, *arguments: Any, is_bfloat: bool) -> None:
    """Call one of the kernels that are told the type of numbers and the threads last; tensors go by their address."""
    kernels = load_kernels()
    assert kernels is not None
    given = (one.data_ptr() if isinstance(one, Tensor) else one for one in arguments)
    getattr(kernels, name)(*given, is_bfloat, torch.get_num_threads())


def drawn_seed() -> int:
    """Return a seed for what a kernel drops out, drawn from torch's generator."""
    return int(torch.empty((), dtype=torch.int64, device="cpu").random_())


def dropout_of(probability: float, seed: int) -> tuple[int, int, float]:
    """Return what a kernel must know of dropout: seed, below which of 2^32 numbers a place is dropped, scale."""
    return seed, min(round(probability * _LEVELS), _LEVELS - 1), 1.0 / (1.0 - probability)


def _thread_libraries() -> list[str]:
    """Return the OpenMP runtime that torch has brought into this process."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    # The sixth word is a path, in which there may be spaces.
    return sorted({path for line in maps if "libgomp" in (path := line.split(maxsplit=5)[-1])})
