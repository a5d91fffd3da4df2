"""What the tests of exported folders share: small models with tokenizers, and the program of a README, run."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from tests.checkpoints.sentences import pairs

from trasluz.checkpoints.model_folder import LoadedModel
from trasluz.models.registry import build_model
from trasluz.text.batching import make_batch
from trasluz.text.tokenizer import Tokenizer, train_tokenizer

TO_SPANISH = [
    "The window was open all night.",
    "My brother has a small boat.",
    "We do not know where the key is.",
    "Two old men sat under the tree.",
    "Please close the door when you leave.",
    "She wrote him a letter every week.",
    "I would like a glass of water.",
    "The market opens at eight o'clock.",
    "Nobody heard the bell.",
    "It rains a lot in the north.",
    "Why are you crying?",
    "The bread is still warm.",
]
TO_ENGLISH = [
    "La ventana estuvo abierta toda la noche.",
    "Mi hermano tiene un barco pequeño.",
    "No sabemos dónde está la llave.",
    "Dos viejos se sentaron bajo el árbol.",
    "Cierra la puerta al salir, por favor.",
    "Le escribía una carta cada semana.",
    "Quisiera un vaso de agua.",
    "El mercado abre a las ocho.",
    "Nadie oyó la campana.",
    "Llueve mucho en el norte.",
    "¿Por qué lloras?",
    "El pan todavía está caliente.",
]


def word_tokenizer(side: int, vocab_size: int) -> Tokenizer:
    """Return a small tokenizer of the words of one language."""
    texts = [pair[side] for pair in pairs(200, seed=7)]
    return train_tokenizer(texts, "word", vocab_size, special_tokens=["<2en>", "<2es>"])


def random_model(
    preset: dict[str, Any], *, separate: bool = False, spare_rows: int = 0, read_gain: float = 2.0, **told: Any
) -> LoadedModel:
    """Return a random model that chooses clearly, and where it has an output bias ends most texts by itself.

    `spare_rows` are rows of its vocabulary for which the tokenizers have no token. With a higher `read_gain` what was
    read matters more, against what was written, and all rounding with it.
    """
    source = word_tokenizer(0, 37)
    target = word_tokenizer(1, 43) if separate else source
    model: Any = build_model(
        preset,
        source_vocab_size=source.vocab_size + spare_rows,
        target_vocab_size=target.vocab_size + spare_rows,
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(read_gain if "cross_attention" in name else 2.0)
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))
        if model.output_head.bias is not None:
            # The end is the likeliest token at one position in ten.
            sources, targets = (torch.randint(4, source.vocab_size, (40, length)).tolist() for length in (7, 12))
            logits = model.output_head(model(make_batch(sources, targets, pad_id=0, start_id=1, eos_id=2)))
            ends, others = logits[..., 2].clone(), logits.index_fill(-1, torch.tensor(2), -torch.inf)
            model.output_head.bias[2] += (others.amax(-1) - ends).quantile(0.1)
    return LoadedModel(model, model.config, source, target, name="small", **told)


def random_sources(loaded: LoadedModel, count: int) -> list[list[int]]:
    """Return sources without their end, of one to eleven tokens."""
    lengths = torch.randint(1, 12, (count,)).tolist()
    return [torch.randint(4, loaded.source_tokenizer.vocab_size, (length,)).tolist() for length in lengths]


def program_of(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: str) -> dict[str, Any]:
    """Run the program of a folder's README inside the folder and return what it defined."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.S)
    for before, after in changes.items():
        code, number = re.subn(rf"\b{before}=[^,]+,", f"{before}={after},", code)
        assert number == 1
    monkeypatch.chdir(folder)
    defined: dict[str, Any] = {}
    exec(compile(code, str(folder / "README.md"), "exec"), defined)
    return defined


@contextmanager
def shapes_unchecked() -> Iterator[None]:
    """Leave out the check of shapes: while a graph is drawn they are symbols, which the checker takes for mistakes."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
